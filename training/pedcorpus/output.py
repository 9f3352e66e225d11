"""The files of a corpus: written beside the old ones, then put in their place."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TextIO

from .record import Chat, Exam, Pair, Text
from .sources import licence_of

JSONL = ("text.jsonl", "chat.jsonl", "completions.jsonl", "exam.jsonl", "pairs.jsonl")


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes the place of `path` only when all was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def put(file: TextIO, row: dict) -> None:
    """One line of JSON."""
    file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _turns(turns: Iterable) -> list[dict]:
    return [{"role": t.role, "text": t.text} for t in turns]


def text_row(t: Text) -> dict:
    """A line of text.jsonl."""
    return {
        "id": t.id,
        "source": t.source,
        "licence": licence_of(t.source),
        "kind": "text",
        "pediatric": t.pediatric,
        "provenance": t.provenance,
        "text": t.text,
    }


def chat_row(c: Chat) -> dict:
    """A line of chat.jsonl."""
    return {
        "id": c.id,
        "source": c.source,
        "licence": licence_of(c.source),
        "task": c.task,
        "split": c.split,
        "templated": c.templated,
        "built_question": c.built_question,
        "department": c.department,
        "age_group": c.age_group,
        "provenance": c.provenance,
        "turns": _turns(c.turns),
    }


def completion_row(c: Chat) -> dict:
    """A line of completions.jsonl: the dialogue of a training record as running text."""
    roles = {"user": "家长" if c.task != "general" else "问", "assistant": "答"}
    if len(c.turns) == 2:
        text = c.turns[0].text + "\n" + c.turns[1].text
    else:
        text = "\n".join(f"{roles[t.role]}：{t.text}" for t in c.turns)
    return {
        "id": c.id,
        "source": c.source,
        "licence": licence_of(c.source),
        "kind": "instruction",
        "task": c.task,
        "text": text,
    }


def exam_row(e: Exam) -> dict:
    """A line of exam.jsonl."""
    return {
        "id": e.id,
        "source": e.source,
        "licence": licence_of(e.source),
        "department": e.department,
        "question": e.question,
        "options": list(e.options),
        "answer": e.answer,
        "split": e.split,
    }


def pair_row(p: Pair) -> dict:
    """A line of pairs.jsonl."""
    return {
        "id": p.id,
        "source": p.source,
        "licence": licence_of(p.source),
        "task": p.task,
        "turns": _turns(p.turns),
        "chosen": p.chosen,
        "rejected": p.rejected,
        "kind": p.kind,
    }


def hash_files(folder: Path) -> dict[str, str]:
    """sha-256 of the corpus's files by path inside the folder; also written to hashes.json."""
    found: dict[str, str] = {}
    names = [*JSONL, *(f"records/{p.name}" for p in sorted((folder / "records").glob("*.parquet")))]
    for name in sorted(names):
        digest = sha256()
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        found[name] = digest.hexdigest()
    with replacing(folder / "hashes.json") as file:
        file.write(json.dumps(found, indent=1) + "\n")
    return found
