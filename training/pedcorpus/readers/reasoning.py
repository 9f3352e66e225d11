"""Answers of a reasoning model: the reasoning goes, the answer stays."""

import re
from collections.abc import Iterator

from ..archive import Library
from ..clean import clean_answer, clean_question
from ..ledger import Ledger
from ..record import Chat, dialogue
from ..sources import REASONING
from ..tasks import task_of
from .ages import ADULT_TOPIC, about_child, age_group, department_of

PATH = "data/rl/training_prompts.jsonl"
_THINK = re.compile(r"<think>.*?</think>", re.S)
_MARKS = re.compile(r"\*\*|^#+\s*|^\s*[-*]\s+", re.M)  # Markdown
_OPTIONS = re.compile(r"(?m)^\s*[A-E]\s*[.、．:：)）]")
_DEPARTMENTS = {
    "pediatrics": "儿科",
    "emergency": "急诊科",
    "neurology": "神经内科",
    "obstetrics": "妇产科",
    "cardiology": "心内科",
    "psychiatry": "精神科",
    "endocrinology": "内分泌科",
    "gastroenterology": "消化内科",
}


def answer_of(output: str) -> str:
    """What follows the reasoning, or the empty string when the reasoning never ends."""
    bare = _THINK.sub("", output)
    if "<think>" in bare or "</think>" in bare:
        return ""
    return _MARKS.sub("", bare).strip()


def reasoning(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Chat]:
    """Distilled answers (GPT-4o); exam questions with printed options are not for training."""
    done = 0
    for i, record in enumerate(library.records(REASONING, PATH, ledger)):
        ledger.saw(REASONING)
        raw, answer = str(record.get("input", "")), answer_of(str(record.get("output", "")))
        question = clean_question(raw)
        if not question or not answer:
            ledger.drop(REASONING, "broken record: no question, or no answer after </think>", raw)
            continue
        if _OPTIONS.search(raw):
            ledger.drop(REASONING, "exam question with options", raw)
            continue
        pediatric = about_child(question)
        if not pediatric and ADULT_TOPIC.search(question):
            ledger.drop(REASONING, "adult: intimate", question)
            continue
        if limit and done >= limit:
            return
        done += 1
        specialty = (record.get("meta") or {}).get("specialty", "")
        yield Chat(
            f"o1-{i}",
            REASONING,
            task_of(question, pediatric),
            True,
            dialogue(question, clean_answer(answer)),
            department=_DEPARTMENTS.get(specialty, "") or department_of(pediatric),
            age_group=age_group(question),
            provenance=f"{PATH}#{i + 1}",
        )
