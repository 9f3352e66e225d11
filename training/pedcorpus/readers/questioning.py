"""Symptom records spoken: the complaint, the questions, the diagnosis on the evidence."""

import re
from collections.abc import Iterator
from dataclasses import replace

from ..ledger import Ledger
from ..phrasing import listing, number, pick, some
from ..record import Chat, dialogue
from ..sources import DXFORMER
from ..split import hashed
from .conditions import CONDITIONS, Condition
from .symptoms import Case

COMPLAINTS = (
    "医生您好，孩子{x}，",
    "您好，宝宝{x}，",
    "医生，我家宝宝{x}，",
    "孩子这两天{x}，",
    "宝宝最近{x}，",
    "医生，小孩{x}，",
    "我家孩子{x}，",
)
ASKING = (
    "请问是怎么回事？",
    "是什么病呢？",
    "这是怎么了？",
    "请帮忙看看。",
    "严重吗？",
    "想问问是什么原因。",
)


def complaint(case: Case, ask: bool = True, full: bool = False) -> str:
    """What the parent says first; `full` tells everything that is present."""
    symptoms = case.positive if full else case.explicit or case.present[:1]
    said = listing(symptoms[:6], "，还有" if number(case.id) % 2 else "、") or "不太舒服"
    text = pick(COMPLAINTS, case.id, "complaint").format(x=said.replace("还有有", "还有"))
    return text + pick(ASKING, case.id, "asking") if ask else text


SUPPORT = (
    "从您说的情况看，支持诊断的依据是：{p}。",
    "把信息归纳一下：孩子有{p}。",
    "目前掌握的依据：{p}。",
    "结合病史，孩子的主要表现是{p}。",
)
AGAINST = (
    "没有{a}，这一点也要考虑进去。",
    "同时没有{a}。",
    "否认{a}。",
    "没有{a}。",
)
VERDICT = (
    "综合考虑，{d}的可能性大。",
    "因此首先考虑{d}。",
    "根据以上证据，比较符合{d}。",
    "初步判断是{d}。",
)
NEXT = ("建议到儿科门诊做{c}进一步确认。", "可以做{c}来帮助确诊。", "需要面诊查体，必要时做{c}。")


REASON_NEEDS = {
    "小儿支气管炎": ("咳", "气喘|呼吸费力"),
    "小儿支气管肺炎": ("喘|呼吸", "无"),
    "小儿腹泻": ("腹泻|稀|水样|蛋花", "无"),
    "小儿消化不良": ("大便|胀", "高烧|带血|精神不好"),
    "上呼吸道感染": ("鼻|嗓|喷嚏|咳", "喘|呼吸"),
    "小儿感冒": ("鼻|喷嚏", "高烧|喘|精神不好"),
    "小儿咳嗽": ("咳", "喘|呼吸"),
    "小儿发热": ("烧", "皮疹|咳|腹泻|疱疹"),
    "小儿便秘": ("大便", "腹泻|稀"),
    "新生儿黄疸": ("黄", "无"),
    "手足口病": ("疹|疱|水泡", "无"),
    "过敏性鼻炎": ("鼻|喷嚏", "烧"),
}


_CORE = {
    "小儿腹泻": "腹泻|稀|水样|蛋花|糊|黏液",
    "小儿支气管炎": "咳|痰|喘",
    "小儿支气管肺炎": "咳|喘|呼吸|痰",
    "小儿肺炎": "咳|喘|呼吸|痰",
    "小儿消化不良": "大便|腹泻|呕吐|胀|胃口|吃|恶心|打嗝|肚",
    "上呼吸道感染": "鼻|嗓|喷嚏|咳|烧",
    "小儿感冒": "鼻|嗓|喷嚏|咳|烧",
    "小儿咳嗽": "咳",
    "小儿发热": "烧",
    "小儿便秘": "大便|便",
    "新生儿黄疸": "黄",
    "手足口病": "疹|疱|溃疡|烧|水泡",
    "过敏性鼻炎": "鼻|喷嚏",
}
_DENIED = {"小儿腹泻": "^腹泻$", "小儿支气管炎": "^咳嗽$", "小儿发热": "^发烧$"}


def supported(case: Case) -> bool:
    """Whether the symptoms told agree with the label; a dialogue on evidence needs evidence."""
    denied = _DENIED.get(case.label)
    if denied and any(re.search(denied, symptom) for symptom in case.absent):
        return False
    return re.search(_CORE.get(case.label, "."), "、".join(case.positive)) is not None


def _fits(case: Case) -> bool:
    """Whether the general reason for the diagnosis agrees with what the record says."""
    needs, excludes = REASON_NEEDS.get(case.label, ("无", "无"))
    said = "、".join(case.positive)
    return bool(re.search(needs, said)) and not re.search(excludes, said)


# Symptoms with which a child belongs into a hospital now.
RED_FLAG = re.compile(
    "带血|脓血|便血|血便|吐血|呕血|抽搐|惊厥|呼吸费力|呼吸困难|精神不好|发青|发绀|大便发黑|昏迷|嗜睡|意识"
)
URGENT = re.compile("^出现[^，。]{1,40}，请立即带孩子去医院急诊。")


