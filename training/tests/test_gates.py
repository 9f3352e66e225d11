"""Gates per task: the merge-aware finish, how they are spread, and what is said about them."""

import math
from dataclasses import replace

import pytest
import torch

from training.experts import (
    adapted,
    attach,
    gate_statistics,
    mean_gates,
    spread_gates,
    start_finish,
    task_gate_means,
    watch,
)
from training.model import Model
from training.stages.adapter import optimizers_for
from training.tests.expert_models import ADAPTER, CONFIG, make_model
from training.tests.testing import preset


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
