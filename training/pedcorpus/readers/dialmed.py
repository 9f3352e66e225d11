"""DialMed: online consultations in which the names of medicines were masked; they are filled in."""

import re
from collections.abc import Iterator

from ..archive import Library
from ..clean import PREGNANT, clean_answer, clean_question, is_pediatric, key_of
from ..doses import strip_doses
from ..ledger import Ledger
from ..personal import find_personal
from ..phrasing import number
from ..record import Chat, Turn
from ..sources import DIALMED
from ..split import hashed
from .consult import INTIMATE

_PATH = "data/dataset/dev.txt"
_EMPTY = re.compile("(?:嗯+|恩+|哦+|好的?|谢谢|稍等|您好|你好|我?看一?下|在吗?|[，。！？])+")


def _turns(record: dict, whole: bool) -> tuple[list[Turn], bool]:
    """The turns, to the one that names the medicine or all of them; whether one was named."""
    labels = list(record["label"])
    turns: list[Turn] = []
    done = False
    for line in record["dialog"]:
        speaker, _, said = line.partition("：")
        role = "assistant" if speaker == "医生" else "user"
        while "[MASK]" in said and labels:
            said = said.replace("[MASK]", labels.pop(0), 1)
            done = True
        said = said.replace("[MASK]", "上述药物")
        text = clean_answer(said) if role == "assistant" else clean_question(said)
        if not text or find_personal(text) or _EMPTY.fullmatch(text):
            continue
        if turns and turns[-1].role == role:
            turns[-1] = Turn(role, turns[-1].text + text)
        elif turns or role == "user":
            turns.append(Turn(role, text))
        if done and role == "assistant" and not labels and not whole:
            break
    return turns, done


def dialmed(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Chat]:
    """Consultations; those that the hash holds out in their short form stay as they were.

    The others train whole, cut into windows later; `limit` bounds the adult ones (0: a third, in the
    short form).
    """
    adults = 0
    for i, record in enumerate(library.records(DIALMED, _PATH, ledger)):
        ledger.saw(DIALMED)
        turns, done = _turns(record, False)
        if not done or len(turns) < 2 or turns[-1].role != "assistant":
            ledger.drop(DIALMED, "no medicine named", str(record["dialog"])[:100])
            continue
        pediatric = (
            is_pediatric(turns[0].text)
            and not any(PREGNANT.search(t.text) for t in turns)
            and "哺乳" not in turns[0].text
        )
        if re.search("图|照片", turns[0].text + turns[1].text):
            ledger.drop(DIALMED, "about a picture", turns[0].text)
            continue
        task = "trerecom" if pediatric else "general"
        # What is right for an adult may not be for a child: adults do not teach pediatric advice.
        small = sum(len(t.text) for t in turns) <= 520 and (
            pediatric or not (number(i, "dialmed") % 3 or len(turns[-1].text) < 30)
        )
        chat = Chat(f"dialmed-{i}", DIALMED, task, False, tuple(turns), provenance=f"{_PATH}#{i}")
        held = hashed(key_of(chat.question), task) != "train"
        if small and (held or not limit):
            yield chat
            continue
        whole, _ = _turns(record, True)
        whole = whole[: len(whole) // 2 * 2]
        said = "".join(t.text for t in whole)
        if held or len(whole) < 2 or (not pediatric and adults >= limit) or INTIMATE.search(said):
            ledger.drop(DIALMED, "adult: over the limit, intimate or terse", turns[0].text)
            continue
        adults += not pediatric
        # cut into windows, so the doses go first: a notice may lengthen a turn
        turns = [
            Turn(t.role, strip_doses(t.text) if t.role == "assistant" else t.text) for t in whole
        ]
        yield Chat(
            f"dialmed-{i}",
            DIALMED,
            task,
            False,
            tuple(turns),
            f"dialmed/{i}",
            "train",
            provenance=f"{_PATH}#{i}",
        )
