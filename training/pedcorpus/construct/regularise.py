"""Regularisation offline: a real conversation, tidied; the wording stays the person's."""

import re
from collections.abc import Iterator

from ..clean import HAN, clean_answer, clean_question, finish, tidy
from ..doses import count_doses, strip_doses
from ..phrasing import pick
from ..record import Chat, Turn
from .jobs import Job
from .made import made

# Slips of the keyboard with only one reading.
TYPOS = {
    "因该": "应该",
    "以经": "已经",
    "己经": "已经",
    "扁挑体": "扁桃体",
    "扁桃腺体": "扁桃体",
    "支气官": "支气管",
    "咳素": "咳嗽",
    "咳漱": "咳嗽",
    "刻嗽": "咳嗽",
    "发绕": "发烧",
    "蒙托石": "蒙脱石",
    "布络芬": "布洛芬",
    "布落芬": "布洛芬",
    "痢急后重": "里急后重",
    "既使": "即使",
    "必竟": "毕竟",
    "抵坑力": "抵抗力",
    "抵抗立": "抵抗力",
}
_TYPO = re.compile("|".join(TYPOS))
_FILLER = re.compile(
    r"(?:^|(?<=[，。！？；]))(?:(?:嗯|恩|哦|噢|喔|额|呃|唉|哎|哈|嘿|呵|奥|啊){1,4}[，。！～~…、\s]+)+"
)
_LAUGH = re.compile(r"(?:哈|呵|嘿|嘻){2,}[，。！]?")
_TAIL = re.compile(r"(?:哈|哟|噢|哦|喔|的说)(?=[，。！？；]|$)")
_SPLIT = re.compile(rf"(?<=[{HAN}0-9A-Za-z])\s*\n\s*(?=[{HAN}])|(?<=[{HAN}])[ 　]+(?=[{HAN}])")
_STAMMER = re.compile(rf"([{HAN}]{{2,8}})[，。]?\1(?=[，。！？；])")
RETURNS = re.compile("就医|就诊|急诊|120|复诊|医院|门诊|面诊|复查")
# Says only when to see a doctor; no doctor has reviewed these sentences.
RETURN_ADVICE = (
    "如果症状加重或者一直不见好转，请及时带孩子到医院就诊。",
    "观察期间孩子精神变差或症状加重的话，请尽快就医。",
    "情况没有好转时，建议到儿科门诊面诊。",
    "如果您不放心，或出现新的不适，请到医院让医生看一看。",
)


def tidied(text: str) -> str:
    """Split lines joined, slips corrected, fillers and stammering removed."""
    pieces = _SPLIT.split(text.strip())
    text = pieces[0]
    for before, piece in zip(pieces, pieces[1:], strict=False):
        # A dose takes its sentence with it: it must not stand in one with its neighbours.
        text += ("。" if count_doses(before) or count_doses(piece) else "，") + piece
    text = tidy(_TYPO.sub(lambda found: TYPOS[found.group()], text))
    text = _TAIL.sub("", _LAUGH.sub("", _FILLER.sub("", text)))
    return tidy(_STAMMER.sub(r"\1", text))


def regularise(job: Job, return_advice: bool) -> Iterator[Chat]:
    """The dialogue with every turn tidied, empty ones left out and neighbours merged.

    With `return_advice`, an answer on what to do that never says when to see a doctor gets such
    a sentence; the record is then no longer all of a person's wording and says so.
    """
    turns: list[Turn] = []
    for turn in job.turns:
        clean = clean_answer if turn.role == "assistant" else clean_question
        text = clean(tidied(turn.text))
        if turn.role == "assistant":
            text = finish(tidy(strip_doses(text)))
        if len(text) < 2:
            continue
        if turns and turns[-1].role == turn.role:
            turns[-1] = Turn(turn.role, turns[-1].text + text)
        elif turns or turn.role == "user":
            turns.append(Turn(turn.role, text))
    if turns and turns[-1].role == "user":
        turns.pop()
    if len(turns) < 2:
        return
    templated = job.templated
    advised = "\n".join(t.text for t in turns if t.role == "assistant")
    if return_advice and job.task in ("evidiag", "trerecom") and not RETURNS.search(advised):
        last = turns[-1]
        turns[-1] = Turn(last.role, last.text + pick(RETURN_ADVICE, job.id))
        templated = True
    yield made(job, tuple(turns), job.task, "offline", templated=templated)
