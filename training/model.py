"""The base: a Baichuan2-style decoder with the parameter names of the published checkpoints.

RMSNorm before each part, rotary positions (pairs i and i + Dh/2), fused query-key-value projection
`W_pack`, SwiGLU, and an untied `NormHead`: logits are h @ normalise_rows(W).T.

B sequences, T tokens in this pass, S visible positions, L layers, D width, F inner width of the MLP,
H heads, Dh width of one head, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EOS = 2


@dataclass(frozen=True)
class Config:
    """Sizes of a model; `capacity` is the largest number of positions it is meant for."""

    vocab: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    capacity: int
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    def to_hf(self) -> dict:
        """The config.json of the exported checkpoint."""
        return {
            "architectures": ["BaichuanForCausalLM"],
            "model_type": "baichuan",
            "vocab_size": self.vocab,
            "hidden_size": self.width,
            "intermediate_size": self.mlp_width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "max_position_embeddings": self.capacity,
            "model_max_length": self.capacity,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": EOS,
            "pad_token_id": 0,
            "torch_dtype": "float32",
        }

    @classmethod
    def from_hf(cls, hf: dict) -> "Config":
        return cls(
            vocab=hf["vocab_size"],
            width=hf["hidden_size"],
            layers=hf["num_hidden_layers"],
            heads=hf["num_attention_heads"],
            mlp_width=hf["intermediate_size"],
            capacity=hf["max_position_embeddings"],
            norm_eps=hf["rms_norm_eps"],
            rope_theta=hf.get("rope_theta", 10000.0),
        )


class Cache:
    """Keys and values of past positions: L pairs of (B, H, capacity, Dh)."""

    def __init__(self, config: Config, batch: int, capacity: int, like: Tensor):
        shape = (config.layers, batch, config.heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.values = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.length = 0


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
        """(..., D) -> (..., D), computed in f32."""
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def rope_table(capacity: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines (capacity, Dh/2), made in f64."""
    frequency = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.outer(torch.arange(capacity, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: (B, H, T, Dh); cos, sin: (T, Dh/2). Rotates the pair (i, i + Dh/2)."""
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.heads, self.head_dim = config.heads, config.head_dim
        self.W_pack = Linear(config.width, 3 * config.width)
        self.o_proj = Linear(config.width, config.width)

    def forward(self, x: Tensor, rope, mask: Tensor | None, past, tasks: Tensor | None) -> Tensor:
        """x: (B, T, D) -> (B, T, D). past: (keys, values, length) of this layer, or None."""
        B, T, D = x.shape
        q, k, v = self.W_pack(x, tasks).view(B, T, 3, self.heads, self.head_dim).unbind(2)
        q = rotate(q.transpose(1, 2), *rope)
        k = rotate(k.transpose(1, 2), *rope)
        v = v.transpose(1, 2)
        if past is None:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        else:
            keys, values, start = past
            keys[:, :, start : start + T] = k
            values[:, :, start : start + T] = v
            k, v = keys[:, :, : start + T], values[:, :, : start + T]
            seen = None
            if T > 1:
                seen = torch.ones(T, start + T, dtype=torch.bool, device=x.device).tril(start)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
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

    def forward(self, x: Tensor, rope, mask: Tensor | None, past, tasks: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, past, tasks)
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


class Model(nn.Module):
    """The whole decoder. Sequence mode for training, cached mode for generation."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = NormHead(config)
        cos, sin = rope_table(config.capacity, config.head_dim, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Normal 0.02 everywhere; projections back into the residual stream shrink with depth."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                back = name.endswith(("o_proj.weight", "down_proj.weight"))
                std = 0.02 / math.sqrt(2 * self.config.layers) if back else 0.02
                nn.init.normal_(weight, std=std)

    def hidden(
        self,
        tokens: Tensor,
        segments: Tensor | None = None,
        tasks: Tensor | None = None,
        cache: Cache | None = None,
        trace: list[Tensor] | None = None,
    ) -> Tensor:
        """tokens: (B, T) -> (B, T, D) after the last norm.

        segments: (B, T) document numbers; a token sees only its own document (rotary positions are
        relative, so documents need no positions of their own). tasks: (B,) task numbers for
        adapters with gates per task. trace receives the residual stream after the embedding and
        after every layer.
        """
        T = tokens.shape[1]
        start = cache.length if cache is not None else 0
        rope = (self.cos[start : start + T], self.sin[start : start + T])
        mask = None
        if segments is not None:
            same = segments[:, :, None] == segments[:, None, :]
            mask = same.tril()[:, None]  # (B, 1, T, T)
        x = self.model.embed_tokens(tokens)
        if trace is not None:
            trace.append(x)
        for i, layer in enumerate(self.model.layers):
            past = None if cache is None else (cache.keys[i], cache.values[i], start)
            x = layer(x, rope, mask, past, tasks)
            if trace is not None:
                trace.append(x)
        if cache is not None:
            cache.length += T
        return self.model.norm(x)

    def forward(self, tokens: Tensor, segments: Tensor | None = None, tasks=None) -> Tensor:
        """(B, T) -> logits (B, T, V)"""
        return self.lm_head(self.hidden(tokens, segments, tasks))

    @torch.no_grad()
    def generate(
        self, prompt: list[int], count: int, task: int | None = None, stop: int | None = EOS
    ) -> tuple[list[int], list[float]]:
        """Greedy tokens after `prompt`, and by how much each beat the second best (in logits).

        Ends after `count` tokens, or with `stop` (which is part of the answer) if given.
        """
        device = self.lm_head.weight.device
        count = min(count, self.config.capacity - len(prompt))
        cache = Cache(self.config, 1, len(prompt) + count, self.lm_head.weight)
        tasks = None if task is None else torch.tensor([task], device=device)
        new = torch.tensor([prompt], device=device)
        answer: list[int] = []
        margins: list[float] = []
        while len(answer) < count:
            logits = self.lm_head(self.hidden(new, tasks=tasks, cache=cache)[:, -1]).float()
            best = logits.topk(2).values[0]
            answer.append(int(logits.argmax(-1)))
            margins.append(float(best[0] - best[1]))
            if answer[-1] == stop:
                break
            new = torch.tensor([[answer[-1]]], device=device)
        return answer, margins


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
