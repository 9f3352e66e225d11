"""What training keeps in memory, measured without memory: models of fake tensors run the real code.

B rows, T tokens of a row, V vocabulary, L layers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from training.base import Base
from training.config import Config
from training.experts import AdapterConfig, attach
from training.losses import cross_entropy
from training.model import Model, parameters
from training.models.load import skeleton

Build = Callable[
    [int | None], Base
]  # a model on the meta device, of so many layers (None: its own)


def builder(source: Config | dict[str, Any]) -> Build:
    """Builds the model of sizes, or of a config.json, without memory."""

    def build(layers: int | None) -> Base:
        if isinstance(source, Config):
            config = source if layers is None else replace(source, layers=layers)
            with torch.device("meta"):
                return Model(config)
        hf = dict(source)
        if layers is not None:
            hf["num_hidden_layers"] = layers
            hf.pop("layer_types", None)  # all of one kind, or the skeleton refuses
        return skeleton(hf)

    return build


@dataclass(frozen=True)
class Counts:
    """Parameters of a model: numbers, not bytes."""

    total: int
    layer: int  # of the largest layer
    layers: int  # of all layers
    matrices: int  # 2-D ones of the layers: what Muon takes
    trained: int
    trained_layer: int

    @property
    def root(self) -> int:
        """Embedding, last norm and head."""
        return self.total - self.layers


def count(model: Base) -> Counts:
    """Counts a built model. In an adapted one only the adapter is trained."""

    def trained(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    layers = list(model.model.layers)
    return Counts(
        total=parameters(model),
        layer=max(map(parameters, layers)),
        layers=sum(map(parameters, layers)),
        matrices=sum(p.numel() for layer in layers for p in layer.parameters() if p.dim() == 2),
        trained=trained(model),
        trained_layer=max(map(trained, layers)),
    )


@dataclass(frozen=True)
class Activations:
    """Bytes that a forward pass keeps for the backward pass."""

    fixed: int  # before and after the layers: masks, the head, the loss
    layer: int  # one layer, computed once
    stream: int  # what enters a layer: all that checkpointing keeps of it

    def kept(self, layers: int, checkpointing: bool) -> int:
        """In all, at the most; with checkpointing one layer at a time is there in full."""
        if checkpointing:
            return self.fixed + layers * self.stream + self.layer
        return self.fixed + layers * self.layer


def _real(model: Base, layers_in: torch.dtype) -> None:
    """From the meta device to (fake) CPU tensors, the layers' parameters in a dtype of their own."""
    inside = set(model.model.layers.modules())
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is None:
                continue
            dtype = layers_in if module in inside else torch.float32
            made = torch.empty(weight.shape, dtype=dtype, device="cpu")
            module._parameters[name] = nn.Parameter(made, weight.requires_grad)
        for name, table in module._buffers.items():
            if table is not None:
                module._buffers[name] = torch.empty(table.shape, dtype=table.dtype, device="cpu")


def saved_bytes(model: Base, rows: int, context: int, tasks: bool) -> tuple[int, int]:
    """(bytes saved for the backward pass besides the parameters, bytes of the residual stream)"""
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            saved[storage] = tensor
        return tensor

    tokens = torch.zeros(rows, context, dtype=torch.long)
    segments = torch.zeros(rows, context, dtype=torch.int32)
    numbers = torch.zeros(rows, dtype=torch.long) if tasks else None
    trace: list[Tensor] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16):
        hidden = model.hidden(tokens, segments, numbers, trace=trace)
        cross_entropy(model.lm_head(hidden).flatten(0, 1), tokens.flatten())
    stream = trace[0].numel() * trace[0].element_size()
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values()), stream


def activations(
    build: Build, rows: int, context: int, adapter: AdapterConfig | None, sharded: bool
) -> Activations:
    """Runs two and three layers on `rows` rows of `context` tokens, the loss at every position.

    The code is that of training under autocast to bf16, with attention that keeps no scores.
    sharded: layers are gathered in bf16; otherwise autocast makes bf16 copies of f32 weights, and
    what the backward pass needs of them counts here.
    """
    made = []
    # not one layer: before the first expert of a frozen base nothing is kept
    for layers in (2, 3):
        with FakeTensorMode():
            model = build(layers)
            if adapter is not None:
                attach(model, adapter)
            _real(model, torch.bfloat16 if sharded else torch.float32)
            model.train()
            made.append(saved_bytes(model, rows, context, adapter is not None))
    (two, stream), (three, _) = made
    layer = three - two
    return Activations(two - 2 * layer, layer, stream)
