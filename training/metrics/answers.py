"""Greedy answers to held-out questions, and what can be counted in a text without a reference."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.generate import generate_many
from training.metrics.items import Item, fitting_prompt
from training.metrics.ngram import characters
from training.pedcorpus.doses import count_doses

LOOP_SIZE = 8
LOOP_TIMES = 3


@dataclass(frozen=True)
class Answer:
    """What a model said to an item. `ended`: by itself, before the limit."""

    item: Item
    text: str
    ended: bool

    @property
    def pair(self) -> tuple[str, str]:
        return self.text, self.item.reference


def save_answers(path: Path, answers: Sequence[Answer]) -> None:
    """One JSON line per answer, in the form that the judge reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "id": a.item.id,
            "task": a.item.task,
            "templated": a.item.templated,
            "question": "\n".join(turn["text"] for turn in a.item.prompt),
            "answer": a.text,
            "reference": a.item.reference,
            "ended": a.ended,
        }
        for a in answers
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(lines, encoding="utf-8")


def loops(text: str, size: int = LOOP_SIZE, times: int = LOOP_TIMES) -> bool:
    """Whether some run of `size` characters occurs at least `times` times."""
    text = "".join(characters(text))
    counts = Counter(text[i : i + size] for i in range(len(text) - size + 1))
    return any(count >= times for count in counts.values())


def answer_items(
    model, tokenizer, items: Sequence[Item], task: int | None, count: int, penalty: float
) -> list[Answer]:
    """Greedy answers of at most `count` tokens; an item whose question does not fit is left out.

    Bytes that are no whole character are left out of the text, as the page does.

    task: number of the task whose gates are used; None for a model without gates.
    """
    room = model.config.capacity - count
    fitted = [(item, fitting_prompt(tokenizer, item, room)) for item in items]
    asked = [(item, prompt) for item, prompt in fitted if prompt is not None]
    tokens = generate_many(
        model,
        [prompt for _, prompt in asked],
        count,
        tasks=None if task is None else [task] * len(asked),
        penalty=penalty,
        stop=tokenizer.eos,
    )
    return [
        Answer(
            item,
            tokenizer.decode(ids).replace("\ufffd", ""),
            bool(ids) and ids[-1] == tokenizer.eos,
        )
        for (item, _), ids in zip(asked, tokens, strict=True)
    ]


def text_counts(answers: Sequence[Answer]) -> dict[str, float]:
    """Shares that loop and that ended, mean lengths in characters, doses and answers with one."""
    count = max(1, len(answers))
    length = sum(len(a.text) for a in answers) / count
    wanted = sum(len(a.item.reference) for a in answers) / count
    doses = [count_doses(a.text) for a in answers]
    return {
        "answers": len(answers),
        "loop_rate": sum(loops(a.text) for a in answers) / count,
        "end_rate": sum(a.ended for a in answers) / count,
        "length": length,
        "reference_length": wanted,
        "length_ratio": length / max(1.0, wanted),
        "doses": sum(doses),  # in all answers
        "answers_with_doses": sum(dose > 0 for dose in doses),
    }
