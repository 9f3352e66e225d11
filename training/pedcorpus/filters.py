"""The cleaning steps that look at one record: named, testable apart, measured in the ledger.

A step gets a record and answers with the record, a changed one, or None: removed. The order
matters: characters are repaired before words are searched for, and sentences go before lengths are
measured. Doses are stripped from what the assistant says, never from what a parent reports.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from unicodedata import normalize

import ftfy

from .clean import ADVERTISEMENT, advertises, finish, han_share, loops, strip_worn, tidy
from .doses import NOTICE, count_doses, strip_doses
from .ledger import Ledger
from .patients import by_patient
from .personal import find_personal, scrub, unname, unsurname
from .quality import joined_of, lengths_fault, unsafe, unsafe_sentence, without_exchanges
from .record import Chat, Exam, Text, Turn
from .tags import concerns_child, tagged

Record = Text | Chat
# Chinese punctuation and full-width forms are right as they are: NFC, no width or quote changes.
_FTFY = ftfy.TextFixerConfig(
    unescape_html=False,
    uncurl_quotes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    normalization="NFC",
    explain=False,
)
_LATIN = re.compile("[\\u0080-\\u00ff\\u0152-\\u0192\\u2013-\\u20ac]{3}")
_SENTENCE = re.compile(r"[^。！？；\n]+[。！？；\n]*|\n")
WORST_TEXT = 0.4  # of a text's sentences may be taken away; more, and what is left makes no sense


def repaired(text: str) -> str:
    """Mojibake undone where ftfy finds it, canonical composition, no replacement characters.

    UTF-8 read as GB18030 (锟斤拷) has lost its bytes and is cut out.
    """
    if _LATIN.search(text):
        text = ftfy.fix_text(text, _FTFY)
    return normalize("NFC", text).replace("\ufffd", "").replace("锟斤拷", "").replace("\x00", "")


def sentences(text: str) -> list[str]:
    """The text cut after sentence ends and line ends; joined they are the text again."""
    return _SENTENCE.findall(text)


def _map(record: Record, change: Callable[[str], str], roles: tuple[str, ...]) -> Record:
    """The record with its text, or the turns of some roles, changed."""
    if isinstance(record, Text):
        text = change(record.text)
        return record if text == record.text else replace(record, text=text)
    turns = tuple(Turn(t.role, change(t.text)) if t.role in roles else t for t in record.turns)
    return record if turns == record.turns else replace(record, turns=turns)


BOTH, ASSISTANT = ("user", "assistant"), ("assistant",)


def body_of(record: Record) -> str:
    """All the text of a record."""
    return record.text if isinstance(record, Text) else joined_of(record)


def encoding(record: Record) -> Record | None:
    """Repair characters; a record that is one part in fifty replacement characters is lost."""
    text = body_of(record)
    if text.count("\ufffd") > len(text) / 50:
        return None
    return _map(record, repaired, BOTH)


_SLIPS = (
    (re.compile(r"&?#xFF05;+", re.I), "%"),
    (re.compile(r"&?#x?[0-9A-Fa-f]{2,6};+|&#?\d{2,6};?|&[a-z]{2,6};"), ""),
    # "2-3次" and "过2-3天" that have lost their dash
    (
        re.compile(
            "|".join(rf"(?<![\d.]){n}(?={n + 1}次)|(?<=过){n}(?={n + 1}天)" for n in range(2, 8))
        ),
        r"\g<0>-",
    ),
    (re.compile("(?<!谢)谢医生"), "谢谢医生"),
    (re.compile("[，、；]+(?=[。！？])"), ""),
    (
        re.compile(
            "[^。！？；，\n]*(?:回答|解答|解释|回复|建议)[^。！？，\n]{0,8}满意(?:吗|呢|么|不|否)?[？?。！]|"
            "不知道?[^。！？，\n]{0,16}(?:回答|解答|解释|回复)[^。！？，\n]{0,8}(?:满意|明白|清楚)[^。！？\n]{0,4}[？?。！]"
        ),
        "",
    ),
)


def slips(record: Record) -> Record | None:
    """Remains of HTML, and what the cleaning of courtesies left behind."""

    def mended(text: str) -> str:
        for wrong, right in _SLIPS:
            text = wrong.sub(right, text)
        return text

    return _enough(record, _map(record, mended, BOTH))


def advertisement(record: Record) -> Record | None:
    """Take out the sentences that advertise; None when too little would be left."""

    def without(text: str) -> str:
        if not ADVERTISEMENT.search(text):  # most texts: one search instead of one per sentence
            return text
        kept = [s for s in sentences(text) if not advertises(s)]
        return "".join(kept).strip() if len(kept) < len(sentences(text)) else text

    cleaned = _map(record, without, ASSISTANT)
    return _enough(record, cleaned)


def template(record: Record) -> Record | None:
    """Take worn-out phrases from the answers of consultations (not from what this project wrote)."""
    if isinstance(record, Text) or record.templated or not record.department:
        return record

    def without(text: str) -> str:
        stripped = strip_worn(text)
        return text if stripped == text else finish(tidy(stripped))

    return _enough(record, _map(record, without, ASSISTANT))


def personal(record: Record) -> Record | None:
    """Names are replaced. A text loses the sentences with personal data, a dialogue goes whole."""
    if isinstance(record, Chat):
        return None if find_personal(joined_of(record)) else _map(record, unname, BOTH)
    return _enough(record, _map(record, lambda text: unname(scrub(text)), BOTH))


def surnames(record: Record) -> Record | None:
    """What a doctor is called: the title alone; a numbered hospital of a city: the hospital."""
    return _map(record, unsurname, BOTH)


def _held(record: Record) -> bool:
    return isinstance(record, Chat) and record.split in ("valid", "test")


def _hollow(answer: str) -> bool:
    return answer.strip() == NOTICE


def dose(record: Record) -> Record | None:
    """No dose in an answer: the notice stands for it. A text loses the sentences with doses.

    An exchange of a dialogue for training whose answer is the notice alone goes.
    """
    if isinstance(record, Chat):

        def stripped(text: str) -> str:
            return finish(tidy(strip_doses(text))) if count_doses(text) else text

        changed = _map(record, stripped, ASSISTANT)
        arithmetic = record.task == "general" and not record.department
        if arithmetic and changed is not record and NOTICE in body_of(changed):
            return None  # no consultation: amounts of sugar, not of a medicine
        if isinstance(changed, Chat) and not _held(changed):
            return without_exchanges(changed, _hollow)
        return changed

    def without(text: str) -> str:
        if not count_doses(text):
            return text
        return "".join(s for s in sentences(text) if not count_doses(s)).strip()

    return _enough(record, _map(record, without, BOTH))


def language(record: Record) -> Record | None:
    """At least 70 % of an answer's and 60 % of a text's visible characters are Chinese."""
    if isinstance(record, Text):
        return record if han_share(record.text) >= 0.6 else None
    return record if record.group.startswith("own/") or han_share(record.answer) >= 0.7 else None


def length(record: Record) -> Record | None:
    """Answers that say something and fit; texts of at least 30 characters."""
    if isinstance(record, Text):
        return record if len(record.text) >= 30 else None
    return None if lengths_fault(record) else record


def loop(record: Record) -> Record | None:
    """A phrase that repeats itself three times running."""
    return None if loops(body_of(record)) else record


def unsafe_advice(record: Record) -> Record | None:
    """Answers for children that recommend what must not be recommended.

    Every answer of a dialogue is looked at: the record goes when the last one or a template
    recommends, and an earlier exchange is cut out. A dialogue written out loses the doctor's
    sentences. What is held out keeps the measure by which it was chosen.
    """
    if isinstance(record, Text):
        return _enough(record, _map(record, _safely_written, BOTH))
    if record.task == "general":
        return record
    if _held(record):
        return None if unsafe_sentence(record.answer) else record
    if unsafe(record.answer):
        return None
    if record.templated and any(t.role == "assistant" and unsafe(t.text) for t in record.turns):
        return None
    return without_exchanges(record, unsafe)


_DOCTOR = "医生："


def _safely_written(text: str) -> str:
    """A written dialogue without the doctor's sentences that are unsafe; other texts as they are."""
    if f"\n{_DOCTOR}" not in text or not unsafe(text):
        return text
    lines = []
    for line in text.split("\n"):
        if line.startswith(_DOCTOR) and unsafe(line):
            said = line.removeprefix(_DOCTOR)
            line = _DOCTOR + "".join(s for s in sentences(said) if not unsafe(s))
            if line == _DOCTOR:
                continue
        lines.append(line)
    return "\n".join(lines)


