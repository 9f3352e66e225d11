"""Symptom records (MZ-10, MZ-4, DXY): what was told, what was asked, the diagnosis."""

import json
import re
from dataclasses import dataclass, replace

from ..archive import Library
from ..ledger import Ledger
from ..sources import DXFORMER

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
    "|湿疹|贫血|荨麻疹|胀气|过敏|胎|衰竭|综合征|糖尿|高血压|脱水|便秘|鹅口疮|心率|血红|痔|脐|咯血|早搏|"
    "紊乱|粘膜|先天|肠管|过敏$"
)
# What no child has: slips of the annotators, from the drop-down list of another department.
_ADULT = re.compile("宫颈|子宫|月经|白带|阴道|阳痿|早泄|遗精|前列腺|性欲|孕|流产|乳房胀|更年期")
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


# Narrower than `_SAID_AS`: words that say that the symptom is there, unless the clause denies it.
_AFFIRMED_AS = {
    "发烧": "发烧|发热|烧到|高烧|低烧",
    "高烧": "高烧|高热",
    "低烧": "低烧|低热",
    "流鼻涕": "鼻涕|流涕",
    "有痰": "痰",
    "呕吐": "吐(?!奶泡|泡泡|气|字)",
    "腹泻": "拉肚子|腹泻|拉稀",
    "大便稀": "稀",
    "胃口不好": "食欲差|食欲下降|胃口差",
    "肚子胀": "胀",
    "肚子疼": "肚子[疼痛]|腹痛",
    "打喷嚏": "喷嚏",
    "气喘": "喘",
    "喘息": "喘",
    "声音沙哑": "哑",
    "皮疹": "疹|疙瘩|红点",
    "大便有黏液": "粘液|黏液",
    "大便发绿": "绿",
    "大便带血": "带血|血丝",
    "哭闹": "哭|闹",
}
_DENIES = re.compile(
    "不|没|无|未|正常|好了|以前|之前|小时候|怕|担心|会不会|是否|吗|呢|？|如果|要是|万一"
)


def affirmed(symptom: str, told: str) -> bool:
    """Whether one of the clauses that a parent says has the symptom and does not deny it."""
    words = re.compile(_AFFIRMED_AS.get(symptom, re.escape(symptom.removeprefix("有"))))
    clauses = re.findall("[^，。！；？]+？?", told)
    return any(words.search(clause) and not _DENIES.search(clause) for clause in clauses)


def heard(case: Case, said: str, told: str = "") -> Case:
    """The case with only the symptoms that a conversation has touched.

    An absent symptom goes too when the parent says in `told` that it is there.
    """

    def touched(symptom: str) -> bool:
        return (
            re.search(_SAID_AS.get(symptom, re.escape(symptom.strip("有大便"))), said) is not None
        )

    present = tuple(s for s in case.present if touched(s))
    absent = tuple(s for s in case.absent if touched(s) and not affirmed(s, told))
    return replace(case, present=present, absent=absent)


def spoken(symptom: str) -> str:
    """A symptom as a parent would say it."""
    return SPOKEN.get(symptom, symptom)


def _case(name: str, record: dict, held_out: bool) -> Case:

    def told(symptom: str) -> bool:
        # what is held out keeps its wording
        return not (_NOT_TOLD.search(symptom) or (not held_out and _ADULT.search(symptom)))

    explicit = [s for s, v in record["exp_sxs"].items() if v == "1" and told(s)]
    asked = {s: v for s, v in record["imp_sxs"].items() if told(s) and s not in explicit}
    label: str = record["label"]
    label = LABELS.get(label) or label

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
    if not held_out:  # what is there under a longer name is not absent
        absent = tuple(a for a in absent if not any(a in there for there in first + present))
    if not first:
        first, present = present[:1], present[1:]
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
