"""The base: the Baichuan2 decoder with the parameter names of its published checkpoints.

RMSNorm before each part, fused query-key-value projection `W_pack`, SwiGLU, and an untied
`NormHead`: logits are h @ normalise_rows(W).T. Positions are rotary (pairs i and i + Dh/2), as in
Baichuan2-7B, or linear biases on the scores (ALiBi), as in Baichuan2-13B.

B sequences, T tokens in this pass, S visible positions, L layers, D width, F inner width of the MLP,
H heads, Dh width of one head, V vocabulary.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.attention import document_attention
from training.base import Base
from training.config import EOS, Config
from training.positions import (
    alibi_bias,
    alibi_slopes,
    counted_from,
    rope_table,
    rotate,
    visible,
)

__all__ = ["EOS", "Cache", "Config", "Linear", "Model", "NormHead", "RmsNorm", "parameters"]


class Cache:
    """Keys and values of past positions: L pairs of (B, H, capacity, Dh).

    first: (B,) where each row begins; what stands before it is padding that nothing after it sees,
    and positions are counted from it. None: every row begins at 0.
    """

    def __init__(
        self, config: Config, batch: int, capacity: int, like: Tensor, first: Tensor | None = None
    ):
        shape = (config.layers, batch, config.heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.values = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.length = 0
        self.first = first

    def select(self, rows: Tensor) -> None:
        """Keeps these rows (N,) only, in this order."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.first = None if self.first is None else self.first[rows]


class Linear(nn.Linear):
    """y = W x without bias. An adapter replaces it by a module that also uses `tasks`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor, tasks: Tensor | None = None) -> Tensor:
        return F.linear(x, self.weight)


class RmsNorm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D) of the weight's dtype, computed in f32."""
        x = x.float()
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return x.to(self.weight.dtype) * self.weight


class Seen(NamedTuple):
    """What a pass may see; without either, everything up to the query, and with a past everything."""

    mask: Tensor | None = None  # bool, or a bias on the scores
    documents: Tensor | None = None  # (B, T) numbers: each document by itself


class Attention(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.heads, self.head_dim = config.heads, config.head_dim
        self.W_pack = Linear(config.width, 3 * config.width)
        self.o_proj = Linear(config.width, config.width)

    def forward(self, x: Tensor, rope, seen: Seen, past, tasks: Tensor | None) -> Tensor:
        """x: (B, T, D) -> (B, T, D). past: (keys, values, length) of this layer, or None.

        rope: (cos, sin) or None.
        """
        B, T, D = x.shape
        q, k, v = self.W_pack(x, tasks).view(B, T, 3, self.heads, self.head_dim).unbind(2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        if past is not None:
            keys, values, start = past
            keys[:, :, start : start + T] = k
            values[:, :, start : start + T] = v
            k, v = keys[:, :, : start + T], values[:, :, : start + T]
        if seen.documents is not None:
            y = document_attention(q, k, v, seen.documents)
        else:
            causal = seen.mask is None and past is None
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen.mask, is_causal=causal)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, D), tasks)


class Mlp(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.gate_proj = Linear(config.width, config.mlp_width)
        self.up_proj = Linear(config.width, config.mlp_width)
        self.down_proj = Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor, tasks: Tensor | None) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x, tasks)) * self.up_proj(x, tasks), tasks)


class Layer(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = Mlp(config)
        self.input_layernorm = RmsNorm(config.width, config.norm_eps)
        self.post_attention_layernorm = RmsNorm(config.width, config.norm_eps)

    def forward(self, x: Tensor, rope, seen: Seen, past, tasks: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rope, seen, past, tasks)
        return x + self.mlp(self.post_attention_layernorm(x), tasks)


class Decoder(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.width, config.norm_eps)


class NormHead(nn.Module):
    """Logits from rows of unit length. `normalised` rows are used as they are (quantised weights)."""

    def __init__(self, config: Config):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.vocab, config.width))
        self.normalised = False

    def forward(self, h: Tensor) -> Tensor:
        """(..., D) -> (..., V)"""
        rows = self.weight if self.normalised else F.normalize(self.weight, dim=-1)
        return F.linear(h, rows)


