"""A linear and a model with experts that all do something, for the tests of the adapter."""

import torch

from training.experts import AdapterConfig, ExpertLinear, adapted, attach, set_mode
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
