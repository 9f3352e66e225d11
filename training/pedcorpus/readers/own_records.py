"""One JSON object of a user's file as a record: triple, text or dialogue in the usual shapes."""

import re

from ..clean import HAN, is_pediatric, key_of, tidy
from ..phrasing import number
from ..record import AGE_GROUPS, SPLITS, TASKS, Chat, Text, Triple, Turn
from ..tasks import task_of
from .ages import about_child, age_group, department_of

_ROLES = {
    "user": "user",
    "human": "user",
    "patient": "user",
    "患者": "user",
    "病人": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "doctor": "assistant",
    "bot": "assistant",
    "医生": "assistant",
    "system": "system",
}
# People separate clauses by a space; `tidy` would join them.
_SPACED = re.compile(rf"(?<=[{HAN}])[ \u3000\t]+(?=[{HAN}]{{2}})")
_LISTS = ("turns", "messages", "conversations", "conversation", "dialog")
SHAPES = (
    "{head, relation, tail}, {text}, {turns: [{role, text}]}, {conversations: [{from, value}]} "
    "or {instruction, input, output, history}"
)


def from_object(item: object, source: str, place: str) -> Text | Chat | Triple:
    """The record of an object. Raises ValueError with what is missing or wrong."""
    if not isinstance(item, dict):
        raise ValueError(f"expected an object like {SHAPES}")
    if "head" in item or "tail" in item:
        return _triple(item, source)
    name = str(item.get("id") or f"{source}-{number(place) % 16**8:08x}")
    place = str(item.get("provenance") or place)
    turns = _turns(item)
    if turns is not None:
        return _chat(item, source, name, place, turns)
    if isinstance(item.get("text"), str):
        text = tidy(item["text"])
        if not text:
            raise ValueError("empty text")
        pediatric = bool(item.get("pediatric", is_pediatric(text)))
        return Text(
            name,
            source,
            pediatric,
            text,
            str(item.get("department") or ""),
            _age(item),
            place,
        )
    raise ValueError(f"expected an object like {SHAPES}; it has only {sorted(item)[:6]}")


def _triple(item: dict, source: str) -> Triple:
    parts = []
    for key in ("head", "relation", "tail"):
        value = item.get(key)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{key} is missing, empty or no text")
        parts.append(tidy(value))
    return Triple(source, *parts)


def _age(item: dict) -> str:
    stated = str(item.get("age_group") or "")
    if stated and stated not in AGE_GROUPS:
        raise ValueError(f"age_group {stated!r} is none of {', '.join(AGE_GROUPS)}")
    return stated


def _turns(item: dict) -> list[Turn] | None:
    """The turns of any known shape, None when the object is no dialogue."""
    for key in _LISTS:
        if isinstance(item.get(key), list):
            return [_turn(raw, at) for at, raw in enumerate(item[key], 1)]
    if "instruction" not in item and "question" not in item:
        return None
    answer = item.get("output", item.get("answer"))
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError("output is missing or empty")
    said: list[Turn] = []
    for pair in item.get("history") or []:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError("history: expected pairs of question and answer")
        said += [Turn("user", str(pair[0])), Turn("assistant", str(pair[1]))]
    asked = [item.get("instruction", item.get("question")), item.get("input")]
    question = "\n".join(str(part).strip() for part in asked if part and str(part).strip())
    return [*said, Turn("user", question), Turn("assistant", answer)]


def _turn(raw: object, at: int) -> Turn:
    if not isinstance(raw, dict):
        raise ValueError(f"turn {at}: expected an object with a role and a text")
    role = str(raw.get("role", raw.get("from", raw.get("speaker", ""))))
    text = raw.get("text", raw.get("content", raw.get("value", raw.get("sentence"))))
    if role not in _ROLES:
        raise ValueError(f"turn {at}: unknown role {role!r} (user or assistant)")
    if not isinstance(text, str):
        raise ValueError(f"turn {at}: no text")
    return Turn(_ROLES[role], text)


def _chat(item: dict, source: str, name: str, place: str, raw: list[Turn]) -> Chat:
    turns: list[Turn] = []
    for turn in raw:
        text = tidy(_SPACED.sub("，", turn.text))
        if turn.role == "system" or not text:
            continue  # an instruction to another model, or silence
        if turns and turns[-1].role == turn.role:
            turns[-1] = Turn(turn.role, turns[-1].text + "\n" + text)
        elif turns or turn.role == "user":
            turns.append(Turn(turn.role, text))
    if turns and turns[-1].role == "user":
        turns.pop()
    if len(turns) < 2:
        raise ValueError("no question of the user followed by an answer")
    pediatric = about_child(turns[0].text) or "儿" in str(item.get("department") or "")
    task = str(item.get("task") or task_of(turns[0].text, pediatric))
    split = str(item.get("split") or "")
    if task not in TASKS:
        raise ValueError(f"task {task!r} is none of {', '.join(TASKS)}")
    if split and split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    return Chat(
        name,
        source,
        task,
        bool(item.get("templated", False)),
        tuple(turns),
        str(item.get("group") or f"{source}/{key_of(turns[0].text)[:60]}"),
        split,
        department=str(item.get("department") or department_of(pediatric)),
        age_group=_age(item) or age_group(turns[0].text),
        provenance=place,
    )
