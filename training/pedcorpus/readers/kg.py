"""The disease graph: triples rewritten as pages, as knowledge questions and as advice."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..archive import Library
from ..clean import CHILD, tidy
from ..ledger import Ledger
from ..phrasing import listing, number, pick, some
from ..record import Chat, Text, dialogue
from ..sources import KG

FOLDER = "data/kg_info/fixed_entity_relation/relation/"
RELATIONS = (
    "症状", "检查项目", "预防措施", "治疗方法", "生病原因", "科室", "并发症", "发病部位", "传染方式", "易感人群",
)
LIMITS = {"症状": 10, "检查项目": 7, "预防措施": 6, "生病原因": 6, "并发症": 6, "科室": 2, "治疗方法": 4, "发病部位": 3, "传染方式": 3, "易感人群": 2}
_BAD = re.compile(r"\.{2,}|…|[:：？?]|^其他|^其它|^无$|详见|^暂|^尚|患有|过程中出现|根据|^发病|^有传染性$|^查$|^[A-Za-z]$")
_NO_INFECTION = re.compile("无传染|不传染|非传染|没有传染|无特殊传染")
_DEPARTMENTS = ("儿科综合", "其他综合", "其他")


@dataclass(frozen=True)
class Disease:
    """What the graph says about a disease, by relation, cleaned and capped."""

    name: str
    pediatric: bool
    facts: dict[str, list[str]] = field(default_factory=dict)

    def get(self, relation: str) -> list[str]:
        return self.facts.get(relation, [])


def _values(name: str, relation: str, raw: list[str]) -> list[str]:
    kept: list[str] = []
    for value in raw:
        value = re.sub(r"（[^）]*）|\([^)]*\)", "", tidy(value)).strip(" 。；;,，、的")
        if not 1 < len(value) <= 26 and not (relation == "发病部位" and value):
            continue
        if _BAD.search(value) or value == name or value in _DEPARTMENTS:
            continue
        if relation == "传染方式" and len(value) > 10:
            continue
        if relation == "易感人群" and ("无特" in value or "所有" in value):
            continue
        if any(value in other or other in value for other in kept):
            continue
        kept.append(value)
    limit = LIMITS[relation]
    return kept if len(kept) <= limit else sorted(some(kept, limit, name, relation), key=kept.index)


def diseases(library: Library, ledger: Ledger) -> list[Disease]:
    """All diseases of the graph with at least three known relations, children's diseases first."""
    raw: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    wanted = {FOLDER + relation + ".txt" for relation in RELATIONS}
    for _, text in library.files(KG, lambda path: path in wanted):
        for line in text.splitlines():
            parts = line.split(" ", 4)
            if len(parts) == 5 and parts[0] == "疾病" and parts[2] in RELATIONS:
                raw[parts[1]][parts[2]].append(parts[4])
    found = []
    for name, relations in raw.items():
        ledger.saw(KG)
        if len(name) > 24 or re.search(r"[?？]|,", name):
            ledger.drop(KG, "odd name", name)
            continue
        facts = {relation: _values(name, relation, values) for relation, values in relations.items()}
        facts = {relation: values for relation, values in facts.items() if values}
        pediatric = bool(CHILD.search(name)) or any("儿" in d for d in relations.get("科室", []))
        if len(facts) < 3:
            ledger.drop(KG, "fewer than three relations", name)
            continue
        found.append(Disease(name, pediatric, facts))
    return sorted(found, key=lambda d: (not d.pediatric, number(d.name)))


