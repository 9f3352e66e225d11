"""Weights in 4 and 8 bits, groups of 32 along K, one f16 scale per group.

    q4  value = (q - 8) * scale, q in 0 .. 15; two per byte, low nibble first along K
    q8  value = (q - 128) * scale, q in 0 .. 255

Four bits are symmetric round-to-nearest with a search: every group tries scales that put its
extreme value on -8 (signed, so the whole range is used) or its magnitude on 7, each shrunk a little
or not, and keeps the one with the least squared error.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.model import Config, Model

GROUP = 32
RATIOS = torch.linspace(0.76, 1.04, 15)
EIGHT_BIT = ("model.embed_tokens.weight", "lm_head.weight")


def _groups(weight: Tensor) -> Tensor:
    rows, columns = weight.shape
    if columns % GROUP:
        raise ValueError(f"K = {columns} is no multiple of {GROUP}")
    return weight.float().reshape(rows, columns // GROUP, GROUP)


def _nearest(groups: Tensor, scale: Tensor, middle: int) -> Tensor:
    """Integers 0 .. 2 * middle - 1 for scales (rows, K/32) that are already f16 numbers."""
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)[..., None]
    q = torch.where(scale[..., None] == 0, torch.zeros_like(groups), groups / safe)
    return (q.round() + middle).clamp(0, 2 * middle - 1)


def pack_nibbles(q: Tensor) -> Tensor:
    """(N, K) of 0 .. 15 -> (N, K/2), low nibble first."""
    q = q.to(torch.uint8)
    return q[:, 0::2] | (q[:, 1::2] << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """(N, K/2) -> (N, K)"""
    return torch.stack((packed & 15, packed >> 4), -1).flatten(1)


def quantise_q4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) -> q (N, K/2) u8 and scale (N, K/32) f16."""
    groups = _groups(weight)
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))[..., 0]
    best_scale = torch.zeros_like(extreme)
    best_error = torch.full_like(extreme, torch.inf)
    for start in (-extreme / 8, extreme.abs() / 7):
        for ratio in RATIOS.tolist():
            scale = (start * ratio).half().float()
            values = (_nearest(groups, scale, 8) - 8) * scale[..., None]
            error = (values - groups).square().sum(-1)
            better = error < best_error
            best_scale = torch.where(better, scale, best_scale)
            best_error = torch.where(better, error, best_error)
    q = _nearest(groups, best_scale, 8).flatten(1)
    return pack_nibbles(q), best_scale.half()


def quantise_q8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) -> q (N, K) u8 and scale (N, K/32) f16."""
    groups = _groups(weight)
    scale = (groups.abs().amax(-1) / 127).half()
    return _nearest(groups, scale.float(), 128).flatten(1).to(torch.uint8), scale


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


def quantise_base(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Base tensors -> NAME.q and NAME.scale of every matrix. The head's rows are normalised first."""
    packed = {}
    for name, weight in tensors.items():
        if weight.dim() != 2:
            continue
        if name == "lm_head.weight":
            weight = F.normalize(weight.float(), dim=-1)
        quantise = quantise_q8 if name in EIGHT_BIT else quantise_q4
        packed[f"{name}.q"], packed[f"{name}.scale"] = quantise(weight)
    return {name: tensor.contiguous() for name, tensor in packed.items()}


def dequantise_base(tensors: dict[str, Tensor], packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the device computes with: dequantised matrices, norms as they are."""
    return {
        name: dequantise(packed[f"{name}.q"], packed[f"{name}.scale"])
        if w.dim() == 2
        else w.float()
        for name, w in tensors.items()
    }


def write_quantised(checkpoint: Path) -> None:
    """Adds quantized.safetensors to an exported checkpoint."""
    tensors = load_file(checkpoint / "model.safetensors")
    save_file(quantise_base(tensors), checkpoint / "quantized.safetensors")


def load_quantised(checkpoint: Path, config: Config) -> Model:
    """The model on its dequantised weights, f32."""
    tensors = load_file(checkpoint / "model.safetensors")
    packed = load_file(checkpoint / "quantized.safetensors")
    model = Model(config)
    model.load_state_dict(dequantise_base(tensors, packed))
    model.lm_head.normalised = True
    return model.eval()
