"""Packing and scales: round trips, and the search against plain rounding."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.quant.grid import (
    RATIOS,
    best_scales,
    dequantise,
    dequantise_base,
    pack_nibbles,
    quantise_base,
    quantise_q4,
    quantise_q8,
    round_to_half,
    to_groups,
    unpack_nibbles,
)

VECTORS = Path(__file__).parents[2] / "convert" / "quantize-vectors.json"


def test_nibbles_are_packed_low_first_and_come_back():
    q = torch.randint(0, 16, (5, 64))
    packed = pack_nibbles(q)
    assert packed.dtype == torch.uint8 and packed.shape == (5, 32)
    assert int(packed[2, 7]) == int(q[2, 14]) + 16 * int(q[2, 15])
    assert torch.equal(unpack_nibbles(packed), q.to(torch.uint8))


@pytest.mark.parametrize("quantise", [quantise_q4, quantise_q8])
def test_weights_on_the_grid_survive(quantise):
    torch.manual_seed(0)
    if quantise is quantise_q4:
        integers = torch.randint(-8, 8, (6, 3, 32))
        integers[..., 0] = -8
    else:
        integers = torch.randint(-127, 128, (6, 3, 32))
        integers[..., 0] = 127
    scale = (torch.rand(6, 3, 1) * 0.01 + 0.001).half().float()
    weight = (integers * scale).flatten(1)
    q, found = quantise(weight)
    assert found.dtype == torch.float16
    assert torch.allclose(dequantise(q, found), weight, atol=1e-6)


def test_value_is_q_minus_8_times_scale():
    q, scale = quantise_q4(torch.randn(2, 64))
    unpacked = unpack_nibbles(q)
    expected = (float(unpacked[1, 40]) - 8) * float(scale[1, 1])
    assert float(dequantise(q, scale)[1, 40]) == pytest.approx(expected)


def test_value_is_q_minus_128_times_scale():
    weight = torch.randn(2, 64)
    q, scale = quantise_q8(weight)
    expected = (float(q[1, 40]) - 128) * float(scale[1, 1])
    value = float(dequantise(q, scale)[1, 40])
    assert value == pytest.approx(expected)
    assert value == pytest.approx(float(weight[1, 40]), abs=float(scale[1, 1]))


def test_the_search_beats_plain_rounding():
    torch.manual_seed(0)
    weight = torch.randn(64, 256)
    groups = weight.reshape(64, 8, 32)
    plain = groups.abs().amax(-1, keepdim=True) / 7
    rounded = (groups / plain).round().clamp(-8, 7) * plain
    best = dequantise(*quantise_q4(weight))
    assert (best - weight).square().mean() < 0.93 * (rounded - groups).square().mean()


def test_zero_groups_stay_zero_and_odd_widths_are_refused():
    weight = torch.zeros(2, 64)
    weight[0, :32] = torch.randn(32)
    for quantise in (quantise_q4, quantise_q8):
        made = dequantise(*quantise(weight))
        assert torch.isfinite(made).all()
        assert (made[1] == 0).all() and (made[0, 32:] == 0).all()
        with pytest.raises(ValueError, match="multiple"):
            quantise(torch.randn(2, 40))


def test_base_norms_stay_and_the_head_is_normalised_first():
    torch.manual_seed(0)
    tensors = {
        "model.embed_tokens.weight": torch.randn(8, 32),
        "model.layers.0.mlp.up_proj.weight": torch.randn(64, 32),
        "model.norm.weight": torch.randn(32),
        "lm_head.weight": torch.randn(8, 32) * 5,
    }
    packed = quantise_base(tensors)
    assert packed["model.embed_tokens.weight.q"].shape == (8, 32)
    assert packed["model.layers.0.mlp.up_proj.weight.q"].shape == (64, 16)
    assert packed["model.layers.0.mlp.up_proj.weight.scale"].shape == (64, 1)
    assert not any(name.startswith("model.norm") for name in packed)
    made = dequantise_base(tensors, packed)
    assert torch.equal(made["model.norm.weight"], tensors["model.norm.weight"])
    rows = F.normalize(tensors["lm_head.weight"], dim=-1)
    assert (made["lm_head.weight"] - rows).abs().max() < 0.006


@pytest.mark.parametrize("quantise", [quantise_q4, quantise_q8])
def test_convert_has_the_same_rule(quantise):
    shared = json.loads(VECTORS.read_text(encoding="utf-8"))
    weight = torch.tensor(shared["values"]).reshape(shared["rows"], shared["columns"])
    expected = shared[quantise.__name__.removeprefix("quantise_")]
    for part, made in zip(("q", "scale"), quantise(weight), strict=True):
        assert made.contiguous().view(torch.uint8).numpy().tobytes().hex() == expected[part]


def test_ratios_reach_from_0_66_to_1_04():
    assert len(RATIOS) == 20
    assert max(RATIOS) == 1.04 and min(RATIOS) == 0.66


def test_halves_are_rounded_once_to_even():
    torch.manual_seed(0)
    values = torch.randn(20000, dtype=torch.float64) * torch.exp(4 * torch.randn(20000).double())
    # half-way between two f16 numbers, and just beyond: rounding through f32 would lose the rest
    values = torch.cat((values, torch.tensor([1 + 2**-11, 1 + 2**-11 + 2**-40, 2**-25, 0.0])))
    values = values[values.abs() < 65000]
    expected = values.numpy().astype(np.float16).astype(np.float64)
    assert torch.equal(round_to_half(values), torch.from_numpy(expected))


def test_columns_that_count_more_are_served_better():
    torch.manual_seed(0)
    weight = torch.randn(32, 64)
    counts = torch.ones(64)
    counts[::4] = 100.0
    plain, weighted = (dequantise(*quantise_q4(weight, w)) for w in (None, counts))
    errors = [((made - weight).square() * counts).sum() for made in (plain, weighted)]
    assert errors[1] < 0.9 * errors[0]
    scales = best_scales(to_groups(weight), counts.double().reshape(-1, 32))
    assert torch.equal(scales.half(), quantise_q4(weight, counts)[1])
