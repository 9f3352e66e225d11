"""From records to the records that stay, out of core.

`take` cleans each record and spills it to Parquet; in memory stay a few hashes, a MinHash signature
and some flags per record, about 0.4 kB. `settle` decides from these what goes: duplicates, what
shares a question or a group with a held-out record, what holds an evaluation item, what exceeds the
cap on templates. `kept` streams the rest.
"""

import re
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .clean import key_of
from .decontaminate import Index
from .dedup import near_repeats, repeats, signatures
from .filters import body_of, clean_exam, cleaned
from .grams import hash_text
from .ledger import Ledger
from .phrasing import number
from .quality import LONGEST, chunks, joined_of, shortened, windows
from .record import TASKS, Chat, Exam, Text, Triple, Turn
from .split import RANK, split_of
from .store import Record, Writer, batches

REPLACED = "replaced by what was constructed of it"
REASONS = (
    "",
    "exact duplicate",
    "near duplicate",
    "shares a held-out question",
    "group is held out",
    "holds an evaluation item",
    "template over the cap",
    REPLACED,
)
_KINDS = {Text: 0, Chat: 1, Exam: 2, Triple: 3}
_PENDING = 512
_CHUNK = re.compile(r"-c\d+$")  # a part of a long text


class Pipeline:
    """The records on disk in `work`, what is known of each, and what was decided."""

    def __init__(self, work: Path, ledger: Ledger) -> None:
        self.work, self.ledger = work, ledger
        self.files: list[Path] = []
        self.kind, self.rank, self.task = array("B"), array("B"), array("B")
        self.templated = array("B")
        self.exact, self.asked, self.group, self.name = (array("Q") for _ in range(4))
        self.signed = array("q")  # place of the signature, -1 for none
        self._signatures: list[np.ndarray] = []
        self._places = 0
        self._pending: list[tuple[int, str]] = []
        self.reason = np.zeros(0, np.uint8)
        self.decontamination: dict = {}
        self._held_questions: set[int] = set()
        self._replaced: set[int] = set()

    def __len__(self) -> int:
        return len(self.kind)

    # -- taking in ---------------------------------------------------------------------------

    def take(
        self, records: Iterable[Record], parent: Callable[[Record], str] = lambda record: ""
    ) -> None:
        """Clean the records and spill them to a new file. parent: the id of the dialogue that a
        record stands for, if it stands for one; that goes when anything of the record stays."""
        path = self.work / f"{len(self.files):03d}.parquet"
        with Writer(path) as writer:
            for record in tqdm(records, desc="reading", unit=" records", file=sys.stderr):
                for part in self._prepared(record):
                    self._note(part)
                    writer.put(part)
                    if name := parent(record):
                        self._replaced.add(number(name))
            self._sign()
        self.files.append(path)

    def _prepared(self, record: Record) -> Iterator[Record]:
        if isinstance(record, Triple):
            yield record
        elif isinstance(record, Exam):
            exam = clean_exam(record, self.ledger)
            if exam is not None:
                yield exam
        elif isinstance(record, Text):
            for text in chunks(record):
                done = cleaned(text, self.ledger)
                if done is not None:
                    yield done
        else:
            chat = record.with_split(split_of(record))
            # what is held out keeps the limits by which it was chosen; training takes parts
            for part in self._parts(chat) if chat.split == "train" else (chat,):
                done = cleaned(part, self.ledger)
                if done is not None:
                    yield done

    @staticmethod
    def _parts(chat: Chat) -> Iterator[Chat]:
        if not chat.templated and len(chat.turns) == 2 and len(chat.answer) > LONGEST:
            answer = shortened(chat.answer)
            yield replace(chat, turns=(chat.turns[0], Turn("assistant", answer)))
        elif chat.templated:
            yield chat
        else:
            yield from windows(chat)

    def _note(self, record: Record) -> None:
        self.kind.append(_KINDS[type(record)])
        signed = ""
        exact = asked = group = rank = task = templated = name = 0
        if isinstance(record, Text):
            exact, signed, name = hash_text(record.text), record.text, number(record.id)
            group = number(group_of(_CHUNK.sub("", record.id).replace("cmdd-", "cmdd/", 1)))
        elif isinstance(record, Chat):
            exact = hash_text("".join(t.text for t in record.turns))
            asked, name = number(key_of(record.question)), number(record.id)
            group = number(group_of(record.group)) if record.group else 0
            rank, task, templated = RANK[record.split], TASKS.index(record.task), record.templated
            if not templated and not record.group.startswith("own/"):
                signed = record.answer if len(record.turns) == 2 else joined_of(record)
        elif isinstance(record, Exam):
            exact, asked = hash_text(record.question + "".join(record.options)), 0
            rank, name = RANK[record.split], number(record.id)
        self.rank.append(rank)
        self.task.append(task)
        self.templated.append(bool(templated))
        for column, value in (
            (self.exact, exact),
            (self.asked, asked),
            (self.group, group),
            (self.name, name),
        ):
            column.append(value)
        self.signed.append(-1)
        if signed:
            self._pending.append((len(self) - 1, signed))
            if len(self._pending) >= _PENDING:
                self._sign()

    def _sign(self) -> None:
        if not self._pending:
            return
        digests, long = signatures([text for _, text in self._pending])
        for (row, _), enough in zip(self._pending, long, strict=True):
            if enough:
                self.signed[row] = self._places
                self._places += 1
        self._signatures.append(digests[long])
        self._pending.clear()

    # -- deciding ----------------------------------------------------------------------------

    def settle(self, cap: int = 0) -> None:
        """Decide for every record why it goes, or that it stays; `cap` templates per task."""
        kind, rank = np.array(self.kind), np.array(self.rank)
        asked, group = np.array(self.asked, np.uint64), np.array(self.group, np.uint64)
        before, self.reason = self.reason, np.zeros(len(self), np.uint8)
        if self._replaced:
            self._replace(kind, before)
        # held-out records come first: of two that are alike the training record goes
        order = np.argsort(np.argsort(-rank.astype(np.int64), kind="stable"), kind="stable")
        self._duplicates(kind, order)
        chat = kind == _KINDS[Chat]
        held = self._staying & (rank > 0)
        self._mark(chat & (rank < _highest(asked, np.where(chat, rank, 0))), 3)
        held &= self._staying
        self._held_questions = {int(a) for a in asked[held & chat] if a}
        train = (rank == 0) & (kind != _KINDS[Exam])
        self._mark(train & (group != 0) & np.isin(group, group[held & (group != 0)]), 4)
        self._decontaminate(train)
        if cap:
            self._cap(train & chat, cap)

    def holds_out(self, question: str) -> bool:
        """Whether a held-out record asks just this; for questions too short for n-grams."""
        return number(key_of(question)) in self._held_questions

    @property
    def _staying(self) -> np.ndarray:
        return self.reason == 0

    def _mark(self, which: np.ndarray, reason: int) -> None:
        self.reason[which & self._staying] = reason

    def _replace(self, kind: np.ndarray, before: np.ndarray) -> None:
        """Dialogues that others stand for go; so do again their copies that had gone before."""
        self.reason[: len(before)] = before
        replaced = np.isin(np.array(self.name, np.uint64), np.array([*self._replaced], np.uint64))
        self._mark((kind == _KINDS[Chat]) & replaced, REASONS.index(REPLACED))

    def _duplicates(self, kind: np.ndarray, order: np.ndarray) -> None:
        exact = np.array(self.exact, np.uint64)
        signed = np.array(self.signed, np.int64)
        every = np.concatenate(self._signatures) if self._signatures else np.zeros((0, 1))
        for value in (_KINDS[Text], _KINDS[Chat], _KINDS[Exam]):
            rows = np.flatnonzero((kind == value) & self._staying)
            self._mark(_scatter(rows, repeats(exact[rows], order[rows]), len(self)), 1)
            rows = rows[(signed[rows] >= 0) & (self.reason[rows] == 0)]
            if len(rows):
                near = near_repeats(every[signed[rows]], order[rows])
                self._mark(_scatter(rows, near, len(self)), 2)

    def _decontaminate(self, train: np.ndarray) -> None:
        index = Index()
        for row, record in self._rows("evaluation items"):
            if self.reason[row] or train[row] or isinstance(record, Text | Triple):
                continue
            if isinstance(record, Exam):
                asked = record.question
                index.add([asked, asked + "".join(record.options)], number(record.id))
            else:
                index.add(units_of(record), self.group[row] or self.asked[row])
        index.freeze()
        self.index = index
        worst = np.zeros(len(self), np.float32)
        rows: list[int] = []
        texts: list[str] = []

        def look() -> None:
            worst[rows] = index.overlaps(texts)
            rows.clear()
            texts.clear()

        for row, record in self._rows("decontamination"):
            if self.reason[row] or not train[row] or isinstance(record, Exam | Triple):
                continue
            rows.append(row)
            texts.append(body_of(record))
            if len(rows) >= _PENDING:
                look()
        look()
        looked = train & self._staying
        self.decontamination = index.report() | {
            "looked_at": int(looked.sum()),
            "removed": int((worst[looked] >= index.share).sum()),
            "share_of_overlap": {
                f">= {edge}": int((worst[looked] >= edge).sum()) for edge in (0.1, 0.25, 0.5, 0.75)
            },
        }
        self._mark(worst >= index.share, 5)

    def _cap(self, train_chat: np.ndarray, cap: int) -> None:
        task, names = np.array(self.task), np.array(self.name, np.uint64)
        built = train_chat & np.array(self.templated).astype(bool) & self._staying
        for value in range(len(TASKS)):
            rows = np.flatnonzero(built & (task == value))
            over = rows[np.argsort(names[rows], kind="stable")][cap:]
            self._mark(_scatter(over, np.ones(len(over), bool), len(self)), 6)

    # -- giving out --------------------------------------------------------------------------

    def _rows(self, what: str) -> Iterator[tuple[int, Record]]:
        bar = tqdm(total=len(self), desc=what, unit=" records", file=sys.stderr, leave=False)
        row = 0
        for path in self.files:
            for batch in batches(path):
                for record in batch:
                    yield row, record
                    row += 1
                bar.update(len(batch))
        bar.close()

    def kept(self, wanted: Callable[[Record], bool] = lambda record: True) -> Iterator[Record]:
        """The records that stay, in the order in which they came."""
        for row, record in self._rows("writing"):
            if not self.reason[row] and wanted(record):
                yield record

    def account(self) -> None:
        """Book what `settle` removed, with samples, and what stays."""
        for row, record in self._rows("accounts"):
            if isinstance(record, Triple):
                continue
            if self.reason[row]:
                text = record.question if isinstance(record, Exam) else body_of(record)
                self.ledger.drop(record.source, REASONS[self.reason[row]], text)
            else:
                self.ledger.keep(record.source)


def group_of(name: str) -> str:
    """What may not be torn apart: a case built from an annotated consultation, and its dialogue."""
    return name.replace("case/mz10/", "cmdd/", 1)


def units_of(chat: Chat) -> list[str]:
    """What of a dialogue may not be in training: all that the user says, all that is answered."""
    return [chat.question, "\n".join(t.text for t in chat.turns if t.role == "assistant")]


def _scatter(rows: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    full = np.zeros(size, bool)
    full[rows] = values
    return full


def _highest(keys: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """For each row the highest rank among the rows with the same key; 0 for key 0."""
    _, place = np.unique(keys, return_inverse=True)
    best = np.zeros(place.max() + 1 if len(place) else 0, rank.dtype)
    np.maximum.at(best, place, rank)
    return np.where(keys != 0, best[place], 0)
