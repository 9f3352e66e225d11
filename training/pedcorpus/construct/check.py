"""What a generated answer must be: shape, language, no doses, nothing that its source lacks."""

import json
import re
from dataclasses import dataclass

from ..clean import HAN, finish, han_share, loops, tidy
from ..doses import NOTICE, strip_doses
from ..personal import find_personal
from ..quality import unsafe
from ..readers.lexicons import Lexicon
from .jobs import Job

SHORTEST, LONGEST = 20, 400
QUESTION = (4, 200)
# Least share of an answer's pairs of characters that its source must hold. Between answers and
# passages that do not belong together the share stays far below (see test_construct.py).
GROUNDED = {"role_play": 0.55, "regularise": 0.3, "reconstruct": 0.35}
# Words that any answer may use without its source.
_FREE_TEXT = (
    "您好家长孩子宝宝患儿建议您及时带到医院就诊咨询医生如果出现症状加重请尽快就医具体用法请遵医嘱"
    "剂量请遵医嘱或说明书不要自行用药需要注意观察精神状态体温变化主要包括常见的表现有治疗方法预防措施"
    "首先其次此外最后同时因此所以可以应该通常一般可能是指一种引起导致例如以及或者并且由于对于根据情况"
    "进行使用避免保持这个问题您的担心我们理解"
)
_POINTS_AWAY = re.compile("材料|上文|上述(?:内容|材料)|本指南|本文|这段话|原文|文中|资料(?:中|里)")
_MACHINE = re.compile("人工智能|语言模型|作为(?:一个|一名)?AI|我是AI|ChatGPT|通义|文心")
_LIST_NUMBER = re.compile(r"(?:^|(?<=[。；：\n]))\s*[（(]?\d{1,2}[.、．)）]")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.S)
_THINK = re.compile(r"<think>.*?</think>", re.S)


class Rejected(Exception):
    """An answer that cannot be used, and why."""


def _pairs(text: str) -> set[str]:
    return {
        run[i : i + 2] for run in re.findall(f"[{HAN}]+", text) for i in range(len(run) - 1)
    } | set(re.findall(r"[A-Za-z]{2,}", text.lower()))


_FREE = _pairs(_FREE_TEXT)


def grounded(answer: str, passage: str) -> float:
    """Share (0 to 1) of the answer's content that the passage holds: pairs of neighbouring
    characters and Latin words, without those that any answer may use."""
    content = _pairs(answer) - _FREE
    return len(content & _pairs(passage)) / len(content) if content else 1.0


def json_of(text: str) -> dict:
    """The JSON object in an answer; fences and a reasoning part are tolerated."""
    text = _THINK.sub("", text).strip()
    fenced = _FENCE.search(text)
    text = fenced.group(1) if fenced else text
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise Rejected("not JSON")
    try:
        found = json.loads(text[start : end + 1])
    except json.JSONDecodeError as error:
        raise Rejected("not JSON") from error
    if not isinstance(found, dict):
        raise Rejected("not JSON")
    return found


@dataclass(frozen=True)
class Checks:
    """The rules for one answer; `lexicon` adds that no medicine may be named anew."""

    lexicon: Lexicon | None = None

    def question(self, text: object) -> str:
        """The question tidied. Raises Rejected."""
        if not isinstance(text, str):
            raise Rejected("a field is missing")
        question = tidy(text)
        if not QUESTION[0] <= len(question) <= QUESTION[1]:
            raise Rejected("question too short or long")
        if _POINTS_AWAY.search(question):
            raise Rejected("question points to its source")
        if han_share(question) < 0.6:
            raise Rejected("question not in Chinese")
        return self._clean(question)

    def answer(self, text: object, job: Job, shortest: int = SHORTEST) -> str:
        """The answer tidied and without doses. Raises Rejected."""
        if not isinstance(text, str):
            raise Rejected("a field is missing")
        answer = finish(tidy(strip_doses(tidy(text.replace("**", "")))))
        body = self._clean(answer.replace(NOTICE, ""))
        if len(body) < shortest:
            raise Rejected("answer too short")
        if len(answer) > LONGEST:
            raise Rejected("answer too long")
        if han_share(body) < 0.7:
            raise Rejected("answer not in Chinese")
        if loops(answer):
            raise Rejected("loop")
        if _POINTS_AWAY.search(answer):
            raise Rejected("answer points to its source")
        if job.pediatric and unsafe(answer):
            raise Rejected("unsafe advice")
        source = job.passage + " ".join(job.topic)
        # Numbers in the passage count whatever their notation around them.
        known = set(_NUMBER.findall(tidy(source)))
        if set(_NUMBER.findall(_LIST_NUMBER.sub("", body))) - known:
            raise Rejected("a number that the source does not hold")
        if grounded(body, source) < GROUNDED[job.rule]:
            raise Rejected("says what the source does not")
        if self.lexicon is not None and self.lexicon.invented(body, source):
            raise Rejected("names a medicine that the source does not")
        return answer

    def _clean(self, text: str) -> str:
        if find_personal(text):
            raise Rejected("personal data")
        if _MACHINE.search(text):
            raise Rejected("speaks of itself as a machine")
        return text
