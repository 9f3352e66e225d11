"""Log-probabilities of the frozen reference of DFPO: computed once per pair, then read from disk.

Every pair is visited in several epochs, and the reference never changes. So its sums are computed
ahead of the steps in blocks of pairs (sorted by length, without gradients), kept in a file, and the
reference leaves memory again. The file is named by the reference's weights and its precision, and a
row is found by its own content: neither another order nor another set of pairs can mix them up.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from training.batches import Batch, Pool, to_batch, trim
from training.distributed import is_main, say
from training.journal import replace_text

BLOCK = 512  # rows that are computed before the reference is let go
ROWS = 16  # most in one forward pass
PASS_BYTES = 4 << 30  # most that the logits of one forward pass take, where that is one row or more


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pass_tokens(vocab: int) -> int:
    """Tokens of one forward pass: 10 bytes for each of their logits, in bf16, f32 and as a softmax."""
    return max(1, PASS_BYTES // (10 * vocab))


def passes(lengths: Sequence[int], tokens: int) -> Iterator[slice]:
    """Cuts rows that stand in the order of their lengths into forward passes of at most ROWS rows and
    `tokens` tokens, padding included; a row that is longer goes by itself."""
    start = 0
    for end in range(1, len(lengths) + 1):
        full = end == len(lengths) or end - start == ROWS
        if full or (end - start + 1) * lengths[end] > tokens:
            yield slice(start, end)
            start = end


def row_keys(batch: Batch) -> list[str]:
    """What names each row of a batch: its tokens, and which of them are the answer.

    Padding does not count, so a row keeps its name however its batch is trimmed.
    """
    tokens, targets = batch.tokens.cpu().numpy(), batch.targets.cpu().numpy()
    answers = batch.answers.cpu().numpy()
    keys = []
    for row in range(len(tokens)):
        last = int(answers[row].nonzero()[0].max()) + 1
        content = hashlib.blake2b(digest_size=12)
        for part in (tokens[row, :1], targets[row, :last]):
            content.update(part.astype("<u4").tobytes())
        content.update(answers[row, :last].tobytes())
        keys.append(content.hexdigest())
    return keys


class Reference:
    """Sums of log-probabilities by row.

    open_model() gives the function that computes them, batch -> (B,), and the model's vocabulary; it
    is called only when some are missing, and what it gives is dropped after each block.
    """

    def __init__(
        self,
        path: Path,
        open_model: Callable[[], tuple[Callable[[Batch], Tensor], int]],
        device: torch.device | str = "cpu",
    ):
        self.path, self.open_model, self.device = path, open_model, device
        self.sums: dict[str, float] = {}
        if path.exists():
            self.sums = json.loads(path.read_text())

    @torch.no_grad()
    def add(self, rows: list[tuple[Pool, int]]) -> int:
        """Computes what is missing of these rows -> how many that were."""
        batches = [to_batch([row]) for row in rows]
        missing = {}
        for row, batch in zip(rows, batches, strict=True):
            key = row_keys(batch)[0]
            if key not in self.sums:
                missing[key] = (int(trim(batch).tokens.shape[1]), row)
        if not missing:
            return 0
        say(f"dfpo: reference log-probabilities of {len(missing)} answers")
        compute, vocab = self.open_model()
        order = sorted(missing, key=lambda key: missing[key][0])
        for part in passes([missing[key][0] for key in order], pass_tokens(vocab)):
            keys = order[part]
            sums = compute(trim(to_batch([missing[key][1] for key in keys], self.device)))
            self.sums |= dict(zip(keys, sums.double().tolist(), strict=True))
        return len(missing)

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self.path, json.dumps(self.sums))

    def of(self, batch: Batch) -> Tensor:
        """(B,) f32 on the batch's device. Raises KeyError for a row that was never added."""
        sums = [self.sums[key] for key in row_keys(batch)]
        return torch.tensor(sums, dtype=torch.float32, device=batch.tokens.device)


class Order(Protocol):
    """Pairs by step."""

    def rows(self, step: int, pairs: int) -> list[tuple[Pool, int]]:
        """chosen, rejected, chosen, rejected ..."""
        ...


class Ahead:
    """Rows of pairs by step, with the reference's sums of the steps to come at hand.

    pairs: of a step; steps: of the whole stage, None where it ends by the clock.
    """

    def __init__(self, reference: Reference, order: Order, pairs: int, steps: int | None = None):
        self.reference, self.order, self.pairs, self.steps = reference, order, pairs, steps
        self.until = 0  # steps before this one are ready

    def rows(self, step: int) -> list[tuple[Pool, int]]:
        """The rows of a step: chosen, rejected, chosen, rejected ..."""
        if step >= self.until:
            # blocks lie on a fixed grid: a resumed stage groups rows as the first one did
            each = max(1, BLOCK // (2 * self.pairs))
            first = step // each * each
            self.until = first + each
            if self.steps is not None:
                self.until = min(self.until, self.steps)
            block = (self.order.rows(i, self.pairs) for i in range(first, self.until))
            if self.reference.add([row for rows in block for row in rows]) and is_main():
                self.reference.save()
        return self.order.rows(step, self.pairs)