class Model(Base):
    """The whole decoder. Sequence mode for training, cached mode for generation."""

    config: Config
    cos: Tensor  # rotary positions only
    sin: Tensor
    slopes: Tensor  # ALiBi only

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = NormHead(config)
        self.set_positions()
        self.reset()

    def set_positions(self, device: torch.device | str | None = None) -> None:
        """Makes the tables of positions, which are no part of a checkpoint."""
        tables = {"slopes": alibi_slopes(self.config.heads)}
        if self.config.positions == "rope":
            config = self.config
            cos, sin = rope_table(config.capacity, config.head_dim, config.rope_theta)
            tables = {"cos": cos, "sin": sin}
        for name, table in tables.items():
            self.register_buffer(name, table.to(device), persistent=False)

    @torch.no_grad()
    def reset(self) -> None:
        """Normal 0.02 everywhere; projections back into the residual stream shrink with depth."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                back = name.endswith(("o_proj.weight", "down_proj.weight"))
                std = 0.02 / math.sqrt(2 * self.config.layers) if back else 0.02
                nn.init.normal_(weight, std=std)

    def new_cache(self, batch: int, capacity: int, first: Tensor | None = None) -> Cache:
        return Cache(self.config, batch, capacity, self.lm_head.weight, first)

    def _rope(self, tokens: int, start: int, first: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines of the T positions from `start` on: (T, Dh/2) or (B, 1, T, Dh/2)."""
        if self.config.positions == "alibi":
            return None
        if first is None:
            return self.cos[start : start + tokens], self.sin[start : start + tokens]
        at = counted_from(first, start, tokens, self.config.capacity)
        return self.cos[at][:, None], self.sin[at][:, None]

    def _seen(
        self, tokens: Tensor, segments: Tensor | None, cache: Cache | None, start: int
    ) -> Seen:
        rotary, device = self.config.positions == "rope", tokens.device
        if segments is not None and cache is None and rotary and device.type == "cpu":
            return Seen(documents=segments)
        return Seen(mask=self._mask(tokens, segments, cache, start))

    def _mask(
        self, tokens: Tensor, segments: Tensor | None, cache: Cache | None, start: int
    ) -> Tensor | None:
        """What attention may see, or a bias on it; None where that is plainly the past."""
        T, device = tokens.shape[1], tokens.device
        seen = None
        if segments is not None:
            same = segments[:, :, None] == segments[:, None, :]
            seen = same.tril()[:, None]  # (B, 1, T, T)
        elif cache is not None:
            seen = visible(T, start, cache.first, device)
        if self.config.positions == "rope":
            return seen
        if seen is None:
            seen = torch.ones(T, start + T, dtype=torch.bool, device=device).tril(start)
        # in the dtype of the scores: otherwise every layer would cast it and keep its cast
        dtype = self.model.embed_tokens.weight.dtype
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        return alibi_bias(self.slopes, seen, start, dtype)

    def hidden(
        self,
        tokens: Tensor,
        segments: Tensor | None = None,
        tasks: Tensor | None = None,
        cache: Cache | None = None,
        trace: list[Tensor] | None = None,
    ) -> Tensor:
        T = tokens.shape[1]
        start = cache.length if cache is not None else 0
        rope = self._rope(T, start, None if cache is None else cache.first)
        seen = self._seen(tokens, segments, cache, start)
        again = self.checkpointing and cache is None and torch.is_grad_enabled()
        x = self.model.embed_tokens(tokens)
        if trace is not None:
            trace.append(x)
        for i, layer in enumerate(self.model.layers):
            past = None if cache is None else (cache.keys[i], cache.values[i], start)
            if again:
                x = checkpoint(layer, x, rope, seen, past, tasks, use_reentrant=False)
            else:
                x = layer(x, rope, seen, past, tasks)
            if trace is not None:
                trace.append(x)
        if cache is not None:
            cache.length += T
        return self.model.norm(x)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
