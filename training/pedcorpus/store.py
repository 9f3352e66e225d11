"""Records in Parquet, written and read in row groups, so that no more than one is in memory."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from .record import Chat, Exam, Text, Triple, Turn
from .sources import licence_of

Record = Text | Chat | Exam | Triple

SCHEMA = pa.schema(
    [
        ("kind", pa.string()),  # text, chat, exam, triple
        ("id", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("task", pa.string()),
        ("split", pa.string()),
        ("templated", pa.bool_()),
        ("pediatric", pa.bool_()),
        ("department", pa.string()),
        ("age_group", pa.string()),
        ("group", pa.string()),
        ("built_question", pa.bool_()),
        ("provenance", pa.string()),
        ("text", pa.string()),
        ("turns", pa.list_(pa.struct([("role", pa.string()), ("text", pa.string())]))),
        ("options", pa.list_(pa.string())),
        ("answer", pa.int32()),
    ]
)
ROWS, CHARS = 2_000, 4_000_000  # a row group ends at whichever comes first


def row_of(record: Record) -> dict:
    """A record as a row of SCHEMA; a triple's text is `head TAB relation TAB tail`."""
    row: dict = {"source": record.source, "licence": licence_of(record.source)}
    if isinstance(record, Triple):
        return row | {
            "kind": "triple",
            "text": "\t".join((record.head, record.relation, record.tail)),
        }
    row |= {"id": record.id, "department": record.department}
    if isinstance(record, Exam):
        return row | {
            "kind": "exam",
            "split": record.split,
            "text": record.question,
            "options": list(record.options),
            "answer": record.answer,
            "provenance": record.explanation,
        }
    row |= {"age_group": record.age_group, "provenance": record.provenance}
    if isinstance(record, Text):
        return row | {"kind": "text", "pediatric": record.pediatric, "text": record.text}
    return row | {
        "kind": "chat",
        "task": record.task,
        "split": record.split,
        "templated": record.templated,
        "group": record.group,
        "built_question": record.built_question,
        "turns": [{"role": t.role, "text": t.text} for t in record.turns],
    }


def record_of(row: dict) -> Record:
    """The record of a row. Raises ValueError for an unknown kind."""
    kind, source = row["kind"], row["source"]
    if kind == "text":
        return Text(
            row["id"],
            source,
            row["pediatric"],
            row["text"],
            row["department"],
            row["age_group"],
            row["provenance"],
        )
    if kind == "chat":
        return Chat(
            row["id"],
            source,
            row["task"],
            row["templated"],
            tuple(Turn(t["role"], t["text"]) for t in row["turns"]),
            row["group"],
            row["split"],
            row["built_question"],
            row["department"],
            row["age_group"],
            row["provenance"],
        )
    if kind == "exam":
        return Exam(
            row["id"],
            source,
            row["text"],
            tuple(row["options"]),
            row["answer"],
            row["provenance"],
            row["department"],
            row["split"],
        )
    if kind == "triple":
        head, relation, tail = row["text"].split("\t")
        return Triple(source, head, relation, tail)
    raise ValueError(f"unknown kind of record: {kind!r} (text, chat, exam or triple)")


def _chars(row: dict) -> int:
    return len(row.get("text") or "") + sum(len(t["text"]) for t in row.get("turns") or ())


class Writer:
    """Writes records to one file; an older file is replaced only when all is written."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.partial = path, path.with_suffix(".partial")
        self._file = pq.ParquetWriter(self.partial, SCHEMA, compression="zstd")
        self._rows: list[dict] = []
        self._held = 0
        self.count = 0

    def put(self, record: Record) -> None:
        """Append a record."""
        row = row_of(record)
        self._rows.append(row)
        self._held += _chars(row)
        self.count += 1
        if len(self._rows) >= ROWS or self._held >= CHARS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
        self._rows, self._held = [], 0

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._flush()
        self._file.close()
        if kind is None:
            self.partial.replace(self.path)
        else:
            self.partial.unlink(missing_ok=True)


def batches(path: Path) -> Iterator[list[Record]]:
    """The records of a file, a row group at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield [record_of(row) for row in file.read_row_group(group).to_pylist()]


def read(path: Path) -> Iterator[Record]:
    """The records of a file in order."""
    for batch in batches(path):
        yield from batch


def write(path: Path, records: Iterable[Record]) -> int:
    """Write all records, return how many."""
    with Writer(path) as writer:
        for record in records:
            writer.put(record)
    return writer.count