def conclusion(case: Case, advice: str = "", held: bool = False) -> str:
    """The diagnosis with the evidence item by item, the next check, advice and signs to return.

    With a red flag the way to the hospital comes first and nothing is said of care at home; what is
    held out keeps its wording.
    """
    condition = CONDITIONS.get(case.label, Condition())
    flags = [s for s in case.positive if RED_FLAG.search(s)]
    urgent = bool(flags) and not (held or case.held_out)
    parts = [f"出现{listing(flags, '和')}，请立即带孩子去医院急诊。"] if urgent else []
    parts += [
        pick(SUPPORT, case.id, "support")
        .format(p="、".join(case.positive[:7]))
        .replace("有有", "有")
    ]
    if case.absent:
        parts.append(pick(AGAINST, case.id, "against").format(a=listing(case.absent[:5], "或")))
    parts.append(pick(VERDICT, case.id, "verdict").format(d=case.label))
    if urgent:
        return "".join([*parts, f"到医院后由医生做{pick(condition.checks, case.id)}来确认。"])
    if condition.reason and _fits(case) and number(case.id, "reason") % 2:
        parts.append(condition.reason)
    parts.append(pick(NEXT, case.id, "next").format(c=pick(condition.checks, case.id)))
    parts.append(advice or pick(condition.care, case.id))
    parts.append(pick(condition.returns, case.id))
    return "".join(parts)


QUESTIONING = (
    "请问孩子有没有{x}？",
    "我需要再了解一下：有{x}吗？",
    "孩子还有{x}的情况吗？",
    "有没有出现{x}？",
    "您观察一下，孩子是否有{x}？",
)
MORE = (
    "精神和食欲怎么样？",
    "这种情况几天了？",
    "大小便正常吗？",
    "孩子多大了？",
    "平时体质怎么样？",
)
REPLIES = {
    "精神和食欲怎么样？": (
        "精神还可以，吃得少一点。",
        "精神挺好，食欲一般。",
        "精神不错，能吃能玩。",
    ),
    "这种情况几天了？": ("两三天了。", "从昨天开始的。", "快一周了。", "三天左右。"),
    "大小便正常吗？": ("小便正常。", "小便比平时少一点。", "都还正常。"),
    "孩子多大了？": ("一岁半。", "八个月。", "三岁了。", "两岁四个月。", "五岁。"),
    "平时体质怎么样？": ("平时不怎么生病。", "换季容易感冒。", "一直挺好的。"),
}


def _reply(present: list[str], absent: list[str], extra: str, salt: str) -> str:
    parts = []
    if present:
        parts.append(
            pick(("有{}", "是的，有{}", "会{}"), salt).format(
                "，还有".join(present).replace("有有", "有")
            )
        )
    if absent:
        parts.append("没有" + listing(absent, "，也没有"))
    text = "，".join(parts).replace("有有", "有").replace("没有有", "没有").replace("会有", "有")
    return (text + "。" if text else "") + extra


def _ordered(case: Case) -> list[str]:
    return some(case.present + case.absent, 8, case.id, "order")


def questioning(case: Case) -> Chat | None:
    """A record as a dialogue of one to three questions and a diagnosis on the evidence."""
    asked = _ordered(case)
    if not case.positive or len(case.positive) + len(case.absent) < 2:
        return None
    case = replace(
        case,
        present=tuple(s for s in case.present if s in asked),
        absent=tuple(s for s in case.absent if s in asked),
    )
    groups = [asked[i : i + 3] for i in range(0, len(asked), 3)] or [[]]
    texts = [complaint(case)]
    for i, group in enumerate(groups[:3]):
        extra = pick(MORE, case.id, "more", 0) if i == 0 else ""
        names = [g.removeprefix("有") for g in group]
        texts.append(
            (pick(QUESTIONING, case.id, i).format(x="、".join(names)) if group else "") + extra
        )
        texts.append(
            _reply(
                [g for g in group if g in case.present],
                [g.removeprefix("有") for g in group if g in case.absent],
                pick(REPLIES[extra], case.id) if extra else "",
                case.id,
            )
        )
    held = hashed(f"case/{case.id}", "evidiag") != "train"
    texts.append(conclusion(case, held=held))
    split = "test" if case.held_out else ""
    return Chat(
        f"case-{case.id}",
        DXFORMER,
        "evidiag",
        True,
        dialogue(*texts),
        f"case/{case.id}",
        split,
        department="儿科",
        provenance=f"record {case.id}",
    )


def questionings(
    found: dict[str, Case], ledger: Ledger, used: set[str], limit: int
) -> Iterator[Chat]:
    """Dialogues from all records but those whose real dialogue is used already."""
    done = 0
    for case in dict.fromkeys(found.values()):
        if case.id.removeprefix("mz10/") in used or done >= limit:
            continue
        if not case.held_out and not supported(case):
            ledger.drop(DXFORMER, "evidence does not support the label", case.id)
            continue
        chat = questioning(case)
        if chat is None:
            ledger.drop(DXFORMER, "fewer than two symptoms", case.id)
            continue
        done += 1
        yield chat
