"""Multiple choice by the likelihood of each option as an answer to the question.

    score(option) = log p(option | question) / characters of the option

The options are not shown with the question: a small model cannot follow letters, but it can find the
right words likelier than the wrong ones. The end token does not count, so that an option is not
punished for being short. Exams that share no answer format compare through their chance level.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.batches import read_lines
from training.metrics.bootstrap import mean_interval
from training.metrics.likelihood import Row, sequence_nats

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Question:
    """One exam question; `answer` is the number of the right option."""

    id: str
    department: str
    question: str
    options: tuple[str, ...]
    answer: int
    source: str = UNKNOWN

    def __post_init__(self) -> None:
        if not 0 <= self.answer < len(self.options) or len(self.options) < 2:
            raise ValueError(
                f"exam {self.id}: answer {self.answer} of {len(self.options)} options; "
                "a question has at least two options and one of them is right"
            )
        if not all(option.strip() for option in self.options):
            raise ValueError(f"exam {self.id}: an option is empty, its likelihood says nothing")


def read_exam(corpus: Path, splits: Iterable[str] = ("test",)) -> list[Question]:
    """Questions of exam.jsonl, ordered by a hash of their id; none where there is no such file."""
    path = corpus / "exam.jsonl"
    if not path.is_file():
        return []
    wanted = set(splits)
    found = [
        Question(
            row["id"],
            row.get("department") or UNKNOWN,
            row["question"],
            tuple(row["options"]),
            row["answer"],
            row.get("source") or UNKNOWN,
        )
        for row in read_lines(path)
        if row["split"] in wanted
    ]
    return sorted(found, key=lambda question: (zlib.crc32(question.id.encode()), question.id))


def option_scores(model, tokenizer, questions: Sequence[Question], task: int | None) -> list:
    """Per question its options' log-likelihood per character: a list of arrays.

    A question that does not fit into the model with every option gets None in its place.
    """
    rows: list[Row] = []
    places: list[tuple[int, int] | None] = []
    for question in questions:
        prompt = tokenizer.encode_turns([{"role": "user", "text": question.question}])[0]
        options = [tokenizer.encode(option) for option in question.options]
        if len(prompt) + max(map(len, options)) > model.config.capacity + 1:
            places.append(None)
            continue
        first = rows[-1].owner + 1 if rows else 0
        for i, ids in enumerate(options):
            rows.append(Row(prompt + ids, [0] * len(prompt) + [1] * len(ids), first + i))
        places.append((first, first + len(options)))
    nats = sequence_nats(model, rows, task)[0].numpy()
    scores = []
    for question, place in zip(questions, places, strict=True):
        if place is None:
            scores.append(None)
            continue
        lengths = np.array([len(option) for option in question.options])
        scores.append(-nats[place[0] : place[1]] / lengths)
    return scores


def accuracy(questions: Sequence[Question], right: Sequence[bool]) -> dict:
    """Share of right answers with its interval, and what guessing gives."""
    interval = mean_interval(np.array(right, np.float64))
    chance = float(np.mean([1 / len(question.options) for question in questions]))
    return {
        "questions": len(questions),
        "accuracy": interval.as_dict(),
        "chance": round(chance, 6),
        "above_chance": interval.low > chance,
    }


def measure_exam(model, tokenizer, questions: Sequence[Question], task: int | None) -> dict:
    """Accuracy over all questions, per department and source; `questions` is 0 where there are none."""
    scores = option_scores(model, tokenizer, questions, task)
    kept = [(q, s) for q, s in zip(questions, scores, strict=True) if s is not None]
    if not kept:
        return {"questions": 0, "left_out": len(questions)}
    asked = [question for question, _ in kept]
    right = [int(np.argmax(score)) == question.answer for question, score in kept]

    def grouped(names: list[str]) -> dict[str, dict]:
        found = {}
        for name in sorted(set(names)):
            chosen = [i for i, other in enumerate(names) if other == name]
            found[name] = accuracy([asked[i] for i in chosen], [right[i] for i in chosen])
        return found

    return accuracy(asked, right) | {
        "left_out": len(questions) - len(kept),
        "departments": grouped([question.department for question in asked]),
        "sources": grouped([question.source for question in asked]),
    }
