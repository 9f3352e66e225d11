"""Answers that no language model made: the nearest training answer, and any training answer."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training.metrics.items import Item, read_items
from training.metrics.ngram import words

DRAWS = 5


def search_words(text: str) -> list[str]:
    """jieba words that a search can use: punctuation and spaces are left out."""
    return [word for word in words(text) if any(c.isalnum() for c in word)]


@dataclass
class TrainingAnswers:
    """Training dialogues of one task, in the form of test items: what was asked, and the last answer."""

    items: list[Item]
    _index: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.items:
            raise ValueError("no training answers of this task: there is no baseline")

    def nearest(self, items: Sequence[Item]) -> list[str]:
        """The answer of the training item whose questions are nearest to each item's, by BM25."""
        import bm25s

        if self._index is None:
            self._index = bm25s.BM25()
            self._index.index([search_words(i.asked) for i in self.items], show_progress=False)
        if not items:
            return []
        queries = [search_words(item.asked) for item in items]
        found: Any = self._index.retrieve(queries, k=1, show_progress=False)
        return [self.items[int(place)].reference for place in found.documents[:, 0]]

    def drawn(self, item: Item, draws: int = DRAWS) -> list[str]:
        """Training answers drawn at random; which ones depends on the item's id only."""
        random = np.random.default_rng(zlib.crc32(item.id.encode()))
        return [self.items[i].reference for i in random.integers(0, len(self.items), draws)]


def training_answers(
    corpus: Path, tasks: Sequence[str], kind: str = "all"
) -> dict[str, TrainingAnswers]:
    """The training split of chat.jsonl, by task: `human`, `templated` or `all` of it.

    A task without answers of that kind gets all of its own. ValueError for a task without any.
    """
    items = read_items(corpus, tasks, "train")
    found = {}
    for task in tasks:
        every = [item for item in items if item.task == task]
        wanted = [i for i in every if kind == "all" or i.templated is (kind == "templated")]
        found[task] = TrainingAnswers(wanted or every)
    return found
