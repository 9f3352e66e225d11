"""Decoders of transformers (Llama, Qwen2, Qwen3) behind the interface of this project's own.

B sequences, T tokens in this pass, S visible positions, D width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.base import Base
from training.positions import counted_from, visible

FAMILIES = ("llama", "qwen2", "qwen3")


@dataclass(frozen=True)
class WrappedConfig:
    """Sizes of a wrapped decoder; named as in `training.config.Config`."""

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    capacity: int
    family: str

    @classmethod
    def of(cls, hf: Any) -> "WrappedConfig":
        """From a configuration of transformers."""
        return cls(
            vocab=hf.vocab_size,
            width=hf.hidden_size,
            layers=hf.num_hidden_layers,
            heads=hf.num_attention_heads,
            kv_heads=hf.num_key_value_heads,
            head_dim=getattr(hf, "head_dim", None) or hf.hidden_size // hf.num_attention_heads,
            mlp_width=hf.intermediate_size,
            capacity=hf.max_position_embeddings,
            family=hf.model_type,
        )


class WrappedCache:
    """Keys and values as transformers keeps them; `first` as in training.model.Cache."""

    def __init__(self, hf: Any, first: Tensor | None):
        from transformers import DynamicCache

        self.held = DynamicCache(config=hf)
        self.length = 0
        self.first = first

    def select(self, rows: Tensor) -> None:
        """Keeps these rows (N,) only, in this order."""
        self.held.batch_select_indices(rows)
        self.first = None if self.first is None else self.first[rows]


class TiedHead(nn.Module):
    """Logits from the embedding's own rows, which stay a parameter of the embedding alone."""

    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        self.__dict__["embedding"] = embedding  # not a submodule: its weight would be there twice

    @property
    def weight(self) -> Tensor:
        return self.__dict__["embedding"].weight

    def forward(self, h: Tensor) -> Tensor:
        """(..., D) -> (..., V)"""
        return F.linear(h, self.weight)


def _take_tasks(layer: nn.Module, inputs: tuple, named: dict[str, Any]) -> tuple:
    """Hands the tasks of the rows to the adapted linears of a layer.

    They travel as an argument of the layer, so that a layer which is computed again in the backward
    pass finds those of its own forward pass.
    """
    tasks = named.pop("tasks", None)
    for module in layer.modules():
        if hasattr(module, "current_tasks"):
            module.current_tasks = tasks
    return inputs, named


class Wrapped(Base):
    """A decoder of transformers. Parameters keep the names of its checkpoints."""

    config: WrappedConfig

    def __init__(self, causal: Any):
        super().__init__()
        self.model = causal.model
        self.hf_config = causal.config
        self.config = WrappedConfig.of(causal.config)
        self.tied = bool(causal.config.tie_word_embeddings)
        self.lm_head = TiedHead(self.model.embed_tokens) if self.tied else causal.lm_head
        for layer in self.model.layers:
            layer.register_forward_pre_hook(_take_tasks, with_kwargs=True)

    def new_cache(self, batch: int, capacity: int, first: Tensor | None = None) -> WrappedCache:
        return WrappedCache(self.hf_config, first)

    @contextmanager
    def _tracing(self, trace: list[Tensor] | None) -> Iterator[None]:
        """Lets layers append the residual stream to `trace` while the block runs."""
        hooks = []
        if trace is not None:
            embed = self.model.embed_tokens
            hooks.append(embed.register_forward_hook(lambda _m, _i, out: trace.append(out)))
            for layer in self.model.layers:
                hooks.append(layer.register_forward_hook(lambda _m, _i, out: trace.append(out)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def hidden(
        self,
        tokens: Tensor,
        segments: Tensor | None = None,
        tasks: Tensor | None = None,
        cache: WrappedCache | None = None,
        trace: list[Tensor] | None = None,
    ) -> Tensor:
        T = tokens.shape[1]
        start = cache.length if cache is not None else 0
        first = cache.first if cache is not None else None
        mask = None
        if segments is not None:
            same = segments[:, :, None] == segments[:, None, :]
            mask = same.tril()[:, None]  # (B, 1, T, T)
        elif cache is not None:
            mask = visible(T, start, first, tokens.device)
            mask = mask[None, None] if mask is not None and mask.dim() == 2 else mask
        if first is not None:
            positions = counted_from(first, start, T, self.config.capacity)
        else:
            positions = torch.arange(start, start + T, device=tokens.device)[None]
        for layer in self.model.layers:
            layer.gradient_checkpointing = self.checkpointing and cache is None
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        with self._tracing(trace):
            made = self.model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=None if cache is None else cache.held,
                use_cache=cache is not None,
                tasks=tasks,
            )
        if cache is not None:
            cache.length += T
        return made.last_hidden_state


def wrapped_skeleton(hf: dict[str, Any], dtype: torch.dtype) -> Wrapped:
    """The decoder of a config.json with parameters on the meta device and tables of positions real.

    Raises ValueError for a configuration with sliding windows, which this wrapper would ignore.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    family = hf["model_type"]
    config = AutoConfig.for_model(**hf)
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        raise ValueError(f"config.json: {family} with sliding windows is not supported")
    config.use_cache = False  # caches are passed in
    with torch.device("meta"):
        causal: Any = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa"
        )
    causal.model.rotary_emb = type(causal.model.rotary_emb)(config=config)
    return Wrapped(causal)
