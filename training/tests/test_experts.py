"""The MoE-Adapter against its formula, its noise, the finish and the files."""

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
    draw_released_router,
    gate_statistics,
    load_adapter,
    mean_gates,
    merged_pair,
    save_adapter,
    set_mode,
    spread_gates,
    start_finish,
    task_gate_means,
    task_gates,
    watch,
)
from training.model import Config, Linear, Model
from training.stages.adapter import optimizers_for
from training.tests.testing import preset

CONFIG = Config(vocab=80, width=32, layers=2, heads=2, mlp_width=64, capacity=32)
ADAPTER = AdapterConfig(experts=4, rank=3, alpha=6.0)


def make_linear(seed: int = 0) -> ExpertLinear:
    torch.manual_seed(seed)
    module = ExpertLinear(Linear(10, 7), ADAPTER)
    with torch.no_grad():
        module.lora_moe_B.normal_()
        module.gate_logits.normal_()
    return module


def make_model(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    model = Model(CONFIG)
    attach(model, ADAPTER)
    with torch.no_grad():
        for _, module in adapted(model):
            module.lora_moe_B.normal_(std=0.2)
            module.lora_route.weight.normal_(std=0.5)
    set_mode(model, "token")
    return model.eval()


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


def test_noise_is_in_training_only_and_has_a_gradient():
    module = make_linear()
    x = torch.randn(1, 6, 10)
    module.train()
    assert not torch.equal(module(x), module(x))
    module(x).square().sum().backward()
    for weight in (module.w_noise, module.lora_route.weight):
        assert weight.grad is not None and weight.grad.abs().sum() > 0
    module.eval()
    assert torch.equal(module(x), module(x))
    with torch.no_grad():
        before = module(x)
        module.w_noise.fill_(100)
        assert torch.equal(module(x), before)


def test_noise_does_not_drown_the_router_at_the_start():
    torch.manual_seed(0)
    module = ExpertLinear(Linear(320, 8), ADAPTER)
    x = torch.randn(1, 500, 320)
    noise = F.softplus(x @ module.w_noise).mean()
    assert noise < 2 * module.lora_route(x).std()


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
def test_the_finish_starts_as_the_mean_gate_model():
    model = make_model()
    tokens = torch.randint(0, CONFIG.vocab, (6, 12))
    tasks = torch.tensor([0, 1, 2, 0, 1, 2])
    counted = torch.rand(6, 12) > 0.3
    watch(model, True)
    model.hidden(tokens)
    expected = {}
    for name, module in adapted(model):
        g = module.seen.pop()
        expected[name] = torch.stack([g[tasks == t][counted[tasks == t]].mean(0) for t in range(3)])
    watch(model, False)
    batches = [(tokens[i : i + 2], None, tasks[i : i + 2], counted[i : i + 2]) for i in (0, 2, 4)]
    means = mean_gates(model, batches, 3)
    start_finish(model, means)
    assert all(module.mode == "task" for _, module in adapted(model))
    for name, module in adapted(model):
        assert torch.allclose(means[name], expected[name], atol=1e-5)
        assert torch.allclose(module.gate_logits.softmax(-1), expected[name], atol=1e-5)


def test_spread_raises_another_gate_in_every_task():
    model = make_model()
    means = {name: torch.full((3, 3), 1 / 3) for name, _ in adapted(model)}
    start_finish(model, means, spread=1.5)
    for _, module in adapted(model):
        gates = module.gate_logits.softmax(-1)
        assert gates.argmax(-1).tolist() == [0, 1, 2]
        assert torch.allclose(gates.diagonal(), torch.tensor(math.exp(1.5) / (math.exp(1.5) + 2)))


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


def trained_names(model) -> set[str]:
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    return {name.split("gate_proj.")[1] for name in names if "0.mlp.gate_proj" in name}


def test_each_noise_trains_what_it_says():
    experts = {"lora_moe_A", "lora_moe_B"}
    router = experts | {"lora_route.weight"}
    for noise, trained in (
        ("scaled", router | {"w_noise"}),
        ("released", router),
        ("none", router),
    ):
        model = Model(CONFIG)
        attach(model, replace(ADAPTER, noise=noise))
        assert trained_names(model) == trained
    attach(model := Model(CONFIG), replace(ADAPTER, gate="task"))
    assert trained_names(model) == experts | {"gate_logits"}


def test_released_noise_is_drawn_in_evaluation_too_and_as_large_as_published():
    torch.manual_seed(0)
    inputs, specific = 400, 3
    module = ExpertLinear(Linear(inputs, 8), replace(ADAPTER, noise="released")).eval()
    bound = 1 / math.sqrt(specific)
    assert module.w_noise.abs().max() <= bound
    assert float(module.w_noise.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    nn.init.normal_(module.lora_moe_B)
    x = torch.randn(1, 200, inputs)
    assert not torch.equal(module(x), module(x))
    with torch.no_grad():
        g = module.gates(x, None)
    # in steps of f16: the largest gates are multiples of 2^-11
    assert torch.equal(g, g.half().float())
    deviation = F.softplus(x @ module.w_noise)
    assert deviation.mean() > 3 * F.linear(x, module.lora_route.weight).std()


def test_no_noise_gives_the_same_gates_in_training():
    torch.manual_seed(0)
    module = ExpertLinear(Linear(10, 7), replace(ADAPTER, noise="none")).train()
    nn.init.normal_(module.lora_moe_B)
    x = torch.randn(1, 4, 10)
    assert torch.equal(module(x), module(x))


@torch.no_grad()
def test_the_released_behaviour_of_an_adapter_is_repeatable_with_a_seed():
    tokens = torch.randint(0, CONFIG.vocab, (2, 9))
    model = make_model()
    answers = []
    for router, noise in ((1, 1), (1, 1), (1, 2), (2, 1)):
        draw_released_router(model, router)
        set_mode(model, "released", seed=noise)
        answers.append(model.hidden(tokens))
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2]) and not torch.equal(answers[0], answers[3])
    set_mode(model, "released")
    assert not torch.equal(model.hidden(tokens), model.hidden(tokens))


