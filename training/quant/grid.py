"""Weights in 4 and 8 bits, groups of 32 along K, one f16 scale per group.

    q4  value = (q - 8) * scale, q in 0 .. 15; two per byte, low nibble first along K
    q8  value = (q - 128) * scale, q in 0 .. 255

Four bits are symmetric round-to-nearest with a search: every group tries scales that put its
extreme value on -8 (signed, so the whole range is used) or its magnitude on 7, each in twenty
ratios, and keeps the one with the least squared error. `convert` has the same rule for checkpoints
that come without integers; both work in f64 and give the same bytes (convert/quantize-vectors.json).

N rows, K columns, G = K / 32 groups in a row.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.base import Base
from training.model import Model

GROUP = 32
# Shrinking a scale clips the largest value and serves the other 31; growing rarely helps.
RATIOS = tuple((52 - i) / 50 for i in range(20))  # 1.04, 1.02, 1 .. 0.66
EIGHT_BIT = ("model.embed_tokens.weight", "lm_head.weight")
BLOCK = 1 << 20  # values searched at a time: small enough for a cache


def to_groups(weight: Tensor) -> Tensor:
    """(N, K) -> (N, G, 32) f64. ValueError where K is no multiple of 32."""
    rows, columns = weight.shape
    if columns % GROUP:
        raise ValueError(f"K = {columns} is no multiple of {GROUP}")
    return weight.double().reshape(rows, columns // GROUP, GROUP)


def round_to_half(value: Tensor) -> Tensor:
    """The f16 number nearest to each f64 value (ties to even), as f64.

    Not `.half().double()`: that rounds through f32, and twice.
    """
    exponent = torch.frexp(value).exponent.clamp_min(-13)
    step = torch.ldexp(torch.ones_like(value), exponent - 11)
    return (value / step).round() * step


def levels(groups: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """round(value / scale) clamped to low .. high, 0 where the scale is 0. scale: (N, G)."""
    inverse = torch.where(scale == 0, 0.0, 1 / scale)[..., None]
    return (groups * inverse).round_().clamp_(low, high)


def best_scales(groups: Tensor, weights: Tensor | None = None) -> Tensor:
    """(N, G, 32) f64 -> the f16 scales (N, G), as f64, with the least squared error.

    weights: (G, 32) or (N, G, 32), what the squared error of each value counts; None: all the same.
    """
    size = groups.abs()
    largest = size.amax(-1, keepdim=True)
    places = torch.arange(GROUP, device=groups.device)
    first = torch.where(size == largest, places, GROUP).amin(-1, keepdim=True)
    extreme = groups.gather(-1, first)[..., 0]
    best_scale = torch.zeros_like(extreme)
    best_error = torch.full_like(extreme, torch.inf)
    for start in (extreme / -8, extreme.abs() / 7):
        for ratio in RATIOS:
            scale = round_to_half(start * ratio)
            error = (levels(groups, scale, -8, 7) * scale[..., None]).sub_(groups).square_()
            if weights is not None:
                error *= weights
            total = error.sum(-1)
            better = (total < best_error) & (scale != 0)
            best_scale = torch.where(better, scale, best_scale)
            best_error = torch.where(better, total, best_error)
    return best_scale


def pack_nibbles(q: Tensor) -> Tensor:
    """(N, K) of 0 .. 15 -> (N, K/2), low nibble first."""
    q = q.to(torch.uint8)
    return q[:, 0::2] | (q[:, 1::2] << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """(N, K/2) -> (N, K)"""
    return torch.stack((packed & 15, packed >> 4), -1).flatten(1)


def pack_q4(integers: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Integers (N, K) of -8 .. 7 and scales (N, G) that are f16 numbers -> as they are stored.

    A scale beyond f16 is a ValueError: the package could not hold it.
    """
    stored = scale.half()
    if not torch.isfinite(stored).all() or (stored.double() != scale.double()).any():
        raise ValueError("a scale is no f16 number")
    return pack_nibbles(integers + 8).contiguous(), stored.contiguous()


