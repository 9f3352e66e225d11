"""The quantisation-aware finish, and the choice of a way to quantise."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file

from training import export
from training.quant import methods
from training.quant.fidelity import choose, held_out, mean, measure, needed
from training.quant.grid import dequantise, unpack_nibbles
from training.quant.qat import (
    FakeQuantised,
    Finish,
    base_linears,
    distil,
    finish,
    freeze,
    start_from,
)
from training.stages import adapter
from training.stages.common import save_model
from training.tests.testing import make_run, preset


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An exported run; its base is coarse enough that 4 bits cost something."""
    made = make_run(tmp_path_factory.mktemp("run"), preset(valid_rows=2))
    model = made.new_model()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.normal_(std=1.0 if "lm_head" in name else 0.3)
    for stage in ("cpt", "sft", "dfpo"):
        save_model(model, made.folder(stage) / "model.safetensors")
        (made.folder(stage) / "metrics.jsonl").write_text("")
    adapter.adapter(made)
    export.export(made)
    return made


@pytest.fixture(scope="module")
def models(run):
    """(float model, the same with an f16 adapter, integers by rounding, the model on them)"""
    reference = export.float_model(run, "adapter")
    start = copy.deepcopy(reference)
    export.round_adapter(start)
    rows = methods.calibration_rows(run, 64)
    model, packed = methods.quantise_with(methods.METHODS["rtn"], start, rows)
    return reference, start, packed, model


def test_values_are_those_of_the_integers_and_gradients_pass_through():
    torch.manual_seed(0)
    weight = (torch.randn(4, 64) * 0.1).requires_grad_()
    fake = FakeQuantised(torch.full((4, 2), 0.03))
    made = fake(weight)
    scale = torch.tensor(0.03).half().float()
    assert torch.allclose(made, (weight / scale).round().clamp(-8, 7) * scale)
    made.sum().backward()
    inside = (weight / scale > -8) & (weight / scale < 7)
    assert weight.grad is not None and fake.scale.grad is not None
    assert torch.equal(weight.grad != 0, inside) and torch.allclose(
        weight.grad[inside], torch.ones(())
    )
    # a value beyond the range pulls its scale with its whole integer
    expected = torch.where(inside, (weight / scale).round() - weight / scale, made / scale)
    assert torch.allclose(fake.scale.grad, expected.reshape(4, 2, 32).sum(-1), atol=1e-4)


def test_zero_scales_stay_zero():
    fake = FakeQuantised(torch.tensor([[0.0, 0.1]]))
    made = fake(torch.ones(1, 64))
    assert (made[0, :32] == 0).all() and (made[0, 32:] > 0).all()


def test_the_finish_starts_on_the_integers_given_and_freezing_gives_them_back(models):
    reference, _, packed, model = models
    student = copy.deepcopy(model)
    made = start_from(student, reference, packed)
    assert len(made) == 5 * len(student.model.layers)
    for (name, module), (_, before) in zip(made, base_linears(model), strict=True):
        expected = before.state_dict()["weight"]
        assert torch.allclose(module.weight, expected, atol=1e-6), name
    again = freeze(made, packed)
    assert again.keys() == packed.keys()
    assert all(torch.equal(again[key], packed[key]) for key in packed)


def test_distilling_lowers_the_divergence_and_what_is_frozen_is_what_was_trained(run, models):
    reference, _, packed, model = models
    student = copy.deepcopy(model)
    made, log = distil(run, reference, student, packed, Finish(steps=30, rows=6, log_every=5))
    assert log[-1]["step"] == 30
    assert log[-1]["kl"] < 0.8 * log[0]["kl"]
    for name, module in base_linears(student):
        q, scale = made[f"{name}.weight.q"], made[f"{name}.weight.scale"]
        assert scale.dtype == torch.float16 and unpack_nibbles(q).max() <= 15
        assert torch.equal(module.state_dict()["weight"], dequantise(q, scale))
    changed = [key for key in packed if not torch.equal(made[key], packed[key])]
    assert changed and not any("embed" in key or "lm_head" in key for key in changed)


def test_the_finish_is_kept_only_where_it_helps(run, models):
    reference, _, packed, model = models
    valid = held_out(run, "valid", 2)
    _, made, report = finish(run, reference, model, packed, valid, Finish(steps=2, rate=20.0))
    assert not report["kept"] and made is packed
    kept, made, report = finish(run, reference, model, packed, valid, Finish(steps=30, rows=6))
    assert report["kept"] == (
        mean(report["after"], "delta_loss") < mean(report["before"], "delta_loss")
    )
    if report["kept"]:
        assert measure(run, reference, kept, valid) == report["after"]


def test_needed_from_0_03_nats_on_any_task():
    assert not needed({"a": {"delta_loss": 0.03}, "b": {"delta_loss": -0.1}})
    assert needed({"a": {"delta_loss": 0.031}, "b": {"delta_loss": 0.0}})
    with pytest.raises(ValueError, match="no number"):
        needed({"a": {"delta_loss": float("nan")}})


def test_of_methods_with_equal_loss_the_one_with_less_divergence_is_taken():
    def numbers(loss: float, kl: float) -> dict:
        return {"a": {"delta_loss": loss, "kl": kl}}

    table = {"x": numbers(0.0100, 0.004), "y": numbers(0.0103, 0.002), "z": numbers(0.02, 0.001)}
    assert choose(table) == "y"
    assert choose(table, slack=0.0) == "x"


def test_measuring_the_same_model_twice_finds_nothing(run, models):
    reference = models[0]
    rows = held_out(run, "test", 2)
    for numbers in measure(run, reference, reference, rows).values():
        assert numbers["delta_loss"] == 0 and abs(numbers["kl"]) < 1e-6 and numbers["top1"] == 1
    with pytest.raises(ValueError, match="no held-out answers"):
        measure(run, reference, reference, {"medkqa": []})


def test_the_step_writes_the_chosen_integers_and_the_table(run):
    path = run.out / "checkpoint" / "quantized.safetensors"
    before = load_file(path)
    chosen = ("rtn-mse", "gptq", "gptq-descent-correct")
    report = methods.quantise(run, chosen, settings=Finish(steps=3, rows=2))
    assert report == json.loads((run.out / "quantization.json").read_text(encoding="utf-8"))
    assert set(report["methods"]) == set(chosen)
    after = load_file(path)
    assert before.keys() == after.keys()
    assert all(before[key].shape == after[key].shape for key in before)
    kl = {name: mean(m["tasks"], "kl") for name, m in report["methods"].items()}
    assert kl["gptq-descent-correct"] < kl["gptq"] < kl["rtn-mse"]
    # the device model of the exported files is the one that was measured
    device = export.device_model(run, "adapter")
    found = measure(run, export.float_model(run, "adapter"), device, held_out(run, "test", 2))
    assert found == report.get("test_after_finish", report["test"])
