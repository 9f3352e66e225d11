"""Quantises a whole model layer by layer, each on what the layers before it, quantised, hand on.

Calibration rows are run up to the first layer once. Then, layer by layer and inside a layer linear by
linear in the order of the forward pass: run the layer as it stands, sum x x^T of the linear's inputs,
quantise, put the dequantised weight in place. The adapter is active and belongs to the layer, so the
inputs are those of the device. Only one layer's sums and copies exist at a time, and the residual
stream of the calibration rows (tokens x D). `methods` holds two more copies of the model, to compare.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from training.batches import Batch
from training.quant.gptq import Quantised, damped
from training.quant.grid import dequantise, pack_q4, quantise_tensor

Quantise = Callable[[Tensor, Tensor], Quantised]  # (weight, H) -> integers and scales
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class _Reached(Exception):
    """The wanted activation was seen; the rest of the pass is not needed."""


def is_linear(module: nn.Module) -> bool:
    """A base linear, adapted or not. An adapter holds the base weight as its own `weight`."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.dim() == 2


def linears(layer: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """(`mlp.up_proj`, module) of the base linears in a layer; what is inside an adapter is not one."""
    for name, child in layer.named_children():
        if is_linear(child):
            yield prefix + name, child
        else:
            yield from linears(child, f"{prefix}{name}.")


def layers_of(model: nn.Module) -> nn.ModuleList:
    layers = getattr(getattr(model, "model", None), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(f"{type(model).__name__} has no `model.layers` to quantise one by one")
    return layers


@contextmanager
def hooked(module: nn.Module, hook: Callable, **options: Any):
    handle = module.register_forward_pre_hook(hook, **options)
    try:
        yield
    finally:
        handle.remove()


def set_tasks(layer: nn.Module, tasks: Tensor | None) -> None:
    """For adapted linears of wrapped models, which get the tasks through an attribute."""
    for module in layer.modules():
        if hasattr(module, "current_tasks"):
            setattr(module, "current_tasks", tasks)  # noqa: B010 - nn.Module types its attributes


@dataclass
class Stream:
    """One batch on its way through the layers."""

    x: Tensor  # (B, T, D)
    rest: tuple  # the layer's other arguments
    named: dict[str, Any]
    counted: Tensor  # (B, T) bool: no padding
    tasks: Tensor | None

    def run(self, layer: nn.Module) -> Tensor:
        set_tasks(layer, self.tasks)
        made = layer(self.x, *self.rest, **self.named)
        return made[0] if isinstance(made, tuple) else made


def start_stream(model: nn.Module, batch: Batch) -> Stream:
    """The arguments that the model gives its first layer for a batch."""
    seen: list[Stream] = []
    device = next(model.parameters()).device
    moved = Batch(
        batch.tokens.to(device),
        batch.targets,
        None,
        None if batch.segments is None else batch.segments.to(device),
        None if batch.tasks is None else batch.tasks.to(device),
    )
    counted = torch.ones_like(moved.tokens, dtype=torch.bool)
    if moved.segments is not None:
        counted = moved.segments > 0

    def catch(_: nn.Module, given: tuple, named: dict) -> None:
        named = dict(named)
        x = given[0] if given else named.pop("hidden_states")
        seen.append(Stream(x, given[1:], named, counted, moved.tasks))
        raise _Reached

    with hooked(layers_of(model)[0], catch, with_kwargs=True):
        try:
            hidden: Any = model.hidden
            hidden(moved.tokens, moved.segments, moved.tasks)
        except _Reached:
            return seen[0]
    raise ValueError("the model did not call its first layer")


def input_of(layer: nn.Module, linear: nn.Module, stream: Stream) -> Tensor:
    """What a linear inside the layer is given at the counted positions: (n, K) f32."""
    seen: list[Tensor] = []

    def catch(_: nn.Module, given: tuple) -> None:
        seen.append(given[0])
        raise _Reached

    with hooked(linear, catch):
        try:
            stream.run(layer)
        except _Reached:
            return seen[0][stream.counted].float()
    raise ValueError("a linear of the layer took no part in its forward pass")


def call_order(layer: nn.Module, stream: Stream) -> list[list[str]]:
    """Names of the layer's linears in the order they are called; those with one input together."""
    groups: dict[tuple, list[str]] = {}

    def note(name: str) -> Callable:
        def hook(_: nn.Module, given: tuple) -> None:
            key = (given[0].data_ptr(), tuple(given[0].shape))
            groups.setdefault(key, []).append(name)
            kept.append(given[0])  # so that no later input gets the same address

        return hook

    kept: list[Tensor] = []
    handles = [m.register_forward_pre_hook(note(name)) for name, m in linears(layer)]
    try:
        stream.run(layer)
    finally:
        for handle in handles:
            handle.remove()
    return list(groups.values())


def shifted(weight: Tensor, cross: Tensor, hessian: Tensor, damping: float) -> Tensor:
    """The weight that, on the quantised model's inputs, is nearest to W on the float model's.

    argmin over V of sum |W x - V x'|^2 with H = sum x' x'^T and cross = sum x x'^T, damped towards W:
    V = W + W (cross - H) (H + damping)^-1.
    """
    correction = torch.linalg.solve(
        damped(hessian, damping), (weight.double() @ (cross - hessian).double()).T
    ).T
    return weight.double() + correction


@dataclass
class Calibration:
    """Quantises a model in place; `packed` receives NAME.q and NAME.scale as files hold them.

    quantise: how one matrix is done. correct: > 0 lets every linear aim at the outputs that the float
    model has on its own inputs, with this damping, instead of its own outputs on the inputs it gets.
    """

    quantise: Quantise
    correct: float = 0.0
    verbose: bool = False
    packed: dict[str, Tensor] = field(default_factory=dict)

    def put(self, name: str, module: nn.Module, q: Tensor, scale: Tensor) -> None:
        self.packed[f"{name}.q"], self.packed[f"{name}.scale"] = q.cpu(), scale.cpu()
        weight: Any = module.weight
        weight.copy_(dequantise(q, scale))

    @torch.no_grad()
    def run(self, model: nn.Module, batches: list[Batch]) -> dict[str, Tensor]:
        """The packed integers of every matrix. The model is left on its dequantised weights."""
        if not batches:
            raise ValueError("no calibration rows")
        model.eval()
        inner: Any = model
        twins = [start_stream(model, batch) for batch in batches] if self.correct else []
        embedding, head = inner.model.embed_tokens, inner.lm_head
        self.put(EMBEDDING, embedding, *quantise_tensor(EMBEDDING, embedding.weight))
        streams = [start_stream(model, batch) for batch in batches]
        for number, layer in enumerate(layers_of(model)):
            self.layer(f"model.layers.{number}.", layer, streams, twins)
        self.put(HEAD, head, *quantise_tensor(HEAD, head.weight))
        head.normalised = True
        return self.packed

    def layer(
        self, prefix: str, layer: nn.Module, streams: list[Stream], twins: list[Stream]
    ) -> None:
        modules = dict(linears(layer))
        order = call_order(layer, streams[0])
        missing = modules.keys() - {name for names in order for name in names}
        if missing:
            raise ValueError(f"{prefix}: {sorted(missing)} took no part in the forward pass")
        original = copy.deepcopy(layer) if twins else layer
        originals = dict(linears(original))
        for names in order:
            first = modules[names[0]]
            hessian, cross = self.sums(layer, first, streams, original, originals[names[0]], twins)
            for name in names:
                weight: Any = modules[name].weight
                goal = weight.double()
                if cross is not None:
                    goal = shifted(goal, cross, hessian, self.correct)
                made = self.quantise(goal, hessian)
                q, scale = pack_q4(made.integers, made.scale)
                self.put(f"{prefix}{name}.weight", modules[name], q, scale)
        for stream in streams:
            stream.x = stream.run(layer)
        for twin in twins:
            twin.x = twin.run(original)
        if self.verbose:
            print(f"{prefix[:-1]} quantised", file=sys.stderr)

    @staticmethod
    def sums(
        layer: nn.Module,
        linear: nn.Module,
        streams: list[Stream],
        original: nn.Module,
        twin_linear: nn.Module,
        twins: list[Stream],
    ) -> tuple[Tensor, Tensor | None]:
        """H = mean x' x'^T (K, K) f64 and, with twins on the float model, mean x x'^T."""
        hessian: Any = 0.0
        cross: Any = 0.0
        tokens = 0
        for number, stream in enumerate(streams):
            x = input_of(layer, linear, stream)
            hessian = hessian + (x.T @ x).double()
            tokens += len(x)
            if twins:
                cross = cross + (input_of(original, twin_linear, twins[number]).T @ x).double()
        if tokens == 0:
            raise ValueError("the calibration rows are all padding")
        return hessian / tokens, cross / tokens if twins else None