def quantise_q4(weight: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(N, K) -> q (N, K/2) u8 and scale (N, G) f16. weights: (K,) of the columns' squared errors."""
    parts = []
    count = max(1, BLOCK // weight.shape[1])
    shaped = None if weights is None else weights.double().reshape(-1, GROUP)
    for rows in weight.split(count):
        groups = to_groups(rows)
        scale = best_scales(groups, shaped)
        parts.append((levels(groups, scale, -8, 7).flatten(1), scale))
    integers, scales = (torch.cat(each) for each in zip(*parts, strict=True))
    return pack_q4(integers, scales)


def quantise_q8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) -> q (N, K) u8 and scale (N, G) f16; the value of largest size becomes +-127."""
    parts = []
    for rows in weight.split(max(1, BLOCK // weight.shape[1])):
        groups = to_groups(rows)
        scale = round_to_half(groups.abs().amax(-1) / 127)
        q = levels(groups, scale, -128, 127) + 128
        parts.append((q.flatten(1).to(torch.uint8), scale.half()))
    q, scale = (torch.cat(each) for each in zip(*parts, strict=True))
    return q, scale


def dequantise(q: Tensor, scale: Tensor) -> Tensor:
    """The f32 weight of packed integers; 4 or 8 bits follow from the shapes."""
    rows, columns = scale.shape[0], scale.shape[1] * GROUP
    if q.shape == (rows, columns // 2):
        q, middle = unpack_nibbles(q), 8
    elif q.shape == (rows, columns):
        middle = 128
    else:
        raise ValueError(f"q {tuple(q.shape)} does not fit scale {tuple(scale.shape)}")
    groups = (q.float() - middle).reshape(rows, -1, GROUP)
    return (groups * scale.float()[..., None]).reshape(rows, columns)


def quantise_tensor(name: str, weight: Tensor, normalised: bool = True) -> tuple[Tensor, Tensor]:
    """One base matrix as it is stored. normalised: the head's rows are, first (NormHead)."""
    if normalised and name == "lm_head.weight":
        weight = F.normalize(weight.double(), dim=-1).float()
    return (quantise_q8 if name in EIGHT_BIT else quantise_q4)(weight)


def quantise_base(tensors: dict[str, Tensor], normalised: bool = True) -> dict[str, Tensor]:
    """Base tensors -> NAME.q and NAME.scale of every matrix, each rounded by itself."""
    packed = {}
    for name, weight in tensors.items():
        if weight.dim() == 2:
            made = quantise_tensor(name, weight, normalised)
            packed[f"{name}.q"], packed[f"{name}.scale"] = made
    return {name: tensor.contiguous() for name, tensor in packed.items()}


def dequantise_base(tensors: dict[str, Tensor], packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the device computes with: dequantised matrices, norms as they are."""
    return {
        name: dequantise(packed[f"{name}.q"], packed[f"{name}.scale"])
        if w.dim() == 2
        else w.float()
        for name, w in tensors.items()
    }


@torch.no_grad()
def take_integers(model: Base, packed: dict[str, Tensor]) -> None:
    """Puts the dequantised weights of NAME.q and NAME.scale into the model, one matrix at a time.

    Names the model does not have by themselves (a head that is its embedding) are passed over.
    """
    own = dict(model.named_parameters())
    for name in sorted({key.rsplit(".", 1)[0] for key in packed} & own.keys()):
        own[name].copy_(dequantise(packed[f"{name}.q"], packed[f"{name}.scale"]))
    if isinstance(model, Model):
        model.lm_head.normalised = True


def write_quantised(checkpoint: Path) -> None:
    """Adds quantized.safetensors to an exported checkpoint, without data."""
    tensors = load_file(checkpoint / "model.safetensors")
    save_file(quantise_base(tensors), checkpoint / "quantized.safetensors")
