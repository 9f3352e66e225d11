"""General instructions, empathic talk and small talk: the model should do more than medicine."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from ..archive import Library
from ..clean import clean_question, finish, tidy
from ..ledger import Ledger
from ..phrasing import number
from ..quality import windows
from ..record import Chat, Text, Turn, dialogue
from ..sources import KDCONV, LLAMAFACTORY, SMILE
from ..split import split_of

_NOT_OURS = re.compile(
    r"```|[{}\\<>]|OpenAI|ChatGPT|GPT|LAION|Open ?Assistant|人工智能助手|语言模型|代码|函数|编程|"
    r"Python|SQL|翻译|英文|英语|http|\|",
    re.I,
)


# Sets of instructions -> whether a model wrote the answers (the other set is by volunteers).
_SETS = {"alpaca_zh_demo": True, "oaast_sft_zh": False}


def _plain(question: str, answer: str) -> bool:
    return (
        not _NOT_OURS.search(question + answer)
        and 4 <= len(question) <= 120
        and 10 <= len(answer) <= 300
    )


def instructions(library: Library, ledger: Ledger) -> Iterator[Chat]:
    """Short general instructions without code, links or other models' names."""
    for name, machine in _SETS.items():
        for i, record in enumerate(library.records(LLAMAFACTORY, f"data/{name}.json")):
            ledger.saw(LLAMAFACTORY)
            question = clean_question(
                "\n".join(filter(None, (record["instruction"], record.get("input", ""))))
            )
            answer = finish(tidy(str(record["output"])))
            if record.get("history") or not _plain(question, answer):
                ledger.drop(LLAMAFACTORY, "long, code, foreign or about another model", question)
                continue
            yield Chat(
                f"{name}-{i}",
                LLAMAFACTORY,
                "general",
                machine,
                dialogue(question, answer),
                provenance=f"data/{name}.json#{i}",
            )


# "女孩子" and "男孩子" are mostly grown up where people tell of their love affairs.
_OF_CHILD = re.compile("(?<![男女])孩子|宝宝|儿子|女儿")
# Needs a person who answers, at once; nothing to learn from a written-out dialogue.
_CRISIS = re.compile("自杀|性侵|自残")


def support_texts(library: Library, ledger: Ledger, chars: int) -> Iterator[Text]:
    """Whole empathic dialogues that name a child written out, about `chars` characters of them.

    The child itself or anybody else may be the one who seeks help, so they do not count as pediatric.
    """
    done = 0
    for path, raw in library.files(SMILE, lambda p: p.startswith("data/smile/")):
        if done >= chars:
            return
        lines = [tidy(line) for line in json.loads(raw)]
        if not _OF_CHILD.search("".join(lines[:3])):
            continue
        ledger.saw(SMILE)
        if _CRISIS.search("".join(lines)):
            ledger.drop(SMILE, "of suicide, self-harm or abuse", lines[0])
            continue
        # the platform's roles, in the words of the other dialogues; the closing thanks repeat
        text = "\n".join(
            line.replace("求助者：", "来访者：", 1).replace("支持者：", "咨询师：", 1)
            for line in lines[:-2]
        )
        done += len(text)
        name = path.split("/")[-1].removesuffix(".json")
        yield Text(f"smile-t-{name}", SMILE, False, text, "精神心理科", provenance=path)


# So many took part in the split by hash when the held-out items were chosen; later ones train.
HASHED_SUPPORT, HASHED_SMALLTALK = 250, 60


def support(library: Library, ledger: Ledger, limit: int) -> Iterator[Chat]:
    """The beginnings of empathic dialogues about children and parents, rewritten by a model."""
    done = 0
    for path, text in library.files(SMILE, lambda p: p.startswith("data/smile/")):
        if done >= limit:
            return
        ledger.saw(SMILE)
        raw = json.loads(text)
        turns = [
            Turn(
                "user" if line.startswith("求助者") else "assistant", tidy(line.partition("：")[2])
            )
            for line in raw[:6]
        ]
        expected = ["user", "assistant"] * 3
        if (
            [t.role for t in turns] != expected[: len(turns)]
            or len(turns) < 4
            or not re.search("孩子|宝宝|儿子|女儿", turns[0].text + turns[2].text)
        ):
            ledger.drop(SMILE, "not about a child, or odd turns", turns[0].text if turns else "")
            continue
        turns = turns[: len(turns) // 2 * 2]
        if any(len(t.text) > 160 for t in turns):
            ledger.drop(SMILE, "long turn", turns[0].text)
            continue
        done += 1
        chat = Chat(
            f"smile-{path.split('/')[-1].removesuffix('.json')}",
            SMILE,
            "general",
            True,
            tuple(turns),
            split="" if done <= HASHED_SUPPORT else "train",
            provenance=path,
        )
        if split_of(chat) != "train":
            yield chat  # what is held out stays as it was chosen
        elif not _OF_CHILD.search(turns[0].text + turns[2].text):
            ledger.drop(SMILE, "not about a child, or odd turns", turns[0].text)
        elif _CRISIS.search("".join(raw)):
            ledger.drop(SMILE, "of suicide, self-harm or abuse", turns[0].text)
        else:
            yield from (replace(part, split="train") for part in windows(chat))


def smalltalk(library: Library, ledger: Ledger, limit: int) -> Iterator[Chat]:
    """Two exchanges each about films, music and travel."""
    done = 0
    for path, text in library.files(KDCONV, lambda p: p.endswith("/dev.json")):
        for i, record in enumerate(json.loads(text)):
            if done >= limit or number(path, i) % 4:
                continue
            ledger.saw(KDCONV)
            texts = [tidy(m["message"]) for m in record["messages"][:4]]
            if len(texts) == 4 and all(4 < len(t) < 120 for t in texts):
                done += 1
                yield Chat(
                    f"kdconv-{path.split('/')[-2]}-{i}",
                    KDCONV,
                    "general",
                    False,
                    dialogue(*texts),
                    split="" if done <= HASHED_SMALLTALK else "train",
                    provenance=f"{path}#{i}",
                )
