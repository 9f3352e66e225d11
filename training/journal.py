"""metrics.jsonl of a stage, the same numbers for TensorBoard, and one line on standard error."""

import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from training.distributed import is_main


@cache
def _tensorboard() -> Any:
    """The writer's class, or None (said once) where tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("tensorboard is not installed: no event files, only metrics.jsonl", file=sys.stderr)
        return None
    return SummaryWriter


def read_journal(path: Path) -> list[dict]:
    """Rows of a metrics.jsonl. A last line that was cut off in writing is left out; any other line
    that is no JSON raises ValueError."""
    rows = []
    # not splitlines: an answer may hold other characters that end a line, such as U+2028
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: {error}") from error
    return rows


def replace_text(path: Path, text: str) -> None:
    """Writes a file so that it is either the old one or the whole new one."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class Journal:
    """Written by rank 0. A resumed stage forgets the rows of steps that it will do again."""

    def __init__(self, folder: Path, name: str, from_step: int):
        self.path = folder / "metrics.jsonl"
        self.name = name
        self.writer = None
        if not is_main():
            return
        kept = []
        if from_step > 0 and self.path.exists():
            kept = [row for row in read_journal(self.path) if row["step"] <= from_step]
        replace_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        writer = _tensorboard()
        if writer is not None:
            self.writer = writer(str(folder / "tensorboard"), purge_step=from_step + 1)

    def write(self, row: dict) -> None:
        """Appends a row: `step`, numbers, and `valid` with the held-out numbers by name."""
        if not is_main():
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.writer is not None:
            for key, value in row.items():
                named = value if isinstance(value, dict) else {"": value}
                for name, number in named.items():
                    if key != "step":
                        tag = f"{key}/{name}" if name else key
                        self.writer.add_scalar(tag, number, row["step"])
        shown = " ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in row.items()
        )
        line = f"{self.name}: {shown}"
        live = sys.stderr.isatty() and "valid" not in row
        sys.stderr.write(f"\r\033[K{line[:160]}" if live else f"{line}\n")
        sys.stderr.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