# Sentences about one relation. {d} disease, {x} enumeration.
SENTENCES: dict[str, tuple[str, ...]] = {
    "症状": (
        "{d}的常见表现有{x}。",
        "患病后可出现{x}等症状。",
        "临床上，{d}多表现为{x}。",
        "典型的症状包括{x}，不同患者的轻重并不一样。",
        "家长或患者最先注意到的往往是{x}。",
    ),
    "生病原因": (
        "{d}的发生与{x}有关。",
        "常见的病因包括{x}。",
        "引起{d}的原因主要有{x}。",
        "从病因上看，{x}都可能导致{d}。",
    ),
    "检查项目": (
        "为明确诊断，医生通常会安排{x}。",
        "诊断{d}时常做的检查有{x}。",
        "常用的检查包括{x}，具体选择由医生根据病情决定。",
        "怀疑{d}时，可以做{x}等检查。",
    ),
    "治疗方法": (
        "治疗以{x}为主。",
        "{d}的治疗主要包括{x}。",
        "确诊后一般采用{x}。",
        "目前常用的治疗方法有{x}，需由医生结合病情选择。",
    ),
    "预防措施": (
        "预防方面，应{x}。",
        "平时注意{x}，有助于预防{d}。",
        "为减少{d}的发生，建议{x}。",
        "预防{d}的要点是{x}。",
    ),
    "并发症": (
        "如果没有及时处理，可能并发{x}。",
        "{d}的并发症有{x}。",
        "病情进展时可出现{x}等并发症，需要警惕。",
        "需要留意的并发症包括{x}。",
    ),
    "科室": (
        "出现相关症状时，应到{x}就诊。",
        "就诊时可挂{x}。",
        "{d}一般由{x}诊治。",
    ),
    "传染方式": (
        "本病可通过{x}传播。",
        "{d}的传播途径主要是{x}。",
    ),
}
NOT_INFECTIOUS = ("{d}不具有传染性。", "本病没有传染性。", "{d}不会传染给他人。")


def _say(options: tuple[str, ...], disease: Disease, values: list[str], salt: str) -> str:
    text = pick(options, disease.name, salt).format(d=disease.name, x=_join(values, disease.name))
    return text.replace("等等", "等").replace("预防方面，应应", "预防方面，应")


def _join(values: list[str], salt: str) -> str:
    long = any(len(v) > 9 for v in values)
    return "，".join(values) if long and len(values) > 1 else listing(values, pick(("和", "以及", "及"), salt))


def sentence(disease: Disease, relation: str, salt: str = "") -> str:
    """One fluent sentence about a relation, or the empty string."""
    values = disease.get(relation)
    if not values:
        return ""
    if relation == "传染方式" and any(_NO_INFECTION.search(v) for v in values):
        return pick(NOT_INFECTIOUS, disease.name, salt).format(d=disease.name)
    if relation == "预防措施":
        values = [v.removeprefix("应").removeprefix("要").removeprefix("注意") for v in values]
    return _say(SENTENCES[relation], disease, values, relation + salt)


def opening(disease: Disease, salt: str = "") -> str:
    """What kind of disease it is: department, site, who gets it."""
    part, people = disease.get("发病部位"), disease.get("易感人群")
    departments = disease.get("科室")
    kind = "儿科疾病" if disease.pediatric else f"{departments[-1]}疾病" if departments else "疾病"
    site = "" if not part or part[0] in ("全身", "其他") else listing(part)
    if not site and not people and kind == "疾病":
        return ""
    crowd = listing([p.removesuffix("多见") for p in people])
    forms = {
        (True, True): ("{d}是一种累及{s}的{k}，多见于{p}。", "{d}属于{k}，病变部位主要在{s}，{p}较容易发病。"),
        (True, False): ("{d}是一种主要累及{s}的{k}。", "{d}属于{k}，病变主要发生在{s}。"),
        (False, True): ("{d}是一种多见于{p}的{k}。", "{d}属于{k}，{p}是容易发病的人群。"),
        (False, False): ("{d}是一种{k}。", "{d}属于{k}。"),
    }
    text = pick(forms[bool(site), bool(crowd)], disease.name, "opening", salt)
    return text.format(d=disease.name, s=site, p=crowd, k=kind)


ORDERS = (
    ("生病原因", "症状", "检查项目", "治疗方法", "并发症", "传染方式", "预防措施", "科室"),
    ("症状", "生病原因", "传染方式", "检查项目", "治疗方法", "预防措施", "并发症", "科室"),
    ("症状", "并发症", "生病原因", "检查项目", "科室", "治疗方法", "传染方式", "预防措施"),
)


