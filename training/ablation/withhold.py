"""Human-written dialogues that no variant trains on, so that recipes are never compared on the test split.

The corpus itself keeps only a dozen human-written dialogues of some tasks for validation. So a share of
the training ones joins them here, with everything made of the same dialogue taken out of training.
"""

import json
import re
from pathlib import Path

from training.batches import TASKS
from training.journal import replace_text
from training.prepare import hashed, read_lines

SHARE = 0.2
MARK = "withheld.json"
_BASE = re.compile(r"(?:pair-)?(.*?\d+)(?:-(?:[a-z]|w\d+|c\d+|\d+))*$")


def base_of(name: str) -> str:
    """`cmdd-10000894` of `cmdd-10000894-n-w0`: what all records of one dialogue share."""
    match = _BASE.match(name)
    return match[1] if match else name


def withhold(corpus: Path, share: float = SHARE) -> int:
    """Rewrites chat.jsonl, text.jsonl and pairs.jsonl of a prepared copy -> dialogues withheld.

    Does nothing where it was done before.
    """
    mark = corpus / MARK
    if mark.exists():
        return int(json.loads(mark.read_text())["dialogues"])
    chosen = {
        base_of(record["id"])
        for record in read_lines(corpus / "chat.jsonl")
        if record["split"] == "train"
        and record["task"] in TASKS
        and not record["templated"]
        and hashed("withhold", base_of(record["id"])) < share * 2.0**64
    }

    def rewrite(name: str, change) -> None:
        changed = (change(record) for record in read_lines(corpus / name))
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in changed if record)
        replace_text(corpus / name, "".join(lines))

    def moved(record: dict) -> dict | None:
        if base_of(record["id"]) not in chosen or record["split"] != "train":
            return record
        return None if record["templated"] else record | {"split": "valid"}

    def kept(record: dict) -> dict | None:
        return None if base_of(record["id"]) in chosen else record

    rewrite("text.jsonl", kept)
    rewrite("pairs.jsonl", kept)
    rewrite("chat.jsonl", moved)
    replace_text(mark, json.dumps({"share": share, "dialogues": len(chosen)}) + "\n")
    return len(chosen)
