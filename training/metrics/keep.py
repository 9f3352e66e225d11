"""A package's measurement on disk, so that an edition is measured once and compared many times.

The file is named after all that the numbers depend on: the package's manifest (it holds the hashes of
its files), the corpus's dialogues, how many items, and the code that measures.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from training.journal import replace_text
from training.metrics.answers import Answer
from training.metrics.items import Item
from training.metrics.likelihood import Scores

ROOM = Path(__file__).parent.parent
CODE = ("bars.py", "generate.py", "package.py", "metrics/*.py", "pedcorpus/doses.py")


@dataclass(frozen=True)
class Measurement:
    """What was measured of a package: numbers, scores to compare editions by, and its answers."""

    numbers: dict
    scores: dict[str, Scores]
    answers: list[Answer]


def key_of(package: Path, corpus: Path, most: int) -> str:
    """16 hex digits of a package folder, a corpus folder and the number of items."""
    digest = sha256(f"{most} ".encode())
    code = sorted(path for pattern in CODE for path in ROOM.glob(pattern))
    for path in (package / "manifest.json", corpus / "chat.jsonl", *code):
        digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def write(path: Path, found: Measurement, items: Sequence[Item]) -> None:
    """`items` are those the corpus has; answers refer to them by place."""
    places = {item.key: place for place, item in enumerate(items)}
    rows = [[places[a.item.key], a.text, a.ended] for a in found.answers]
    scores = {
        task: {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(s).items()}
        for task, s in found.scores.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {"numbers": found.numbers, "scores": scores, "answers": rows}
    replace_text(path, json.dumps(made, ensure_ascii=False))


def read(path: Path, items: Sequence[Item]) -> Measurement | None:
    """None where there is no such file."""
    if not path.is_file():
        return None
    made = json.loads(path.read_text(encoding="utf-8"))
    scores = {
        task: Scores(
            np.array(s["nats"]), np.array(s["tokens"]), np.array(s["characters"]), s["left_out"]
        )
        for task, s in made["scores"].items()
    }
    answers = [Answer(items[place], text, ended) for place, text, ended in made["answers"]]
    return Measurement(made["numbers"], scores, answers)
