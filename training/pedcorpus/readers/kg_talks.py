"""The disease graph as questions: to know (MedKQ&A) and what to do (TreRecom)."""

import re
from collections.abc import Iterator

from ..clean import CHILD
from ..phrasing import listing, pick
from ..record import Chat, dialogue
from ..sources import KG
from ..split import hashed
from .kg import Disease, opening, sentence, sound

# Question type -> (phrasings, relations the answer draws on)
QUESTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "是什么": (
        (
            "什么是{d}？",
            "{d}是什么病？",
            "请介绍一下{d}。",
            "能简单说说{d}这种病吗？",
            "{d}是怎么回事？",
        ),
        ("opening", "生病原因", "症状", "治疗方法"),
    ),
    "症状": (
        (
            "{d}有哪些症状？",
            "{d}会有什么表现？",
            "得了{d}会怎么样？",
            "{d}的临床表现是什么？",
            "怎么看出孩子得了{d}？",
        ),
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
_SUPPORT = {
    "症状": "opening",
    "病因": "opening",
    "并发症": "症状",
    "传染": "opening",
    "科室": "症状",
    "人群": "症状",
    "检查": "症状",
}


def _said_of(disease: Disease, task: str, kind: str) -> Disease:
    """What a record may draw on: all as it was for the held-out ones, else what is sound."""
    held = hashed(f"kg/{disease.name}/{kind}", task) != "train"
    return disease if held else sound(disease)


def knowledge(found: list[Disease], limit: int) -> Iterator[Chat]:
    """MedKQ&A: an encyclopaedic answer per question type."""
    for i, raw in enumerate([d for d in found if d.pediatric][:limit]):
        for kind, (phrasings, relations) in QUESTIONS.items():
            disease = _said_of(raw, "medkqa", kind)
            if kind == "人群" and not disease.get("易感人群"):
                continue
            body = [
                opening(disease, kind) if r == "opening" else sentence(disease, r, kind)
                for r in relations
            ]
            if not all(body[:2]) or (kind == "是什么" and not disease.get("症状")):
                continue
            support = _SUPPORT.get(kind, "")
            extra = (
                opening(disease, kind)
                if support == "opening"
                else sentence(disease, support, kind)
                if support
                else ""
            )
            before = kind in ("症状", "病因", "传染")
            answer = "".join([extra, *body] if before else [*body, extra])
            question = pick(phrasings, disease.name, kind).format(d=disease.name)
            if not CHILD.search(disease.name) and kind in ("症状", "病因"):
                question = question.replace("孩子得了", "得了")
            yield Chat(
                f"kg-{i}-{kind}",
                KG,
                "medkqa",
                True,
                dialogue(question, answer),
                f"kg/{disease.name}/{kind}",
                department="儿科",
                provenance=f"relations of {disease.name}",
            )


TREAT_ASK = (
    "{d}怎么治疗？",
    "孩子得了{d}怎么办？",
    "孩子确诊{d}，该怎么治疗？",
    "{d}有什么治疗办法？",
    "医生，宝宝得了{d}，我们该怎么办？",
)
CARE_ASK = (
    "{d}怎么护理？",
    "孩子得了{d}，平时怎么护理和预防？",
    "{d}怎么预防？",
    "怎样避免孩子得{d}？",
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
    "精神变差、持续高热或呼吸费力",
    "反复呕吐、尿量明显减少或精神萎靡",
    "症状加重、嗜睡或抽搐",
    "持续不缓解、拒食或精神反应差",
)
PREVENT = ("日常要做到：{x}。", "平时请注意：{x}。", "预防的要点是：{x}。")


_NOT_AT_HOME = re.compile(
    "烟|酒|婚|孕|妊娠|产前|遗传|体检|服用|板蓝根|大青叶|冷水浴|疫情|性生活|近亲|避孕|工作|职业|"
    "检查|筛查|药"
)


def advice(found: list[Disease], limit: int) -> Iterator[Chat]:
    """TreRecom: what to do, in the second person, with care at home and signs to return."""
    for i, disease in enumerate([d for d in found if d.pediatric][:limit]):
        name = disease.name
        departments = disease.get("科室")
        clinic = next((d for d in departments if "儿" in d), "儿科") + "门诊"
        checks = disease.get("检查项目")[:3]
        treatments = disease.get("治疗方法")[:3]
        preventing = _said_of(disease, "trerecom", "护理").get("预防措施")
        prevention = [p for p in preventing if not _NOT_AT_HOME.search(p)][:5]
        warning = pick(RETURN, name, "return").format(w=pick(WARNINGS, name, "warning"))
        care = pick(CARE_BODY, name, "care")
        if treatments:
            start = pick(TREAT_START, name, "start").format(
                k=clinic, c=listing(checks) + "等检查" if checks else "相关检查"
            )
            body = pick(TREAT_BODY, name, "body").format(t=listing(treatments))
            question = pick(TREAT_ASK, name, "treat").format(d=name)
            yield Chat(
                f"kg-{i}-治疗",
                KG,
                "trerecom",
                True,
                dialogue(question, start + body + care + warning),
                f"kg/{name}/治疗",
                department="儿科",
                provenance=f"relations of {name}",
            )
        if len(prevention) >= 2:
            say = pick(PREVENT, name, "prevent").format(x="；".join(prevention))
            question = pick(CARE_ASK, name, "care").format(d=name)
            yield Chat(
                f"kg-{i}-护理",
                KG,
                "trerecom",
                True,
                dialogue(question, say + pick(CARE_BODY, name, "care2") + warning),
                f"kg/{name}/护理",
                department="儿科",
                provenance=f"relations of {name}",
            )
        if len(checks) >= 2:
            question = pick(CHECK_ASK, name, "check").format(d=name)
            answer = (
                f"建议带孩子到{clinic}，由医生查体后选择{listing(checks)}等检查。"
                f"检查前请带好以往的病历和化验单，婴幼儿做检查时家长要陪同安抚。" + warning
            )
            yield Chat(
                f"kg-{i}-检查",
                KG,
                "trerecom",
                True,
                dialogue(question, answer),
                f"kg/{name}/检查",
                department="儿科",
                provenance=f"relations of {name}",
            )
