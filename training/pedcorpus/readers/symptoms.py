"""Symptom records (MZ-10, MZ-4, DXY): explicit and asked symptoms with a diagnosis."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..archive import Library
from ..ledger import Ledger
from ..phrasing import listing, number, pick, some
from ..record import Chat, dialogue
from ..sources import DXFORMER
from .conditions import CONDITIONS, Condition

SETS = ("mz10", "mz4", "dxy")
LABELS = {
    "上呼吸道感染": "上呼吸道感染",
    "小儿上感": "上呼吸道感染",
    "小儿手足口病": "手足口病",
    "肺炎": "小儿肺炎",
}
# Entries of the annotation that are findings, tests or diagnoses, not symptoms a parent can tell.
_NOT_TOLD = re.compile(
    "炎|查|检|测|实验|细胞|蛋白|CRP|WBC|CT|PH|PPD|EB|胸片|平片|拍片|X光|听诊|超声|彩超|磁共振|"
    "心电|脑电|元素|电解质|镜$|培养"
    "|穿刺|常规|功能|感染|病$|黄胆|哮喘|痢疾|感冒|麻疹|水痘|验血|血分析|血涂片|化验|血小板|心肌|"
    "胆红素|结核|骨|舌|病毒|耳鼻喉"
    "|病原|体质|上火|阴影|啰音|呼吸音|痰鸣|肺纹理|充血|缺损|脑|梗阻|闭锁|巨结肠|绞痛|肠痉挛|乳糖|"
    "淋巴|锌|铁|钙|急诊|肾|抗体"
    "|百日咳|猩红热|黄疸.|.黄疸|佝偻|急疹|套叠|不耐受|着凉|受凉|肝|^屁$|^放屁$|退热|正常|排气|"
    "肠鸣|水肿|低血糖|败血|溶血|缺乏|消化不良"
    "|湿疹|贫血|荨麻疹|胀气|胎|衰竭|综合征|糖尿|高血压|脱水|便秘|鹅口疮|心率|血红|痔|脐|咯血|早搏|"
    "紊乱|粘膜|先天|肠管|过敏$"
)
SPOKEN = {
    "鼻流涕": "流鼻涕",
    "中等度热": "发烧",
    "黄疸": "皮肤发黄",
    "皮肤黄": "皮肤发黄",
    "眼发黄": "眼白发黄",
    "四肢厥冷": "手脚凉",
    "咳痰": "有痰",
    "声音嘶哑": "声音沙哑",
    "烦躁不安": "烦躁",
    "食欲不振": "胃口不好",
    "流涎": "流口水",
    "反胃": "恶心",
    "惊厥": "抽搐",
    "喘气": "气喘",
    "呃逆": "打嗝",
    "尿少": "小便少",
    "糊状便": "大便呈糊状",
    "粥样便": "大便呈糊状",
    "蛋花汤样便": "大便像蛋花汤",
    "蛋花样便": "大便像蛋花汤",
    "大便干燥": "大便干",
    "流鼻血": "鼻子出血",
    "鼻流血": "鼻子出血",
    "口唇发绀": "口唇发青",
    "黑便": "大便发黑",
    "头晕": "头晕",
    "流涕": "流鼻涕",
    "稀便": "大便稀",
    "痰": "有痰",
    "发热": "发烧",
    "高热": "高烧",
    "低热": "低烧",
    "食欲不佳": "胃口不好",
    "纳差": "胃口不好",
    "精神软": "精神不好",
    "精神萎靡": "精神不好",
    "嗓子沙哑": "声音沙哑",
    "尿量减少": "小便少",
    "发黄": "皮肤发黄",
    "大便粘液": "大便有黏液",
    "绿便": "大便发绿",
    "肚子疼": "肚子疼",
    "腹痛": "肚子疼",
    "腹胀": "肚子胀",
    "喷嚏": "打喷嚏",
    "黄痰": "有黄痰",
    "厌食": "不爱吃饭",
    "睡眠障碍": "睡不好",
    "臭味": "大便有臭味",
    "奶瓣": "大便有奶瓣",
    "血便": "大便带血",
    "水样便": "拉水样便",
    "头疼": "头疼",
    "头痛": "头疼",
    "气喘": "气喘",
    "喘息": "喘息",
    "呼吸困难": "呼吸费力",
    "咽部不适": "嗓子不舒服",
    "咽喉不适": "嗓子不舒服",
    "喉咙痛": "嗓子疼",
    "排便困难": "大便困难",
    "大便酸臭": "大便酸臭",
    "哭闹": "哭闹",
    "乏力": "没力气",
    "消瘦": "变瘦",
    "贪睡": "爱睡觉",
    "咽部充血": "嗓子红",
    "扁桃体肿大": "扁桃体肿大",
    "泡沫便": "大便有泡沫",
    "脓血便": "大便带脓血",
    "便血": "大便带血",
}


FEVERS = {"高烧", "低烧", "发烧"}


@dataclass(frozen=True)
class Case:
    """A record: told by the parent, asked and present, asked and absent, the diagnosis."""

    id: str
    explicit: tuple[str, ...]
    present: tuple[str, ...]
    absent: tuple[str, ...]
    label: str
    held_out: bool

    @property
    def positive(self) -> tuple[str, ...]:
        """All symptoms that are there, told or asked."""
        return self.explicit + self.present


_SAID_AS = {
    "发烧": "烧|发热|体温|度",
    "高烧": "烧|发热|体温|度",
    "低烧": "烧|发热|体温|度",
    "流鼻涕": "鼻涕|鼻子|流涕",
    "有痰": "痰",
    "气喘": "喘",
    "喘息": "喘",
    "呕吐": "吐",
    "腹泻": "拉|泻|稀",
    "大便稀": "稀|拉|水",
    "拉水样便": "水",
    "胃口不好": "吃|食欲|奶",
    "精神不好": "精神|蔫|没劲",
    "肚子胀": "胀|鼓",
    "肚子疼": "疼|痛",
    "打喷嚏": "喷嚏",
    "声音沙哑": "哑",
    "皮疹": "疹|疙瘩|红点",
    "大便有黏液": "粘|黏",
    "大便发绿": "绿",
    "大便带血": "血",
    "鼻塞": "鼻",
    "干咳": "咳",
    "哭闹": "哭|闹",
    "呼吸费力": "呼吸|憋",
    "手脚凉": "凉",
    "小便少": "尿",
    "皮肤发黄": "黄",
}


def heard(case: Case, said: str) -> Case:
    """The case with only the symptoms that a conversation has touched."""

    def touched(symptom: str) -> bool:
        return (
            re.search(_SAID_AS.get(symptom, re.escape(symptom.strip("有大便"))), said) is not None
        )

    present = tuple(s for s in case.present if touched(s))
    return replace(case, present=present, absent=tuple(s for s in case.absent if touched(s)))


def spoken(symptom: str) -> str:
    """A symptom as a parent would say it."""
    return SPOKEN.get(symptom, symptom)


def _case(name: str, record: dict, held_out: bool) -> Case:
    explicit = [s for s, v in record["exp_sxs"].items() if v == "1" and not _NOT_TOLD.search(s)]
    asked = {
        s: v for s, v in record["imp_sxs"].items() if not _NOT_TOLD.search(s) and s not in explicit
    }
    label = LABELS.get(record["label"], record["label"])

    def unique(symptoms: list[str], but: set[str]) -> tuple[str, ...]:
        words = dict.fromkeys(spoken(s) for s in symptoms)
        # "发烧" says nothing beside "高烧"
        known = but | (words.keys() - {"发烧"})
        return tuple(
            w
            for w in words
            if w not in but
            and not (w == "发烧" and FEVERS & known)
            and not (w in FEVERS and FEVERS & but)
        )

    first = unique(explicit, set())
    present = unique([s for s, v in asked.items() if v == "1"], set(first))
    absent = unique([s for s, v in asked.items() if v == "0"], {*first, *present})
    return Case(f"{name}/{record['pid']}", first, present, absent, label, held_out)


def cases(library: Library, ledger: Ledger) -> dict[str, Case]:
    """All records by `set/pid`, and MZ-10 also by its bare pid (the id of a CMDD dialogue)."""
    found: dict[str, Case] = {}
    wanted = {f"data/{name}/{part}_set.json" for name in SETS for part in ("train", "test")}
    for path, text in library.files(DXFORMER, lambda p: p in wanted):
        _, name, part = path.split("/")
        for record in json.loads(text):
            ledger.saw(DXFORMER)
            case = _case(name, record, part.startswith("test"))
            found[case.id] = case
            if name == "mz10":
                found[record["pid"]] = case
    return found


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
    "没有{a}，这些阴性表现也有参考意义。",
    "同时没有{a}，暂不支持更重的情况。",
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


def _fits(case: Case) -> bool:
    """Whether the general reason for the diagnosis agrees with what the record says."""
    needs, excludes = REASON_NEEDS.get(case.label, ("无", "无"))
    said = "、".join(case.positive)
    return bool(re.search(needs, said)) and not re.search(excludes, said)


def conclusion(case: Case, advice: str = "") -> str:
    """The diagnosis with the evidence item by item, the next check, advice and signs to return."""
    condition = CONDITIONS.get(case.label, Condition())
    parts = [
        pick(SUPPORT, case.id, "support")
        .format(p="、".join(case.positive[:7]))
        .replace("有有", "有")
    ]
    if case.absent:
        parts.append(pick(AGAINST, case.id, "against").format(a=listing(case.absent[:5], "或")))
    parts.append(pick(VERDICT, case.id, "verdict").format(d=case.label))
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
    texts.append(conclusion(case))
    split = "test" if case.held_out else ""
    return Chat(
        f"case-{case.id}", DXFORMER, "evidiag", True, dialogue(*texts), f"case/{case.id}", split
    )


def questionings(
    found: dict[str, Case], ledger: Ledger, used: set[str], limit: int
) -> Iterator[Chat]:
    """Dialogues from all records but those whose real dialogue is used already."""
    done = 0
    for case in dict.fromkeys(found.values()):
        if case.id.removeprefix("mz10/") in used or done >= limit:
            continue
        chat = questioning(case)
        if chat is None:
            ledger.drop(DXFORMER, "fewer than two symptoms", case.id)
            continue
        done += 1
        yield chat
