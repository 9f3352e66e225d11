"""Consultations with labelled acts, one turn a line; the dialogues are put together again."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..archive import Library
from ..clean import clean_answer, clean_question
from ..doses import count_doses
from ..ledger import Ledger
from ..record import Chat, Turn
from ..sources import REMEDI
from ..tasks import task_of
from .ages import ADULT_TOPIC, about_child, age_group, department_of

HUMAN, PERTURBED = "data/dev_human_annotation.txt", "data/dev_natural_perturbation.txt"
LONGEST = 520  # characters of a dialogue, as for the other consultations
_PICTURE = re.compile("图|照片|片子|发给我|报告")
_LABELLED = re.compile(r"^医生您好，这是我的问题[:：]\s*")


@dataclass(frozen=True)
class Exchange:
    """One line: what the patient and the doctor say, and the doctor's acts."""

    opens: bool  # the first exchange of its dialogue
    patient: str
    doctor: str
    acts: tuple[str, ...]


def _part(line: str, name: str, end: str) -> str:
    found = re.search(rf"<\|{name}\|>(.*?)<\|{end}\|>", line, re.S)
    return found.group(1).strip() if found else ""


def exchange(line: str) -> Exchange | None:
    """The exchange of a line, or None when a mark is missing."""
    if not all(f"<|{mark}|>" in line for mark in ("endofcontext", "currentuser", "response")):
        return None
    acts = _part(line, "action", "endofaction").split("<|continue|>")
    return Exchange(
        not _part(line, "context", "endofcontext"),
        _part(line, "currentuser", "endofcurrentuser"),
        _part(line, "response", "endofresponse"),
        tuple(" ".join(act.split()[:2]) for act in acts if act.strip()),
    )


def dialogues(library: Library, ledger: Ledger) -> Iterator[list[Exchange]]:
    """The exchanges of each dialogue in order."""
    current: list[Exchange] = []
    lines = library.read(REMEDI, HUMAN).get(HUMAN, "").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = exchange(line)
        if found is None:
            ledger.saw(REMEDI)
            ledger.drop(REMEDI, "broken line: a mark is missing", f"{HUMAN}:{number}: {line}")
            continue
        if found.opens and current:
            yield current
            current = []
        current.append(found)
    if current:
        yield current


def _turns(exchanges: list[Exchange]) -> list[Turn]:
    """Turns that fit, doses and doubled roles left out, the doctor last."""
    turns: list[Turn] = []
    length = 0
    for item in exchanges:
        doctor = clean_answer(item.doctor)
        if _PICTURE.search(item.patient + item.doctor) or count_doses(doctor):
            break
        patient = clean_question(_LABELLED.sub("", item.patient))
        length += len(patient) + len(doctor)
        if not patient or len(doctor) < 2 or length > LONGEST:
            break
        turns += [Turn("user", patient), Turn("assistant", doctor)]
    while len(turns) >= 4 and len(turns[-1].text) < 10:  # courtesies at the end teach nothing
        del turns[-2:]
    return turns


def _task(exchanges: list[Exchange], question: str, pediatric: bool) -> str:
    acts = [act for item in exchanges for act in item.acts]
    asks = sum(act.startswith("Inquire") for act in acts)
    if pediatric and any(act.startswith("Diagnosis") for act in acts) and asks:
        return "evidiag"
    return task_of(question, pediatric)


def consultations(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Chat]:
    """The human-annotated dialogues; their machine-paraphrased copies are left out."""
    done = 0
    for i, exchanges in enumerate(dialogues(library, ledger)):
        ledger.saw(REMEDI)
        raw = exchanges[0].patient
        turns = _turns(exchanges)
        if len(turns) < 2:
            ledger.drop(REMEDI, "begins with a dose, a picture or nothing", raw)
            continue
        pediatric = about_child(raw)
        if not pediatric and ADULT_TOPIC.search("".join(t.text for t in turns)):
            ledger.drop(REMEDI, "adult: intimate", raw)
            continue
        if limit and done >= limit:
            return
        done += 1
        yield Chat(
            f"remedi-{i}",
            REMEDI,
            _task(exchanges[: len(turns) // 2], turns[0].text, pediatric),
            False,
            tuple(turns),
            f"remedi/{i}",
            department=department_of(pediatric),
            age_group=age_group(raw),
            provenance=f"{HUMAN}#{i + 1}",
        )
    for line in library.read(REMEDI, PERTURBED).get(PERTURBED, "").splitlines():
        if line.strip() and (found := exchange(line)) is not None and found.opens:
            ledger.saw(REMEDI)
            ledger.drop(REMEDI, "machine paraphrase of another dialogue", found.patient)