def pediatrics(record: Record) -> Record | None:
    """The three tasks are about children; human answers about others become general ones."""
    if isinstance(record, Text) or record.task == "general" or concerns_child(record):
        return record
    if record.split in ("valid", "test") and not record.department:
        return record  # chosen by its source's own rule
    if record.templated and record.split not in ("valid", "test"):
        return None
    return replace(record, task="general")


def _enough(before: Record, after: Record) -> Record | None:
    if isinstance(after, Chat):
        return after if all(t.text.strip() for t in after.turns) else None
    return after if len(body_of(after)) >= (1 - WORST_TEXT) * len(body_of(before)) else None


@dataclass(frozen=True)
class Step:
    """A named step; `rule` says in one line what it does, for the data card."""

    name: str
    rule: str
    apply: Callable[[Record], Record | None]
    held_out: bool = True  # false: evaluation items keep their wording, so that figures compare


STEPS = (
    Step("encoding", "mojibake repaired (ftfy), NFC, lost characters cut out", encoding),
    Step("personal data", "phones, ids, addresses, messengers, booking lines; names", personal),
    Step("surnames", "doctors by surname, numbered hospitals of a city", surnames, False),
    Step("slips", "HTML entities, doubled stops, halves of courtesies", slips, False),
    Step("advertisement", "sentences that praise a clinic or sell a cure", advertisement, False),
    Step("template phrases", "greetings, closings, headings of answer forms", template, False),
    Step("free dose", "amounts with a unit, times a day: the notice instead", dose),
    Step("language", "less than 70 % (answers) or 60 % (texts) Chinese", language),
    Step("length", "answers of 20 to 400 characters (general: from 6), texts from 30", length),
    Step("loop", "a phrase three times running", loop),
    Step(
        "unsafe advice",
        "a named list of treatments, unless the clause forbids them, in any answer",
        unsafe_advice,
    ),
    Step("patient", "adults' questions leave the three tasks, children's join them", by_patient),
    Step("pediatrics", "department, age or words of a child, for the three tasks", pediatrics),
)


def cleaned(record: Record, ledger: Ledger) -> Record | None:
    """The record after all steps, tagged with department and age group, or None."""
    record = tagged(record)
    held_out = isinstance(record, Chat) and record.split in ("valid", "test")
    for step in STEPS:
        if held_out and not step.held_out:
            continue
        after = step.apply(record)
        if after is None:
            ledger.drop(record.source, step.name, body_of(record))
            return None
        if after is not record:
            ledger.change(record.source, step.name, _first_change(record, after))
        record = after
    return tagged(record)


def clean_exam(exam: Exam, ledger: Ledger) -> Exam | None:
    """A question whose characters are sound and whose options differ."""
    question = repaired(exam.question).strip()
    options = tuple(repaired(o).strip() for o in exam.options)
    if not question or len(set(options)) < len(options) or not all(options):
        ledger.drop(exam.source, "exam without distinct options", exam.question)
        return None
    return replace(exam, question=question, options=options)


def _first_change(before: Record, after: Record) -> str:
    """The first sentence that a step took away or altered."""
    old, new = body_of(before), body_of(after)
    return next((s for s in sentences(old) if s.strip() and s not in new), old)