def page(disease: Disease) -> str:
    """One page of prose, in one of several orders and wordings."""
    order = pick(ORDERS, disease.name, "order")
    parts = [opening(disease), *(sentence(disease, relation) for relation in order)]
    return "".join(part for part in parts if part)


def pages(found: list[Disease], ledger: Ledger, limit: int) -> Iterator[Text]:
    for i, disease in enumerate(found[:limit]):
        text = page(disease)
        if len(text) < 60:
            ledger.drop(KG, "short page", text)
            continue
        yield Text(f"kg-page-{i}", KG, disease.pediatric, text)


# Question type -> (phrasings, relations the answer draws on)
QUESTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "是什么": (
        ("什么是{d}？", "{d}是什么病？", "请介绍一下{d}。", "能简单说说{d}这种病吗？", "{d}是怎么回事？"),
        ("opening", "生病原因", "症状", "治疗方法"),
    ),
    "症状": (
        ("{d}有哪些症状？", "{d}会有什么表现？", "得了{d}会怎么样？", "{d}的临床表现是什么？", "怎么看出孩子得了{d}？"),
        ("症状",),
    ),
    "病因": (
        ("{d}是什么原因引起的？", "为什么会得{d}？", "{d}的病因有哪些？", "孩子怎么会得{d}？"),
        ("生病原因",),
    ),
    "并发症": (
        ("{d}会引起哪些并发症？", "{d}严重吗，会有什么并发症？", "{d}不及时治疗会怎样？"),
        ("并发症",),
    ),
    "传染": (
        ("{d}会传染吗？", "{d}有传染性吗？", "得了{d}需要隔离吗，会不会传染？"),
        ("传染方式",),
    ),
    "科室": (
        ("{d}应该挂什么科？", "孩子得了{d}看什么科？", "{d}去医院看哪个科室？"),
        ("科室",),
    ),
    "人群": (
        ("哪些人容易得{d}？", "{d}多见于什么人？", "{d}的易感人群是哪些？"),
        ("opening",),
    ),
    "检查": (
        ("{d}要做哪些检查？", "怎么确诊{d}？", "怀疑{d}需要查什么？"),
        ("检查项目",),
    ),
}
_SUPPORT = {"症状": "opening", "病因": "opening", "并发症": "症状", "传染": "opening", "科室": "症状", "人群": "症状", "检查": "症状"}


def knowledge(found: list[Disease], limit: int) -> Iterator[Chat]:
    """MedKQ&A: an encyclopaedic answer per question type."""
    for i, disease in enumerate([d for d in found if d.pediatric][:limit]):
        for kind, (phrasings, relations) in QUESTIONS.items():
            if kind == "人群" and not disease.get("易感人群"):
                continue
            body = [opening(disease, kind) if r == "opening" else sentence(disease, r, kind) for r in relations]
            if not all(body[:2]) or (kind == "是什么" and not disease.get("症状")):
                continue
            support = _SUPPORT.get(kind, "")
            extra = opening(disease, kind) if support == "opening" else sentence(disease, support, kind) if support else ""
            before = kind in ("症状", "病因", "传染")
            answer = "".join([extra, *body] if before else [*body, extra])
            question = pick(phrasings, disease.name, kind).format(d=disease.name)
            if not CHILD.search(disease.name) and kind in ("症状", "病因"):
                question = question.replace("孩子得了", "得了")
            yield Chat(f"kg-{i}-{kind}", KG, "medkqa", True, dialogue(question, answer), f"kg/{disease.name}/{kind}")


