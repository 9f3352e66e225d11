"""From packed rows to batches.

`Mix` draws rows from several pools: in CPT it starts rich in text and drifts into instructions, and
inside a kind it draws by priority times the rows of the pool (priority sampling, after HuatuoGPT-II).
`training.prepare` says which sets there are and how they are written.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.prepare import CHAT_KINDS as CHAT_KINDS
from training.prepare import TASKS
from training.prepare import prepare as prepare
from training.prepare import read_lines as read_lines


class Batch(NamedTuple):
    tokens: Tensor  # (B, T)
    targets: Tensor  # (B, T), the next token
    counted: Tensor | None  # (B, T) bool, or None: every position counts
    segments: Tensor | None  # (B, T)
    tasks: Tensor | None  # (B,)

    @property
    def answers(self) -> Tensor:
        """(B, T) bool, of a batch of chats."""
        if self.counted is None:
            raise ValueError("a batch of plain text has no answers")
        return self.counted

    def split(self, pieces: int) -> list["Batch"]:
        """The rows in equal pieces, in order. Raises ValueError where they do not divide."""
        rows = len(self.tokens)
        if rows % pieces:
            raise ValueError(f"a batch of {rows} rows does not divide into {pieces} pieces")
        size = rows // pieces

        def part(at: int, of: Tensor | None) -> Tensor | None:
            return None if of is None else of[at : at + size]

        return [
            Batch(
                self.tokens[at : at + size],
                self.targets[at : at + size],
                part(at, self.counted),
                part(at, self.segments),
                part(at, self.tasks),
            )
            for at in range(0, rows, size)
        ]


def counted_tokens(batch: Batch) -> float:
    """How many tokens the mean loss of a batch is taken over."""
    return batch.targets.numel() if batch.counted is None else float(batch.counted.sum())


class Pool:
    """One packed set, in an order that depends on seed, name and epoch only."""

    def __init__(self, folder: Path, name: str, seed: int):
        self.name = name
        self.kind = name.split("-")[0]
        self.seed = (seed, zlib.crc32(name.encode()))
        self.arrays = {
            part: np.load(path, mmap_mode="r")
            for part in ("tokens", "segments", "counted")
            if (path := folder / f"{name}.{part}.npy").exists()
        }
        self.epoch = -1
        self.order = np.zeros(0, np.int64)
        task = name.split("-", 1)[-1].split(".")[0]
        self.task = TASKS.index(task) if task in TASKS else None

    def __len__(self) -> int:
        return len(self.arrays["tokens"])

    def row(self, number: int) -> int:
        """Index of the number-th row ever drawn from this pool."""
        epoch, place = divmod(number, len(self))
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = np.random.default_rng((*self.seed, epoch)).permutation(len(self))
        return int(self.order[place])


@dataclass
class Mix:
    """Draws rows from pools; its whole state is how many each pool has given."""

    pools: list[Pool]
    priority: dict[str, float]
    seed: int

    def __post_init__(self) -> None:
        self.pools = [pool for pool in self.pools if len(pool) > 0]
        if not self.pools:
            raise ValueError("no training rows: the corpus is empty")
        self.drawn = {pool.name: 0 for pool in self.pools}

    def weights(self, share: dict[str, float]) -> np.ndarray:
        """Chance of every pool. share: of each kind; within a kind priority times rows.

        Rows, not rows left: over several epochs a pool would slow down at the end of each, and a
        small one of high priority would stall there.
        """
        weights = np.zeros(len(self.pools))
        for kind, part in share.items():
            members = [i for i, pool in enumerate(self.pools) if pool.kind == kind]
            raw = np.array(
                [
                    self.priority.get(self.pools[i].name.split(".")[0], 1.0) * len(self.pools[i])
                    for i in members
                ]
            )
            if len(members):
                weights[members] = part * raw / raw.sum()
        return weights / weights.sum()

    def draw(self, step: int, rows: int, share: dict[str, float]) -> list[tuple[Pool, int]]:
        random = np.random.default_rng((self.seed, step))
        chosen = []
        for _ in range(rows):
            pool = self.pools[random.choice(len(self.pools), p=self.weights(share))]
            chosen.append((pool, pool.row(self.drawn[pool.name])))
            self.drawn[pool.name] += 1
        return chosen


def to_batch(rows: list[tuple[Pool, int]], device: torch.device | str = "cpu") -> Batch:
    """Stacks rows of T + 1 tokens into a batch of T positions."""

    def stack(part: str, dtype) -> np.ndarray:
        return np.stack([pool.arrays[part][i] for pool, i in rows]).astype(dtype)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    parts = rows[0][0].arrays
    tokens = stack("tokens", np.int64)
    segments = stack("segments", np.int32) if "segments" in parts else None
    counted = stack("counted", np.bool_) if "counted" in parts else None
    if segments is not None and counted is not None:
        # the answer's first token is predicted by a position of the same document
        counted[:, 1:] &= segments[:, 1:] == segments[:, :-1]
    tasks = [pool.task for pool, _ in rows]
    return Batch(
        tensor(tokens[:, :-1]),
        tensor(tokens[:, 1:]),
        None if counted is None else tensor(counted[:, 1:]),
        None if segments is None else tensor(segments[:, :-1]),
        None if None in tasks else torch.tensor(tasks, device=device),
    )


def trim(batch: Batch) -> Batch:
    """Cuts the padding that all rows share (rows with one document each)."""
    last = int(batch.answers.any(0).nonzero().max()) + 1
    return Batch(
        batch.tokens[:, :last], batch.targets[:, :last], batch.answers[:, :last], None, batch.tasks
    )


def fixed_batches(
    folder: Path, name: str, rows: int, limit: int, device: torch.device | str = "cpu"
) -> list[Batch]:
    """The first `limit` rows of a held-out set in batches of `rows`; the rest of a batch is short."""
    pool = Pool(folder, name, 0)
    order = [(pool, i) for i in range(min(limit, len(pool)))]
    return [to_batch(order[i : i + rows], device) for i in range(0, len(order), rows)]
