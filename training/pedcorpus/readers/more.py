"""The readers of the sources beyond the first ones, each with the source that it reads."""

from collections.abc import Callable, Iterator

from ..archive import Library
from ..ledger import Ledger
from ..record import Chat, Exam, Pair, Text, Triple
from ..sources import (
    CAREGPT,
    CHINESEBLUE,
    DISC,
    HUATUOGPT,
    ICD,
    KG,
    MIDMED,
    MING,
    REASONING,
    REMEDI,
    THUOCL,
    YIER,
    ZHONGJING,
)
from . import disc, exams, held_cases, lexicons, midmed, reasoning, remedi

Record = Text | Chat | Exam | Triple
Reader = Callable[[Library, Ledger, int], Iterator[Record]]

# The number is the most records to take; 0 takes all.
READERS: tuple[tuple[str, Reader], ...] = (
    (REASONING, reasoning.reasoning),
    (MIDMED, midmed.consultations),
    (REMEDI, remedi.consultations),
    (ZHONGJING, held_cases.refusals),
    (HUATUOGPT, held_cases.written_cases),
    (DISC, disc.held_out),
    (CAREGPT, lexicons.guide),
    (ICD, lexicons.glossary),
    (THUOCL, lexicons.words),
    (MING, exams.ming),
    (YIER, exams.yier),
    (HUATUOGPT, exams.intents),
    (CHINESEBLUE, exams.paraphrases),
    (KG, lexicons.triples),
)

PAIR_READERS: tuple[tuple[str, Callable[[Library, Ledger], Iterator[Pair]]], ...] = (
    (DISC, disc.preferences),
)
