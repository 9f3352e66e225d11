"""GPTQ, its refinement, and the walk over a model's layers."""

import copy

import pytest
import torch
from torch import Tensor

from training.batches import Batch
from training.experts import AdapterConfig, attach, set_mode
from training.model import Config, Model
from training.quant.calibrate import Calibration, call_order, linears, shifted, start_stream
from training.quant.gptq import damped, gptq, group_order, output_error, refine, rounded
from training.quant.grid import GROUP, dequantise, pack_q4, quantise_q4

CONFIG = Config(vocab=96, width=64, layers=2, heads=2, mlp_width=96, capacity=64)


def correlated(columns: int = 128, rows: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A weight, and H of inputs that lean on each other and differ in size."""
    torch.manual_seed(seed)
    mixed = torch.randn(columns, columns) * 0.3 + torch.eye(columns)
    x = torch.randn(2000, columns) @ mixed * torch.rand(columns)
    return torch.randn(rows, columns) * 0.02, (x.T @ x).double() / len(x)


def test_each_step_lowers_the_output_error():
    weight, h = correlated()
    nearest = output_error(weight, h, rounded(weight))
    assert output_error(weight, h, rounded(weight, h.diagonal())) < nearest
    plain, ordered = gptq(weight, h), gptq(weight, h, by_energy=True)
    for made in (plain, ordered):
        assert output_error(weight, h, made) < 0.7 * nearest
        better = refine(weight, h, made)
        assert output_error(weight, h, better) < 0.95 * output_error(weight, h, made)


def test_integers_fit_four_bits_scales_fit_f16_and_runs_repeat():
    weight, h = correlated()
    made = refine(weight, h, gptq(weight, h, by_energy=True))
    assert made.integers.min() >= -8 and made.integers.max() <= 7
    assert torch.equal(made.integers, made.integers.round())
    assert torch.equal(made.scale.half().double(), made.scale)
    assert torch.equal(dequantise(*pack_q4(made.integers, made.scale)).double(), made.weight)
    again = refine(weight, h, gptq(weight, h, by_energy=True))
    assert torch.equal(made.integers, again.integers) and torch.equal(made.scale, again.scale)


def test_with_inputs_that_do_not_correlate_gptq_is_rounding():
    weight, _ = correlated()
    h = torch.eye(128, dtype=torch.float64)
    made = gptq(weight, h, damping=0.0)
    q, scale = quantise_q4(weight)
    packed = pack_q4(made.integers, made.scale)
    assert torch.equal(packed[0], q) and torch.equal(packed[1], scale)


def test_groups_whose_inputs_do_not_correlate_are_independent():
    weight, h = correlated()
    blocks = torch.block_diag(h[:64, :64], h[64:, 64:])
    changed = weight.clone()
    changed[:, 64:] += 0.01 * torch.randn(len(weight), 64)
    for quantise in (gptq, lambda w, m: refine(w, m, rounded(w))):
        first, second = quantise(weight, blocks), quantise(changed, blocks)
        assert torch.equal(first.integers[:, :64], second.integers[:, :64])
        assert torch.equal(first.scale[:, : 64 // GROUP], second.scale[:, : 64 // GROUP])
        assert not torch.equal(first.integers[:, 64:], second.integers[:, 64:])


def test_rows_are_independent_and_the_order_moves_whole_groups():
    weight, h = correlated()
    one = gptq(weight[:1], h)
    assert torch.equal(one.integers, gptq(weight, h).integers[:1])
    h = torch.diag(torch.cat([torch.full((32,), size) for size in (1.0, 3.0, 2.0, 4.0)]))
    assert group_order(h, True) == [3, 1, 2, 0]
    assert group_order(h, False) == [0, 1, 2, 3]


def test_inputs_that_are_always_zero_and_few_tokens_do_no_harm():
    weight, h = correlated()
    h[5], h[:, 5] = 0, 0
    made = refine(weight, h, gptq(weight, h))
    assert torch.isfinite(made.weight).all()
    few = torch.randn(3, 128, dtype=torch.float64)
    singular = few.T @ few
    assert output_error(weight, singular, gptq(weight, singular, damping=0.0)) < output_error(
        weight, singular, rounded(weight)
    )


def test_bad_sums_are_refused():
    for h, words in (
        (torch.zeros(64, 64), "no calibration tokens"),
        (torch.full((64, 64), torch.nan), "no numbers"),
        (torch.ones(64, 32), "not square"),
    ):
        with pytest.raises(ValueError, match=words):
            damped(h, 0.01)


def test_shifted_weights_are_nearer_to_the_float_outputs():
    torch.manual_seed(1)
    weight = torch.randn(16, 64)
    x = torch.randn(4000, 64)
    seen = x + 0.3 * torch.randn(4000, 64)
    h, cross = (seen.T @ seen).double() / 4000, (x.T @ seen).double() / 4000
    goal = x.double() @ weight.double().T
    moved = shifted(weight, cross, h, 1e-4)
    plain_error = (seen.double() @ weight.double().T - goal).square().mean()
    assert (seen.double() @ moved.T - goal).square().mean() < 0.95 * plain_error
    assert torch.allclose(shifted(weight, h, h, 0.1), weight.double())


def rows(count: int = 2, length: int = 24) -> list[Batch]:
    torch.manual_seed(3)
    made = []
    for task in range(3):
        tokens = torch.randint(3, CONFIG.vocab, (count, length + 1))
        segments = torch.ones(count, length, dtype=torch.int32)
        segments[:, length - 4 :] = 0
        counted = segments.bool()
        tasks = torch.full((count,), task)
        made.append(Batch(tokens[:, :-1], tokens[:, 1:], counted, segments, tasks))
    return made


def adapted_model(mode: str = "task") -> Model:
    torch.manual_seed(2)
    model = Model(CONFIG)
    config = AdapterConfig(rank=2, alpha=4.0)
    attach(model, config)
    for name, parameter in model.named_parameters():
        if "lora_moe_B" in name or "gate_logits" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    set_mode(model, mode)
    return model.eval()


@torch.no_grad()
def test_a_model_is_quantised_in_the_order_of_its_forward_pass_under_its_adapter():
    model = adapted_model()
    names = [name for name, _ in linears(model.model.layers[0])]
    assert sorted(names) == sorted(
        ["self_attn.W_pack", "self_attn.o_proj"]
        + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    )
    assert call_order(model.model.layers[0], start_stream(model, rows()[0])) == [
        ["self_attn.W_pack"],
        ["self_attn.o_proj"],
        ["mlp.gate_proj", "mlp.up_proj"],
        ["mlp.down_proj"],
    ]
    plain = copy.deepcopy(model)
    seen: dict[int, list[Tensor]] = {}

    def note(weight: Tensor, h: Tensor):
        seen.setdefault(weight.shape[1], []).append(h)
        return rounded(weight)

    packed = Calibration(note).run(model, rows())
    base = dict(model.named_parameters())
    matrices = [name for name in base if f"{name}.q" in packed]
    assert len(matrices) == 2 + 5 * CONFIG.layers and len(packed) == 2 * len(matrices)
    for name in matrices:
        assert torch.equal(base[name], dequantise(packed[f"{name}.q"], packed[f"{name}.scale"]))
    # the last linear's inputs, measured anew on the finished model, are what H was made of
    inputs: list[Tensor] = []
    down = model.model.layers[-1].mlp.down_proj
    handle = down.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    for batch in rows():
        model.hidden(batch.tokens, batch.segments, batch.tasks)
    handle.remove()
    x = torch.cat([i[b.answers] for i, b in zip(inputs, rows(), strict=True)])
    assert torch.allclose(seen[CONFIG.mlp_width][-1], (x.T @ x).double() / len(x), rtol=1e-4)
    set_mode(plain, "none")
    other: list[Tensor] = []
    Calibration(lambda w, h: (other.append(h), rounded(w))[1]).run(plain, rows())
    assert not torch.allclose(other[-1], seen[CONFIG.mlp_width][-1], rtol=1e-3)


@torch.no_grad()
def test_calibration_beats_rounding_on_the_models_own_outputs():
    reference = adapted_model()
    errors = []
    for quantise, correct in (
        (lambda w, h: rounded(w), 0.0),
        (gptq, 0.0),
        (lambda w, h: refine(w, h, gptq(w, h)), 0.1),
    ):
        model = copy.deepcopy(reference)
        Calibration(quantise, correct).run(model, rows(8))
        errors.append(
            sum(
                float((model.hidden(*of) - reference.hidden(*of)).square().sum())
                for of in ((b.tokens, b.segments, b.tasks) for b in rows(8))
            )
        )
    assert errors[2] < errors[1] < errors[0]


def test_no_rows_and_a_model_without_layers_are_refused():
    with pytest.raises(ValueError, match="no calibration rows"):
        Calibration(lambda w, h: rounded(w)).run(adapted_model(), [])
    with pytest.raises(ValueError, match="no `model.layers`"):
        start_stream(torch.nn.Linear(2, 2), rows()[0])
