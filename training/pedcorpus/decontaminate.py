"""No training record may hold an evaluation item: overlap of character n-grams.

Every evaluation item is two units: what the user says and what the assistant says (an exam: the
question, and the question with its options). A training record is contaminated when it holds at
least SHARE of the distinct n-grams of a unit, or RUN of them. n = 10 characters are about six
Chinese words, the length of the 13-token grams of the GPT-3 report (Brown et al. 2020, appendix C)
in spirit: long enough that a shared gram is no idiom, short enough that changed punctuation and a
few exchanged words leave most grams as they are. As there, grams that are everybody's do not
count: those of COMMON or more evaluation groups (phrases of templates), which are known from the
evaluation side alone, so that no number of copies in training can make an item common.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .grams import grams_of

N = 10
SHARE = 0.5
RUN = 60
FEWEST = 8  # distinct grams: a shorter unit is only compared as a whole question (split.py)
COMMON = 3
_BITS = 24


@dataclass
class Index:
    """The n-grams of the evaluation items. `add` all, then `freeze`, then `overlaps`."""

    hashes: list[np.ndarray] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    share: float = SHARE
    common: int = 0

    def add(self, texts: Sequence[str], group: int) -> None:
        """The units of one item; `group` is the same for items that belong together."""
        grams = grams_of(texts, N)
        for start, end in zip(grams.offsets[:-1], grams.offsets[1:], strict=True):
            if end - start >= FEWEST:
                self.hashes.append(np.unique(grams.hashes[start:end]))
                self.groups.append(group)

    def freeze(self) -> None:
        """Drop the common grams and sort the rest for look-up."""
        owners = np.repeat(np.arange(len(self.hashes)), [len(h) for h in self.hashes])
        flat = np.concatenate(self.hashes) if self.hashes else np.zeros(0, np.uint64)
        group = np.array(self.groups, np.uint64)[owners] if len(owners) else flat
        by = np.lexsort((group, flat))
        flat, owners, group = flat[by], owners[by], group[by]
        new_key = np.r_[True, flat[1:] != flat[:-1]] if len(flat) else np.zeros(0, bool)
        new_group = new_key | np.r_[True, group[1:] != group[:-1]] if len(flat) else new_key
        key_at = np.cumsum(new_key) - 1
        groups_of_key = np.bincount(key_at, weights=new_group) if len(flat) else flat
        rare = groups_of_key[key_at] < COMMON if len(flat) else new_key
        self._flat, self._owner = flat[rare], owners[rare]
        self.sizes = np.bincount(self._owner, minlength=len(self.hashes))
        self.common = int(len(flat) - rare.sum())
        self.hashes.clear()
        self._maybe = np.zeros(1 << _BITS, bool)
        self._maybe[(self._flat >> np.uint64(64 - _BITS)).astype(np.int64)] = True

    def overlaps(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) float: the largest share of a unit's grams that each text holds, 1 for a long run."""
        worst = np.zeros(len(texts))
        grams = grams_of(texts, N)
        near = np.flatnonzero(self._maybe[(grams.hashes >> np.uint64(64 - _BITS)).astype(np.int64)])
        if not len(near) or not len(self._flat):
            return worst
        text = np.searchsorted(grams.offsets, near, side="right") - 1
        pairs = np.unique(np.stack([text.astype(np.uint64), grams.hashes[near]], 1), axis=0)
        low = np.searchsorted(self._flat, pairs[:, 1], side="left")
        high = np.searchsorted(self._flat, pairs[:, 1], side="right")
        many = high - low
        if not many.sum():
            return worst
        texts_hit = np.repeat(pairs[:, 0].astype(np.int64), many)
        at = np.repeat(low - np.r_[0, np.cumsum(many)[:-1]], many) + np.arange(many.sum())
        units = self._owner[at]
        both, counts = np.unique(np.stack([texts_hit, units], 1), axis=0, return_counts=True)
        size = self.sizes[both[:, 1]]
        share = np.where(size >= FEWEST, counts / np.maximum(size, 1), 0.0)
        share = np.where(counts >= RUN, 1.0, share)
        np.maximum.at(worst, both[:, 0], share)
        return worst

    def report(self) -> dict:
        """The settings and how many units and grams there are."""
        return {
            "n": N,
            "share": self.share,
            "run": RUN,
            "units": len(self.sizes),
            "units_long_enough": int((self.sizes >= FEWEST).sum()),
            "grams": len(self._flat),
            "common_grams_not_counted": self.common,
        }

    def contaminated(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) bool: texts that hold too much of an evaluation item."""
        return self.overlaps(texts) >= self.share


def index_of(items: Iterable[tuple[Sequence[str], int]]) -> Index:
    """A frozen index of (units, group) items."""
    index = Index()
    for units, group in items:
        index.add(units, group)
    index.freeze()
    return index
