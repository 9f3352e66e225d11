"""Positions of tokens: rotary tables, linear biases (ALiBi), and what a token may see.

B sequences, T tokens in this pass, S visible positions, H heads, Dh width of one head.
"""

import math

import torch
from torch import Tensor


def rope_table(capacity: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines (capacity, Dh/2), made in f64."""
    frequency = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.outer(torch.arange(capacity, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: (B, H, T, Dh); cos, sin: (T, Dh/2) or (B, 1, T, Dh/2). Rotates the pair (i, i + Dh/2)."""
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def alibi_slopes(heads: int) -> Tensor:
    """(H,) f32 slopes of linear biases (Press et al., "Train Short, Test Long", arXiv:2108.12409).

    For a power of two n: 2^(-8k/n), k = 1..n. For other counts: those of the largest power of two
    below, then every second one of twice that power.
    """
    power = 2 ** int(math.log2(heads))

    def geometric(n: int, exponents: range) -> list[float]:
        return [2.0 ** (-8.0 * k / n) for k in exponents]

    extra = geometric(2 * power, range(1, 2 * (heads - power), 2))
    return torch.tensor(geometric(power, range(1, power + 1)) + extra, dtype=torch.float32)


def alibi_bias(slopes: Tensor, seen: Tensor, start: int, dtype: torch.dtype) -> Tensor:
    """slopes: (H,), seen: (..., T, S) bool -> what is added to the scores, (1 or B, H, T, S).

    -slope * distance, and -inf where a key is not seen. Baichuan2 adds slope * key position: per
    query that is a constant more, which softmax does not see, but distances stay exact in 16 bits
    where they matter, near the query.
    """
    T, S = seen.shape[-2:]
    keys = torch.arange(S, device=seen.device, dtype=torch.float32)
    distance = keys - keys[start : start + T, None]  # (T, S), not above 0 where seen
    bias = (slopes[:, None, None] * distance).to(dtype)
    seen = seen if seen.dim() == 4 else seen[None, None]
    return torch.where(seen, bias, -torch.inf)


def visible(
    tokens: int, start: int, first: Tensor | None, device: torch.device | str
) -> Tensor | None:
    """Which of the start + T positions the last T see: (T, S), (B, 1, T, S) with padding, or None
    where one token sees them all.

    Padding sees padding: a query that sees nothing at all would have no softmax.
    """
    if first is None:
        if tokens == 1:
            return None
        return torch.ones(tokens, start + tokens, dtype=torch.bool, device=device).tril(start)
    keys = torch.arange(start + tokens, device=device)
    queries = keys[start:, None]
    padding = keys < first[:, None, None]  # (B, 1, S)
    late = queries >= first[:, None, None]  # (B, T, 1)
    return ((keys <= queries) & ~(padding & late))[:, None]


def counted_from(first: Tensor, start: int, tokens: int, capacity: int) -> Tensor:
    """(B, T) positions of the T tokens from `start` on in rows that begin at `first`."""
    slots = torch.arange(start, start + tokens, device=first.device)
    return (slots - first[:, None]).clamp(0, capacity - 1)