@torch.no_grad()
def test_dropout_is_in_training_only():
    torch.manual_seed(0)
    module = ExpertLinear(Linear(10, 7), replace(ADAPTER, dropout=0.5, gate="task"))
    module.lora_moe_B.normal_()
    x, tasks = torch.randn(1, 4, 10), torch.tensor([0])
    assert not torch.equal(module.train()(x, tasks), module(x, tasks))
    assert torch.equal(module.eval()(x, tasks), module(x, tasks))


@torch.no_grad()
@pytest.mark.parametrize(("dropout", "chance"), [(0.001, 1), (0.15, 38), (0.999, 255)])
def test_dropout_takes_its_share_and_keeps_the_mean(dropout, chance):
    torch.manual_seed(0)
    module = ExpertLinear(Linear(10, 7), replace(ADAPTER, dropout=dropout)).train()
    x, share = torch.ones(3, 333_333, 3), chance / 256  # no multiple of the draws in a word
    first, second = module.thinned(x) == 0, module.thinned(x) == 0
    assert module.thinned(x).unique().tolist() == [0, pytest.approx(1 / (1 - share))]
    deviation = (share * (1 - share) / x.numel()) ** 0.5
    assert abs(float(first.float().mean()) - share) < 5 * deviation
    # nothing about a value follows from its neighbour, nor from another draw
    for other in (second, first.roll(1, -1), first.roll(1, -2)):
        both, wanted = float((first & other).float().mean()), share**2
        assert abs(both - wanted) < 5 * (wanted * (1 - wanted) / x.numel()) ** 0.5


@torch.no_grad()
def test_expert_dropout_leaves_a_row_its_largest_gate():
    torch.manual_seed(0)
    module = ExpertLinear(Linear(10, 7), replace(ADAPTER, expert_dropout=0.25, gate="task"))
    module.gate_logits.copy_(torch.tensor([[2.0, 0, 1], [0, 0, 1], [0, 3, 1]]))
    tasks = torch.randint(0, 3, (2000,))
    full = module.gate_logits.softmax(-1)[tasks]
    g = module.train().gates(torch.zeros(2000, 1, 10), tasks)[:, 0]
    alone = (g > 0).sum(-1) == 1
    assert float(alone.float().mean()) == pytest.approx(0.25, abs=0.04)
    assert torch.equal(g[~alone], full[~alone])
    assert torch.allclose(g[alone].amax(-1), full[alone].amax(-1))
    assert torch.equal(module.eval().gates(torch.zeros(2000, 1, 10), tasks)[:, 0], full)


def test_gates_per_task_from_the_start_lean_to_different_experts():
    model = Model(CONFIG)
    attach(model, replace(ADAPTER, gate="task"))
    spread_gates(model, 3.0)
    for _, module in adapted(model):
        gates = module.gate_logits.softmax(-1)
        assert module.mode == "task" and gates.argmax(-1).tolist() == [0, 1, 2]
        assert torch.allclose(gates.diagonal(), torch.tensor(math.exp(3) / (math.exp(3) + 2)))


def test_experts_and_gates_have_rates_of_their_own():
    for gate, names in (("token", 2), ("task", 1)):
        model = Model(CONFIG)
        attach(model, replace(ADAPTER, gate=gate))
        stage = replace(preset().expert, lr=1e-3, lr_other=0.5)
        groups = [g for o in optimizers_for(model, stage) for g in o.param_groups]
        assert [group["lr"] for group in groups] == [1e-3, 0.5]
        assert [len(group["params"]) for group in groups] == [2 * 6, names * 6]


def test_gate_statistics_by_hand():
    means = {
        "layers.0.mlp.gate_proj": torch.tensor([[1.0, 0], [0, 1.0], [0.5, 0.5]]),
        "layers.0.mlp.up_proj": torch.tensor([[0, 1.0], [1.0, 0], [0.5, 0.5]]),
        "layers.1.mlp.gate_proj": torch.tensor([[0.5, 0.5], [0.45, 0.55], [0.5, 0.5]]),
        "layers.1.mlp.up_proj": torch.tensor([[0.5, 0.5], [0.45, 0.55], [0.5, 0.5]]),
    }
    found = gate_statistics(means)
    assert found.gates.shape == (3, 2, 2)
    assert torch.allclose(found.gates[0, 0], torch.tensor([0.5, 0.5]))
    # linears that differ in opposite ways do differ
    assert found.variation[0, 0, 1] == 1 and found.variation[0, 0, 2] == 0.5
    assert torch.equal(found.variation, found.variation.transpose(1, 2))
    assert float(found.variation[1, 0, 1]) == pytest.approx(0.05)
    assert found.least().tolist() == pytest.approx([0.5, 0.0])
    assert found.layers_apart(0.1) == 0.5
    model = make_model()
    spread_gates(model, 2.0)
    apart = gate_statistics(task_gate_means(model))
    expected = (math.exp(2) - 1) / (math.exp(2) + 2)
    assert apart.variation[:, 0, 1].tolist() == pytest.approx([expected] * 2, rel=1e-5)
    with pytest.raises(ValueError, match="no adapted linears"):
        gate_statistics({})
