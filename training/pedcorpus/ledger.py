"""Book-keeping: what each source gave, and what each cleaning step removed."""

from collections import Counter, defaultdict

SAMPLE_CHARS = 120


class Ledger:
    """Counts per source, with two samples of everything removed."""

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self.removed: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.samples: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self.absent: list[str] = []

    def saw(self, source: str, count: int = 1) -> None:
        """Count records that were read."""
        self.read[source] += count

    def keep(self, source: str) -> None:
        """Count a record that entered the corpus."""
        self.kept[source] += 1

    def drop(self, source: str, step: str, sample: str) -> None:
        """Count a record that a step removed; the first two are kept as samples."""
        self.removed[source][step] += 1
        samples = self.samples[source, step]
        if len(samples) < 2:
            samples.append(sample[:SAMPLE_CHARS])

    def as_dict(self) -> dict:
        """Per source: read, kept, and per step the count and samples removed."""
        names = sorted({*self.read, *self.kept, *self.removed})
        return {
            name: {
                "read": self.read[name],
                "kept": self.kept[name],
                "removed": {
                    step: {"count": count, "samples": self.samples[name, step]}
                    for step, count in self.removed[name].most_common()
                },
            }
            for name in names
        }
