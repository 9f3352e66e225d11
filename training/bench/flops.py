"""Floating-point operations that a step needs, by formula. One multiply-add counts two.

A linear of K inputs and N outputs costs 2 K N per position forward, as much again for the gradient of
its input and as much again for that of its weight. For a base whose N_hidden values are all trained
that is the usual 6 N_hidden per position. Beside it: the head, only at positions whose loss counts, and
attention, 4 D per visible pair of positions and layer forward (scores and mix) and twice that backward.
Pairs that the mask hides are no work, though a kernel may compute them; nor is what a kernel computes
twice to save memory. Norms, rotations, softmax, the optimiser: not counted. So the utilisation that
follows is of the model's own work ("model FLOPs utilisation", PaLM, arXiv:2204.02311).

In the adapter stage the base is frozen: no weight gradients, and no gradients at all before the first
adapted linear. DFPO's policy costs what SFT costs: the frozen reference is computed once per pair, ahead
of the steps (`stages/reference.py`), so no step that is measured computes one, and none is counted.
"""

from dataclasses import dataclass

from training.experts import AdapterConfig
from training.model import Config


@dataclass(frozen=True)
class Rows:
    """What a step's batch asks for, summed over its rows."""

    positions: int  # B * T
    counted: int  # positions whose loss counts
    pairs: int  # (query, visible key) pairs

    @classmethod
    def of(cls, rows: int, length: int, documents: int, counted: int) -> "Rows":
        """`rows` of `length` positions cut into equal documents; `counted` positions in each row."""
        each = length // documents
        rest = length - each * documents
        pairs = documents * each * (each + 1) // 2 + rest * (rest + 1) // 2
        return cls(rows * length, rows * counted, rows * pairs)


def linears(config: Config) -> list[tuple[str, int, int]]:
    """(name, K, N) of a layer in the order of the forward pass."""
    D, F = config.width, config.mlp_width
    return [
        ("W_pack", D, 3 * D),
        ("o_proj", D, D),
        ("gate_proj", D, F),
        ("up_proj", D, F),
        ("down_proj", F, D),
    ]


def forward_flops(config: Config, rows: Rows) -> int:
    """One forward pass of the base."""
    layer = sum(2 * K * N for _, K, N in linears(config)) * rows.positions
    layer += 4 * config.width * rows.pairs
    return config.layers * layer + 2 * config.width * config.vocab * rows.counted


def full_flops(config: Config, rows: Rows) -> int:
    """Forward and backward with every matrix trained: CPT, SFT, and the policy of DFPO."""
    return 3 * forward_flops(config, rows)


def adapter_flops(config: Config, rows: Rows, adapter: AdapterConfig, router: bool = True) -> int:
    """Forward and backward with experts (and the token router with its noise) on a frozen base."""
    total = 2 * 2 * config.width * config.vocab * rows.counted  # the head: no weight gradient
    specific = adapter.experts - int(adapter.universal)
    gates = 2 * 2 * specific if router else 0  # per input: router and noise
    inner = adapter.experts * adapter.rank
    flows = False  # whether the residual stream that comes in wants a gradient
    for _ in range(config.layers):
        for name, K, N in linears(config):
            if name == "o_proj":  # attention lies before it
                flows = flows or "W_pack" in adapter.targets
                total += 4 * config.width * rows.pairs * (3 if flows else 1)
            if name == "gate_proj":
                flows = flows or "o_proj" in adapter.targets
            if name == "down_proj":
                flows = flows or bool({"gate_proj", "up_proj"} & set(adapter.targets))
            each = 2 * K * N * (2 if flows else 1)
            if name in adapter.targets:
                each += (2 * inner + gates) * K * (3 if flows else 2) + 3 * 2 * inner * N
            total += each * rows.positions
        flows = flows or "down_proj" in adapter.targets
    return total
