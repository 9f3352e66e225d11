"""The router's noise and the dropouts of the experts: what they draw, and when."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training.experts import (
    ExpertLinear,
    attach,
    draw_released_router,
    set_mode,
)
from training.model import Linear, Model
from training.tests.expert_models import ADAPTER, CONFIG, make_linear, make_model


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
