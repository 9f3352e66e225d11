"""Counts of what a corpus holds: the numbers of report.json."""

import resource
from collections import Counter, defaultdict

from .ledger import Ledger
from .output import completion_row
from .record import SPLITS, TASKS, Chat, Exam, Pair, Text
from .sources import SOURCES, licence_of
from .store import Record


def peak_rss_mb() -> float:
    """The most memory this process has held, in 10^6 bytes (Linux counts in KiB)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)


class Tally:
    """Counts records one by one."""

    def __init__(self) -> None:
        self.text: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.chat: Counter[tuple[str, str, str, bool]] = Counter()  # source, task, split, templated
        self.chars: Counter[tuple[str, str, bool]] = Counter()  # task, split, templated
        self.answers: Counter[tuple[str, str, bool]] = Counter()  # chars of the assistant
        self.turns: Counter[tuple[str, str, bool]] = Counter()
        self.departments: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.ages: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.exams: Counter[tuple[str, str]] = Counter()
        self.completion_chars = 0
        self.triples: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, str, str]] = Counter()  # source, task, kind

    def count(self, record: Record) -> None:
        """Count a record that stays."""
        if isinstance(record, Text):
            row = self.text[record.source]
            row["records"] += 1
            row["chars"] += len(record.text)
            row["pediatric_chars"] += len(record.text) if record.pediatric else 0
        elif isinstance(record, Chat):
            key = (record.task, record.split, record.templated)
            self.chat[(record.source, *key)] += 1
            self.chars[key] += sum(len(t.text) for t in record.turns)
            self.answers[key] += sum(len(t.text) for t in record.turns if t.role == "assistant")
            self.turns[key] += len(record.turns)
            if record.split == "train":
                self.completion_chars += len(completion_row(record)["text"])
            self.departments[record.task][record.department] += 1
            self.ages[record.task][record.age_group] += 1
        elif isinstance(record, Exam):
            self.exams[record.source, record.split] += 1
        else:
            self.triples[record.source] += 1

    def count_pair(self, pair: Pair) -> None:
        """Count a pair."""
        self.pairs[pair.source, pair.task, pair.kind] += 1

    def _chats(self) -> dict[str, dict[str, dict[str, int]]]:
        made: Counter[tuple[str, str, bool]] = Counter()
        for (_, task, split, templated), n in self.chat.items():
            made[task, split, templated] += n
        return {
            task: {
                split: {
                    name: made[task, split, templated]
                    for name, templated in (("human", False), ("templated", True))
                }
                | {
                    f"{name}_answer_chars": self.answers[task, split, templated]
                    for name, templated in (("human", False), ("templated", True))
                }
                for split in SPLITS
            }
            for task in TASKS
        }

    def report(self, ledger: Ledger, decontamination: dict, seconds: float) -> dict:
        """All numbers. Departments and ages are counted over all splits."""
        chats = self._chats()
        by_source: Counter[tuple[str, str, str]] = Counter()
        for (source, task, split, _), n in self.chat.items():
            by_source[source, task, split] += n
        names = {*self.text, *(k[0] for k in (*self.chat, *self.exams, *self.pairs)), *self.triples}
        text = self.text.values()
        return {
            "seconds": round(seconds, 1),
            "peak_rss_mb": peak_rss_mb(),
            "text": {
                "records": sum(row["records"] for row in text),
                "chars": sum(row["chars"] for row in text),
                "pediatric_chars": sum(row["pediatric_chars"] for row in text),
                "chars_by_source": {name: row["chars"] for name, row in sorted(self.text.items())},
                "pediatric_chars_by_source": {
                    name: row["pediatric_chars"] for name, row in sorted(self.text.items())
                },
            },
            "completion_chars": self.completion_chars,
            "chat": {
                task: {s: row[s]["human"] + row[s]["templated"] for s in SPLITS}
                for task, row in chats.items()
            },
            "chat_chars": sum(self.chars.values()),
            "chat_human": {
                task: sum(row[s]["human"] for s in SPLITS) for task, row in chats.items()
            },
            "human_and_templated": chats,
            "chat_by_source": [
                {
                    "source": source,
                    "task": task,
                    "split": split,
                    "records": n,
                    "human": self.chat[source, task, split, False],
                }
                for (source, task, split), n in sorted(by_source.items())
            ],
            "departments": {
                task: dict(row.most_common()) for task, row in self.departments.items()
            },
            "age_groups": {task: dict(row.most_common()) for task, row in self.ages.items()},
            "exams": [
                {"source": source, "split": split, "records": n}
                for (source, split), n in sorted(self.exams.items())
            ],
            "triples": dict(self.triples),
            "pairs": {
                "records": sum(self.pairs.values()),
                "kinds": _sum(self.pairs, 2),
                "tasks": _sum(self.pairs, 1),
                "sources": _sum(self.pairs, 0),
            },
            "licences": {
                name: {"licence": licence_of(name), "tier": SOURCES[name].tier}
                for name in sorted(names)
                if name in SOURCES
            },
            "decontamination": decontamination,
            "absent": ledger.absent,
            "sources": ledger.as_dict(),
        }


def _sum(counts: Counter, place: int) -> dict[str, int]:
    total: Counter[str] = Counter()
    for key, n in counts.items():
        total[key[place]] += n
    return dict(total.most_common())
