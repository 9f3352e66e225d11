"""How likely held-out answers are: nats, bits per character, and how near two models are.

    bits per character = total nats / ln 2 / characters of the answers

Nats are summed over the answers' tokens and the end token after each, characters over the text only.
The number does not depend on the tokenizer, so models with different ones compare.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.metrics.items import Item, windows

BATCH_TOKENS = 6144
HEAD_ROWS = 2048  # positions whose logits are held at once


@dataclass(frozen=True)
class Scores:
    """Per item (N,): nats and tokens of its answers (the end tokens are in), characters."""

    nats: np.ndarray
    tokens: np.ndarray
    characters: np.ndarray
    left_out: int  # items of which an answer does not fit into the model

    def only(self, wanted: np.ndarray) -> "Scores":
        """Of the items that `wanted` (N,) bool marks; left_out is of all."""
        kept = (self.nats[wanted], self.tokens[wanted], self.characters[wanted])
        return Scores(*kept, self.left_out)

    @property
    def loss(self) -> float:
        """Nats per answer token."""
        return float(self.nats.sum() / max(1, self.tokens.sum()))

    @property
    def bits_per_character(self) -> float:
        return float(self.nats.sum() / math.log(2) / max(1, self.characters.sum()))


@dataclass(frozen=True)
class Row:
    """Ids of one forward pass, which of them count (0 or 1 each), and the item they belong to."""

    ids: list[int]
    mask: list[int]
    owner: int


def batches(rows: Sequence[Row], tokens: int = BATCH_TOKENS) -> list[list[Row]]:
    """Rows of about one length together, so that a batch holds at most so many ids with padding."""
    made: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):
        if not made or (len(made[-1]) + 1) * len(row.ids) > tokens:
            made.append([])
        made[-1].append(row)
    return made


def pad(batch: Sequence[Row], device) -> tuple[Tensor, Tensor]:
    """ids (B, T + 1) padded on the right, and which of the T targets count (B, T)."""
    longest = max(len(row.ids) for row in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    counted = torch.zeros(len(batch), longest, dtype=torch.bool)
    for i, row in enumerate(batch):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        counted[i, : len(row.ids)] = torch.tensor(row.mask, dtype=torch.bool)
    return ids.to(device), counted[:, 1:].to(device)


@torch.no_grad()
def sequence_nats(model, rows: Sequence[Row], task: int | None) -> tuple[Tensor, Tensor]:
    """Nats and counted tokens summed per owner, f64: two tensors of the largest owner + 1 entries.

    Padding stands on the right, where a causal model does not look. task: the row of the gates.
    """
    device = model.lm_head.weight.device
    owners = 1 + max((row.owner for row in rows), default=-1)
    nats = torch.zeros(owners, dtype=torch.float64)
    count = torch.zeros(owners, dtype=torch.float64)
    for batch in batches(rows):
        ids, counted = pad(batch, device)
        tasks = None if task is None else torch.full((len(batch),), task, device=device)
        hidden = model.hidden(ids[:, :-1], None, tasks)[counted]
        targets = ids[:, 1:][counted]
        owner = torch.tensor([row.owner for row in batch])[counted.nonzero()[:, 0].cpu()]
        losses = [
            F.cross_entropy(model.lm_head(part).float(), goal, reduction="none")
            for part, goal in zip(hidden.split(HEAD_ROWS), targets.split(HEAD_ROWS), strict=True)
        ]
        if losses:
            nats.index_add_(0, owner, torch.cat(losses).double().cpu())
            count.index_add_(0, owner, torch.ones(len(owner), dtype=torch.float64))
    return nats, count


def score_items(model, tokenizer, items: Sequence[Item], task: int | None) -> Scores:
    """All answers of every item, each after all that was said before it (as far as it fits).

    task: number of the task whose gates are used; None for a model without gates.
    """
    rows: list[Row] = []
    kept: list[Item] = []
    for item in items:
        made = windows(tokenizer, item.turns, model.config.capacity)
        if made:
            rows += [Row(ids, mask, len(kept)) for ids, mask in made]
            kept.append(item)
    nats, count = sequence_nats(model, rows, task)
    characters = [
        sum(len(t["text"]) for t in item.turns if t["role"] == "assistant") for item in kept
    ]
    return Scores(
        nats.numpy(), count.numpy(), np.array(characters, np.float64), len(items) - len(kept)
    )


def divergence(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """(sum over rows of KL(p || q), rows with the same first token); both log-probs (N, V)."""
    kl = F.kl_div(q, p, log_target=True, reduction="sum")
    return kl, (p.argmax(-1) == q.argmax(-1)).sum()
