"""The MoE-Adapter against its formula, its noise, the finish and the files."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from training.experts import (
    AdapterConfig,
    ExpertLinear,
    adapted,
    attach,
    load_adapter,
    mean_gates,
    save_adapter,
    set_mode,
    start_finish,
    task_gates,
    watch,
)
from training.model import Config, Linear, Model

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
