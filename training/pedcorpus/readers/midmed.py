"""Crowd-written consultations: only their manner of asking is used.

The workers had to mention medicines, examinations and foods from a graph, so what they
recommend is often wrong for the complaint. A dialogue ends before its first such turn, and a
doctor's turn stays only if it asks.
"""

import re
from collections.abc import Iterator

from ..archive import Library
from ..clean import clean_answer, clean_question, key_of
from ..doses import count_doses
from ..ledger import Ledger
from ..record import Chat, Turn
from ..sources import MIDMED
from .ages import ADULT_TOPIC, about_child, age_group, department_of

PATH = "MidMed_no_goal.json"
_NAMED = ("用药", "药物", "检查", "宜饮食", "禁饮食", "治疗")
_ASKS = re.compile("[？?]|吗|呢|多久|多长时间|有没有|是否|哪里|什么时候|怎么样")
_ADVISES = re.compile(
    "服用|口服|外用|涂|药|胶囊|颗粒|冲剂|软膏|霜|片剂|注射|输液|输血|打针|滴眼液|滴鼻|喷剂|激素|"
    "抗生素|消炎|检查一下|做一下|做个|化验|拍片|彩超|CT|B超|食用|多吃|少吃|忌口|手术|治疗|建议"
)
_SPEAKER = re.compile("^(?:病人|患者|医生)[：:]")
_NOT_FIRST = re.compile("没有|当然|除了|根据|从什么|小孩之前|是的|不客气|可以的")
_COMPLAINT = re.compile("我|孩子|宝|小孩|患|岁|请问|医生|大夫|您好|你好")
_PICTURE = re.compile("图片|照片|片子|上传|发过来|报告单|微信|加号|门诊时间|挂我")


def _forbidden(graph: dict) -> list[str]:
    """The names that the dialogue was told to work in."""
    names = []
    for key in _NAMED:
        for value in graph.get(key) or []:
            bare = re.sub(r"[(（][^)）]*[)）]", "", str(value)).strip()
            names += [name for name in re.split(r"\s+|、", bare) if len(name) > 1]
    return names


def manner(dialog: list, graph: dict) -> tuple[Turn, ...]:
    """The turns before the first advice, the patient first and an asking doctor last."""
    forbidden = _forbidden(graph)
    turns: list[Turn] = []
    for i, said in enumerate(dialog):
        role = "assistant" if i % 2 else "user"
        if role == "assistant":
            advises = _ADVISES.search(said) or any(name in said for name in forbidden)
            if advises or not _ASKS.search(said) or count_doses(said):
                break
        if _PICTURE.search(said):
            break
        text = clean_answer(said) if role == "assistant" else clean_question(said)
        if len(text) < 2:
            break
        turns.append(Turn(role, text))
    return tuple(turns[: len(turns) // 2 * 2])


def consultations(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Chat]:
    """The asking part of each dialogue. For training only: its content is no reference."""
    seen: set[str] = set()
    for i, record in enumerate(library.records(MIDMED, PATH, ledger)):
        ledger.saw(MIDMED)
        dialog, graph = record.get("dialog"), record.get("temp_kg")
        if not isinstance(dialog, list) or not isinstance(graph, dict) or len(dialog) < 2:
            ledger.drop(MIDMED, "broken record: no dialogue or no graph", str(record))
            continue
        dialog = [_SPEAKER.sub("", str(said)) for said in dialog]
        first = dialog[0]
        if _NOT_FIRST.match(first) or not _COMPLAINT.search(first):
            ledger.drop(MIDMED, "does not begin with a complaint", first)
            continue
        turns = manner(dialog, graph)
        if not turns:
            ledger.drop(MIDMED, "the doctor recommends at once", first + " | " + str(dialog[1]))
            continue
        if key_of(turns[0].text) in seen:
            ledger.drop(MIDMED, "duplicate", first)
            continue
        seen.add(key_of(turns[0].text))
        pediatric = about_child(turns[0].text)
        if not pediatric and ADULT_TOPIC.search("".join(t.text for t in turns)):
            ledger.drop(MIDMED, "adult: intimate", first)
            continue
        if limit and len(seen) > limit:
            return
        yield Chat(
            f"midmed-{i}",
            MIDMED,
            "evidiag" if pediatric else "general",
            False,
            turns,
            f"midmed/{key_of(turns[0].text)[:40]}",
            "train",
            department=department_of(pediatric),
            age_group=age_group(turns[0].text),
            provenance=f"{PATH}#{i + 1} (turns before the first advice)",
        )
