"""Text written for this project: common conditions, identity of the model, danger signs, care."""

import json
from collections.abc import Iterator
from pathlib import Path

from ..ledger import Ledger
from ..phrasing import pick
from ..record import Chat, Text, dialogue
from ..sources import OWN
from .conditions import CONDITIONS, Condition

TALKS = Path(__file__).with_name("authored.json")

_KNOWLEDGE = (
    (
        "what",
        ("什么是{d}？", "{d}是什么病？", "请介绍一下{d}。", "{d}是怎么回事？"),
        ("what", "causes", "signs"),
    ),
    (
        "signs",
        ("{d}有哪些症状？", "{d}会有什么表现？", "孩子得了{d}有什么表现？"),
        ("what", "signs"),
    ),
    ("causes", ("{d}是什么原因引起的？", "孩子为什么会得{d}？", "{d}的病因有哪些？"), ("causes",)),
    ("treat", ("{d}的治疗原则是什么？", "医学上怎么治疗{d}？"), ("what", "treat")),
    ("prevent", ("怎样预防{d}？", "{d}能预防吗？"), ("causes", "prevent")),
)
_ADVICE = (
    (
        "do",
        (
            "孩子得了{d}怎么办？",
            "宝宝{d}怎么办？",
            "{d}在家怎么护理？",
            "孩子{d}，家长该怎么做？",
            "医生说是{d}，回家要注意什么？",
        ),
    ),
)


def pages() -> Iterator[Text]:
    """A page per condition in two orders: a small model needs to read the core twice."""
    for name, c in CONDITIONS.items():
        checks = f"检查方面，可做{c.checks[0]}。"
        yield Text(
            f"own-a-{name}", OWN, True, c.what + c.causes + c.signs + checks + c.treat + c.prevent
        )
        body = [
            f"孩子得了{name}怎么办",
            c.signs,
            c.treat,
            "家庭护理：" + c.care[-1],
            "何时就医：" + c.returns[0],
            "预防：" + c.prevent,
        ]
        yield Text(f"own-b-{name}", OWN, True, "\n".join(body))


def _advise(name: str, c: Condition, salt: int) -> str:
    start = pick(("先别着急。", "", "可以这样处理。", "建议这样做。"), name, salt)
    return start + pick(c.care, name, salt) + c.treat + pick(c.returns, name, salt, "r")


def knowledge() -> Iterator[Chat]:
    """MedKQ&A on the common conditions, for training: its wordings share their answers."""
    for name, c in CONDITIONS.items():
        for kind, phrasings, fields in _KNOWLEDGE:
            answer = "".join(getattr(c, field) for field in fields)
            for i, phrasing in enumerate(phrasings):
                yield Chat(
                    f"own-{name}-{kind}-{i}",
                    OWN,
                    "medkqa",
                    True,
                    dialogue(phrasing.format(d=name), answer),
                    "own/core",
                    "train",
                    department="儿科",
                    provenance=f"conditions.json {name}",
                )


def advice() -> Iterator[Chat]:
    """TreRecom on the common conditions."""
    for name, c in CONDITIONS.items():
        for kind, phrasings in _ADVICE:
            for i, phrasing in enumerate(phrasings):
                yield Chat(
                    f"own-{name}-{kind}-{i}",
                    OWN,
                    "trerecom",
                    True,
                    dialogue(phrasing.format(d=name), _advise(name, c, i)),
                    "own/core",
                    "train",
                    department="儿科",
                    provenance=f"conditions.json {name}",
                )


def talks(ledger: Ledger) -> Iterator[Chat]:
    """Identity and danger signs: several questions per answer, all for training.

    The file lists {"task", "questions", "answers"}; question i gets answer i modulo their number.
    """
    for n, item in enumerate(json.loads(TALKS.read_text("utf-8"))):
        for i, question in enumerate(item["questions"]):
            ledger.saw(OWN)
            answer = item["answers"][i % len(item["answers"])]
            yield Chat(
                f"own-talk-{n}-{i}",
                OWN,
                item["task"],
                True,
                dialogue(question, answer),
                f"own/talk{n}",
                "train",
                department="" if item["task"] == "general" else "儿科",
                provenance=f"authored.json {n}",
            )