TREAT_ASK = (
    "{d}怎么治疗？", "孩子得了{d}怎么办？", "孩子确诊{d}，该怎么治疗？", "{d}有什么治疗办法？", "医生，宝宝得了{d}，我们该怎么办？",
)
CARE_ASK = (
    "{d}怎么护理？", "孩子得了{d}，平时怎么护理和预防？", "{d}怎么预防？", "怎样避免孩子得{d}？",
)
CHECK_ASK = ("孩子可能是{d}，要去医院做哪些检查？", "怀疑孩子得了{d}，我该带他查什么？")
TREAT_START = (
    "建议先带孩子到{k}就诊，完善{c}，明确病情后再用药。",
    "首先要到{k}面诊，通过{c}评估轻重。",
    "建议这样处理：先到{k}做{c}，由医生判断病情。",
    "先别自行用药，尽快带孩子去{k}，必要时做{c}。",
)
TREAT_BODY = (
    "治疗上一般采取{t}，按医生制定的方案坚持完成疗程。",
    "确诊后以{t}为主，用药种类和剂量都要听医生的。",
    "医生多会采用{t}，请不要自行加减药物。",
)
CARE_BODY = (
    "居家护理时，让孩子多休息，饮食清淡易消化，注意观察体温、精神和食欲。",
    "在家要保证休息和饮水，饮食清淡，每天留意孩子的精神、食欲和大小便。",
    "家庭护理的重点是休息、补充水分和清淡饮食，并记录症状变化。",
)
RETURN = (
    "如果出现{w}，请立即去医院。",
    "一旦发现{w}，不要等待，马上就医。",
    "若孩子{w}，应及时到医院急诊。",
)
WARNINGS = (
    "精神变差、持续高热或呼吸费力", "反复呕吐、尿量明显减少或精神萎靡", "症状加重、嗜睡或抽搐", "持续不缓解、拒食或精神反应差",
)
PREVENT = ("日常要做到：{x}。", "平时请注意：{x}。", "预防的要点是：{x}。")


_NOT_AT_HOME = re.compile("烟|酒|婚|孕|妊娠|产前|遗传|体检|服用|板蓝根|大青叶|冷水浴|疫情|性生活|近亲|避孕|工作|职业|检查|筛查|药")


def advice(found: list[Disease], limit: int) -> Iterator[Chat]:
    """TreRecom: what to do, in the second person, with care at home and signs to return."""
    for i, disease in enumerate([d for d in found if d.pediatric][:limit]):
        name = disease.name
        departments = disease.get("科室")
        clinic = next((d for d in departments if "儿" in d), "儿科") + "门诊"
        checks = disease.get("检查项目")[:3]
        treatments = disease.get("治疗方法")[:3]
        prevention = [p for p in disease.get("预防措施") if not _NOT_AT_HOME.search(p)][:5]
        warning = pick(RETURN, name, "return").format(w=pick(WARNINGS, name, "warning"))
        care = pick(CARE_BODY, name, "care")
        if treatments:
            start = pick(TREAT_START, name, "start").format(k=clinic, c=listing(checks) + "等检查" if checks else "相关检查")
            body = pick(TREAT_BODY, name, "body").format(t=listing(treatments))
            question = pick(TREAT_ASK, name, "treat").format(d=name)
            yield Chat(f"kg-{i}-治疗", KG, "trerecom", True, dialogue(question, start + body + care + warning), f"kg/{name}/治疗")
        if len(prevention) >= 2:
            say = pick(PREVENT, name, "prevent").format(x="；".join(prevention))
            question = pick(CARE_ASK, name, "care").format(d=name)
            yield Chat(f"kg-{i}-护理", KG, "trerecom", True, dialogue(question, say + pick(CARE_BODY, name, "care2") + warning), f"kg/{name}/护理")
        if len(checks) >= 2:
            question = pick(CHECK_ASK, name, "check").format(d=name)
            answer = f"建议带孩子到{clinic}，由医生查体后选择{listing(checks)}等检查。检查前请带好以往的病历和化验单，婴幼儿做检查时家长要陪同安抚。" + warning
            yield Chat(f"kg-{i}-检查", KG, "trerecom", True, dialogue(question, answer), f"kg/{name}/检查")
