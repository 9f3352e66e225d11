"""Book-keeping: what each source gave, and what each cleaning step removed or changed."""

import re
from collections import Counter, defaultdict

SAMPLE_CHARS = 120
SAMPLES = 3
# Samples show what a step took away, never whom it protects: figures, addresses, names go.
_MASKS = (
    (re.compile(r"\S+@\S+|(?:https?://|www\.)\S+", re.A), "***"),
    (re.compile(r"\d{5,}|(?<=\d)[\d-]{4,}"), "*****"),
    (re.compile(r"((?:QQ|微信|威信|VX|WX|扣扣)\D{0,6})[A-Za-z0-9_-]{4,}", re.I), r"\1***"),
    (re.compile("(?<![一-鿿])[一-鿿]{1,3}(?=大夫|主任|医师|教授|老师)"), "某"),
    (re.compile("(?<=姓名)[：: ]*[一-鿿]{2,4}"), "某某"),
)


def masked(text: str) -> str:
    """The text without figures, addresses and names that could point to a person."""
    for pattern, instead in _MASKS:
        text = pattern.sub(instead, text)
    return text


class Ledger:
    """Counts per source and step, with up to three masked samples of each."""

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self.removed: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.changed: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.samples: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
        self.absent: list[str] = []

    def saw(self, source: str, count: int = 1) -> None:
        """Count records that were read."""
        self.read[source] += count

    def keep(self, source: str) -> None:
        """Count a record that entered the corpus."""
        self.kept[source] += 1

    def drop(self, source: str, step: str, sample: str) -> None:
        """Count a record (or a part of one) that a step removed."""
        self.removed[source][step] += 1
        self._sample("removed", source, step, sample)

    def change(self, source: str, step: str, before: str) -> None:
        """Count a record that a step changed; `before` is what it took away or replaced."""
        self.changed[source][step] += 1
        self._sample("changed", source, step, before)

    def _sample(self, kind: str, source: str, step: str, sample: str) -> None:
        samples = self.samples[kind, source, step]
        if len(samples) < SAMPLES:
            samples.append(masked(sample)[:SAMPLE_CHARS])

    def as_dict(self) -> dict:
        """Per source: read, kept, and per step the count and samples removed and changed."""

        def steps(kind: str, counts: Counter[str], name: str) -> dict:
            return {
                step: {"count": count, "samples": self.samples[kind, name, step]}
                for step, count in counts.most_common()
            }

        names = sorted({*self.read, *self.kept, *self.removed, *self.changed})
        return {
            name: {
                "read": self.read[name],
                "kept": self.kept[name],
                "removed": steps("removed", self.removed[name], name),
                "changed": steps("changed", self.changed[name], name),
            }
            for name in names
        }
