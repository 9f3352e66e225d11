"""The MoE-Adapter against its formula, its modes, targets and files."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from training.experts import (
    AdapterConfig,
    ExpertLinear,
    adapted,
    attach,
    load_adapter,
    merged_pair,
    save_adapter,
    set_mode,
    task_gates,
)
from training.model import Linear, Model
from training.tests.expert_models import ADAPTER, CONFIG, make_linear, make_model


def by_hand(module: ExpertLinear, x: torch.Tensor, gates) -> torch.Tensor:
    """x: (K_in,), gates: the E - 1 specific ones -> (N_out,), expert by expert."""
    y = module.weight @ x
    for expert, gate in enumerate([1.0, *gates]):
        inner = x @ module.lora_moe_A[expert]
        y = y + gate * (ADAPTER.alpha / ADAPTER.rank) * (inner @ module.lora_moe_B[expert])
    return y


@torch.no_grad()
@pytest.mark.parametrize("mode", ["token", "task", "uniform", "universal", "none"])
def test_every_mode_equals_a_plain_loop(mode):
    module = make_linear().eval()
    module.mode = mode
    x = torch.randn(2, 5, 10)
    tasks = torch.tensor([2, 0])
    y = module(x, tasks)
    for b in range(2):
        for t in range(5):
            gates = {
                "token": (module.lora_route.weight @ x[b, t]).softmax(-1),
                "task": module.gate_logits[tasks[b]].softmax(-1),
                "uniform": torch.full((3,), 1 / 3),
                "universal": torch.zeros(3),
                "none": torch.zeros(3),
            }[mode]
            expected = by_hand(module, x[b, t], gates)
            if mode == "none":
                expected = module.weight @ x[b, t]
            assert torch.allclose(y[b, t], expected, atol=1e-5)


@torch.no_grad()
def test_gates_per_task_merge_into_the_weight():
    module = make_linear().eval()
    module.mode = "task"
    x = torch.randn(1, 6, 10)
    for task in range(3):
        g = torch.cat((torch.ones(1), module.gate_logits[task].softmax(-1)))
        pairs = zip(g, module.lora_moe_A, module.lora_moe_B, strict=True)
        deltas = torch.stack([gate * (a @ b) for gate, a, b in pairs])
        delta = deltas.sum(0) * ADAPTER.alpha / ADAPTER.rank
        merged = F.linear(x, module.weight + delta.T)
        assert torch.allclose(module(x, torch.tensor([task])), merged, atol=1e-5)


def test_gates_per_task_need_a_task():
    module = make_linear()
    module.mode = "task"
    with pytest.raises(ValueError, match="task"):
        module(torch.randn(1, 2, 10))


def test_a_fresh_adapter_leaves_the_base_alone_and_frozen():
    torch.manual_seed(0)
    model = Model(CONFIG).eval()
    tokens = torch.randint(0, CONFIG.vocab, (2, 9))
    before = model(tokens)
    attach(model, ADAPTER)
    set_mode(model, "token")
    assert torch.equal(model(tokens), before)
    trained = {n.rsplit(".", 1)[-1] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"lora_moe_A", "lora_moe_B", "weight", "w_noise"}
    named = [n for n, p in model.named_parameters() if p.requires_grad and n.endswith("weight")]
    assert all(n.endswith("lora_route.weight") for n in named)


@torch.no_grad()
def test_a_saved_adapter_computes_the_same(tmp_path):
    tokens = torch.randint(0, CONFIG.vocab, (3, 9))
    tasks = torch.tensor([0, 1, 2])
    for mode, kind in (("token", "routed"), ("task", "merged")):
        model = make_model()
        base = {k: v for k, v in Model(CONFIG).state_dict().items()}
        for name, value in model.state_dict().items():
            if name in base:
                base[name] = value
        for _, module in adapted(model):
            module.gate_logits.normal_()
        set_mode(model, mode)
        save_adapter(model, ADAPTER, tmp_path / kind, kind)
        other = Model(CONFIG)
        other.load_state_dict(base)
        assert load_adapter(other, ADAPTER, tmp_path / kind) == kind
        other.eval()
        assert torch.allclose(
            other.hidden(tokens, tasks=tasks), model.hidden(tokens, tasks=tasks), atol=1e-5
        )


def test_file_has_the_released_names_and_gates_sum_to_one(tmp_path):
    model = make_model()
    save_adapter(model, ADAPTER, tmp_path, "routed")
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    key = "base_model.model.model.layers.1.mlp.down_proj."
    assert tensors[key + "lora_moe_A"].shape == (4, 64, 3)
    assert tensors[key + "lora_moe_B"].shape == (4, 3, 32)
    assert tensors[key + "lora_route.weight"].shape == (3, 64)
    assert tensors[key + "w_noise"].shape == (64, 3)
    assert len(tensors) == 4 * 3 * 2
    save_adapter(model, ADAPTER, tmp_path, "merged")
    gates = json.loads((tmp_path / "task_gates.json").read_text())
    assert set(gates) == set(ADAPTER.tasks)
    for linears in gates.values():
        assert set(linears) == {name for name, _ in adapted(model)}
        assert all(sum(g) == pytest.approx(1) for g in linears.values())
    assert gates == task_gates(model, ADAPTER)


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_missing_and_extra_tensors_are_an_error(tmp_path, change):
    save_adapter(make_model(), ADAPTER, tmp_path, "routed")
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    if change == "missing":
        tensors.pop(next(name for name in tensors if name.endswith("w_noise")))
    else:
        tensors["base_model.model.model.layers.9.mlp.gate_proj.lora_moe_A"] = torch.zeros(1)
    save_file(tensors, path)
    with pytest.raises(ValueError, match="missing|unexpected"):
        load_adapter(Model(CONFIG), ADAPTER, tmp_path)


def test_an_adapter_of_another_rank_is_an_error(tmp_path):
    save_adapter(make_model(), ADAPTER, tmp_path, "routed")
    with pytest.raises(ValueError, match="expected"):
        load_adapter(Model(CONFIG), AdapterConfig(rank=8), tmp_path)


@torch.no_grad()
@pytest.mark.parametrize("experts", [1, 2, 4, 6])
@pytest.mark.parametrize("universal", [True, False])
@pytest.mark.parametrize("rslora", [True, False])
def test_any_number_of_experts_equals_the_formula_and_its_merged_pair(experts, universal, rslora):
    config = replace(ADAPTER, experts=experts, universal=universal, rslora=rslora)
    torch.manual_seed(0)
    module = ExpertLinear(nn.Linear(10, 7), config).eval()
    module.lora_moe_B.normal_()
    module.gate_logits.normal_()
    module.mode = "task"
    specific = experts - universal
    scale = 6 / math.sqrt(3) if rslora else 6 / 3
    x = torch.randn(2, 5, 10)
    tasks = torch.tensor([2, 0])
    y = module(x, tasks)
    for b in range(2):
        gates = module.gate_logits[tasks[b]].softmax(-1)
        assert len(gates) == specific
        shares = [1.0, *gates.tolist()] if universal else gates.tolist()
        pairs = zip(shares, module.lora_moe_A, module.lora_moe_B, strict=True)
        delta = scale * torch.stack([g * (a @ c) for g, a, c in pairs]).sum(0)
        expected = F.linear(x[b], module.weight + delta.T, module.bias)
        assert torch.allclose(y[b], expected, atol=1e-5)
        a, c = merged_pair(module, int(tasks[b]))
        assert a.shape == (10, experts * 3) and c.shape == (experts * 3, 7)
        assert torch.allclose(a @ c, delta, atol=1e-5)


def test_without_a_universal_expert_there_is_none_to_look_at():
    model = Model(CONFIG)
    attach(model, replace(ADAPTER, universal=False))
    with pytest.raises(ValueError, match="no universal expert"):
        set_mode(model, "universal")


@pytest.mark.parametrize(
    "wrong",
    [
        {"gate": "tokens"},
        {"noise": "loud"},
        {"experts": 0},
        {"rank": 0},
        {"dropout": 1.0},
        {"expert_dropout": -0.1},
        {"targets": ()},
    ],
)
def test_settings_without_a_meaning_are_refused(wrong):
    with pytest.raises(ValueError):
        AdapterConfig(**wrong)


@torch.no_grad()
def test_tasks_may_come_from_the_caller_or_be_set_beforehand():
    module = make_linear().eval()
    module.mode = "task"
    x = torch.randn(2, 3, 10)
    expected = module(x, torch.tensor([1, 2]))
    module.current_tasks = torch.tensor([1, 2])
    assert torch.equal(module(x), expected)
    assert not torch.equal(module(x, torch.tensor([0, 0])), expected)  # the argument goes before it


@torch.no_grad()
def test_a_base_in_half_precision_keeps_its_dtype_and_its_experts_theirs():
    torch.manual_seed(0)
    base = Linear(10, 7).to(torch.bfloat16)
    module = ExpertLinear(base, ADAPTER).eval()
    module.lora_moe_B.normal_()
    assert module.weight.dtype == torch.bfloat16 and module.lora_moe_A.dtype == torch.float32
    x = torch.randn(1, 4, 10)
    half = module(x.bfloat16())
    assert half.dtype == torch.bfloat16
    module.weight.data = module.weight.data.float()
    assert torch.allclose(half.float(), module(x), rtol=0.05, atol=0.1)


@pytest.mark.parametrize(
    ("targets", "linears"),
    [
        (("ffn",), {"gate_proj", "up_proj", "down_proj"}),
        (("all",), {"W_pack", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        (("o_proj",), {"o_proj"}),
    ],
)
def test_targets_by_group_or_name(targets, linears):
    model = Model(CONFIG).eval()
    attach(model, replace(ADAPTER, targets=targets))
    assert {name.rsplit(".", 1)[1] for name, _ in adapted(model)} == linears
    assert len(list(adapted(model))) == 2 * len(linears)
    assert not any(module.training for _, module in adapted(model))
    with pytest.raises(ValueError, match="already"):
        attach(model, ADAPTER)


def test_a_target_that_the_model_does_not_have_is_an_error():
    with pytest.raises(ValueError, match="q_proj.*not linears of every layer"):
        attach(Model(CONFIG), replace(ADAPTER, targets=("q_proj", "ffn")))
