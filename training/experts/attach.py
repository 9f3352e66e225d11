"""Puts experts into a model, finds them again and switches them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.experts.linear import FFN, MODES, AdapterConfig, ExpertLinear, released_bounds

ATTENTION = ("W_pack", "q_proj", "k_proj", "v_proj", "o_proj")


def _linears(model: nn.Module, targets: tuple[str, ...]) -> list[tuple[str, nn.Module, str]]:
    """(name, parent, attribute) of every linear of the decoder layers that `targets` names."""
    if hasattr(model, "adaptable"):
        return list(model.adaptable(targets))  # type: ignore[operator]
    found = []
    for i, layer in enumerate(model.model.layers):  # type: ignore[union-attr, arg-type]
        for part in ("self_attn", "mlp"):
            for target in targets:
                if isinstance(getattr(getattr(layer, part), target, None), nn.Linear):
                    found.append((f"layers.{i}.{part}.{target}", getattr(layer, part), target))
    return found


def _wanted(targets: tuple[str, ...]) -> tuple[tuple[str, ...], set[str]]:
    """(names to look for, those that must be there). `all` takes what attention linears there are."""
    names: list[str] = []
    needed: set[str] = set()
    for target in targets:
        group = {"ffn": FFN, "all": (*ATTENTION, *FFN)}.get(target, (target,))
        names += group
        needed |= set(group) - (set(ATTENTION) if target == "all" else set())
    return tuple(dict.fromkeys(names)), needed


def attach(model: nn.Module, config: AdapterConfig) -> None:
    """Freezes the base and puts experts beside every linear named in `config.targets`.

    The adapter starts in the mode of `config.gate`. Raises ValueError when a target is not a linear
    of every layer.
    """
    if next(adapted(model), None) is not None:
        raise ValueError("the model has an adapter already")
    names, needed = _wanted(config.targets)
    found = _linears(model, names)
    counts: dict[str, int] = {}
    for _, _, attribute in found:
        counts[attribute] = counts.get(attribute, 0) + 1
    layers = max(counts.values(), default=0)
    absent = sorted(needed - counts.keys()) + sorted(n for n, c in counts.items() if c < layers)
    if absent:
        raise ValueError(f"{absent} are not linears of every layer of this model")
    model.requires_grad_(False)
    for name, parent, attribute in found:
        module = ExpertLinear(getattr(parent, attribute), config, name)
        setattr(parent, attribute, module.train(parent.training))
    set_mode(model, config.gate)


def adapted(model: nn.Module) -> Iterator[tuple[str, ExpertLinear]]:
    """(`layers.0.mlp.gate_proj`, module) for every adapted linear, in the order of the layers."""
    for module in model.modules():
        if isinstance(module, ExpertLinear):
            yield module.path, module


def set_mode(model: nn.Module, mode: str, seed: int | None = None) -> None:
    """Switches every adapted linear, and lets exactly the parameters train that the mode uses.

    seed: makes the noise of mode `released` repeatable; it then comes from a generator of its own.
    """
    if mode not in MODES:
        raise ValueError(f"no such adapter mode: {mode}")
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for _, module in adapted(model):
        config = module.config
        if mode == "universal" and not config.universal:
            raise ValueError("this adapter has no universal expert")
        module.mode = mode
        module.generator = generator
        experts = mode != "none"
        module.lora_moe_A.requires_grad_(experts)
        module.lora_moe_B.requires_grad_(experts)
        routed = mode in ("token", "released")
        module.lora_route.weight.requires_grad_(routed)
        module.w_noise.requires_grad_(mode == "token" and config.noise == "scaled")
        module.gate_logits.requires_grad_(mode == "task")


@contextmanager
def universal_learns(model: nn.Module) -> Iterator[None]:
    """Within it the forward pass is the same, but gradients reach the universal expert alone.

    ValueError where there is none.
    """
    modules = [module for _, module in adapted(model)]
    if not all(module.config.universal for module in modules):
        raise ValueError("this adapter has no universal expert")
    for module in modules:
        module.universal_learns = True
    try:
        yield
    finally:
        for module in modules:
            module.universal_learns = False


def set_tasks(model: nn.Module, tasks: Tensor | None) -> None:
    """Sets `current_tasks` (B,) of every adapted linear, for models that cannot pass them on."""
    for _, module in adapted(model):
        module.current_tasks = tasks


@torch.no_grad()
def draw_released_router(model: nn.Module, seed: int) -> None:
    """Draws router and noise as the released code does whenever it loads an adapter.

    Its files hold no router, so every process of it answers with another one.
    """
    generator = torch.Generator().manual_seed(seed)
    for _, module in adapted(model):
        route = torch.empty(module.lora_route.weight.shape)
        noise = torch.empty(module.w_noise.shape)
        bound = 1 / math.sqrt(route.shape[1])
        route.uniform_(-bound, bound, generator=generator)
        released_bounds(noise, generator)
        module.lora_route.weight.copy_(route)
        module.w_noise.copy_(noise)


def watch(model: nn.Module, on: bool) -> None:
    """Lets every adapted linear keep the gates it uses, in `seen`, or forgets them."""
    for _, module in adapted(model):
        module.watched, module.seen = on, []
