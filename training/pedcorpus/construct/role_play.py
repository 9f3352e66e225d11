"""Role play offline: someone asks, a pediatrician answers in the words of the source."""

import re
from collections.abc import Iterator

from ..clean import CHILD, finish, tidy
from ..doses import NOTICE, strip_doses
from ..phrasing import listing, pick
from ..readers.conditions import CONDITIONS
from ..readers.headings import LABELS
from ..readers.kg import Disease, opening, sound
from ..readers.kg_talks import QUESTIONS
from ..record import Chat, dialogue
from ..sources import CHINAXIV
from ..tasks import task_of
from .jobs import Job
from .made import made

LONGEST, SHORTEST = 360, 24  # characters of an answer
# Headings that mean the same -> questions of a parent, a student or a junior doctor.
# {d} is what the chapter is about.
ASK: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("定义|概述|概念|简介", ("什么是{d}？", "{d}是怎么回事？", "请介绍一下{d}。", "能讲讲{d}吗？")),
    (
        "病因|发病机制|病因和发病机制|病理|病理生理",
        ("{d}是什么原因引起的？", "{d}的病因是什么？", "为什么会发生{d}？", "{d}是怎么发生的？"),
    ),
    ("流行病学", ("{d}多见吗，哪些孩子容易得？", "{d}的流行情况怎样？")),
    ("分类|分型", ("{d}怎么分类？", "{d}有哪些类型？")),
    (
        "临床表现|症状|体征|症状和体征",
        ("{d}有哪些表现？", "{d}的临床表现是什么？", "孩子得了{d}会出现什么症状？"),
    ),
    (
        "辅助检查|实验室检查|影像学检查|检查",
        ("怀疑{d}要做哪些检查？", "{d}需要查什么？", "{d}的检查有哪些，结果怎么看？"),
    ),
    (
        "诊断|诊断标准|诊断要点|诊断依据",
        ("{d}怎么诊断？", "医生根据什么诊断{d}？", "{d}的诊断要点是什么？"),
    ),
    ("鉴别诊断", ("{d}要和哪些病区分？", "{d}需要与什么鉴别？")),
    (
        "治疗|治疗原则|一般治疗|药物治疗|对症治疗|手术治疗",
        ("{d}怎么治疗？", "孩子得了{d}该怎么办？", "{d}的治疗要点是什么？", "{d}有哪些治疗方法？"),
    ),
    ("并发症", ("{d}有哪些并发症？", "{d}会引起什么并发症？")),
    ("预防", ("怎么预防{d}？", "平时要注意什么，才能预防{d}？")),
    ("护理|家庭护理|注意事项|健康教育", ("{d}怎么护理？", "孩子得了{d}，在家要注意什么？")),
    ("预后|随访", ("{d}的预后怎样？", "{d}之后要怎么随访？")),
    ("转诊指征|就诊指征|危险信号", ("{d}什么情况下要去医院？", "{d}出现哪些情况要马上就医？")),
)
_ILLNESS = re.compile("(?:[病症炎热泻疹痛咳喘癣疮瘤血毒]|综合征|感染|贫血|黄疸|损伤|畸形|障碍)$")
_ASK_TERM = {True: ASK[0][1], False: ("什么是{d}？", "请介绍一下{d}。", "{d}是指什么？")}
OTHER = ("关于{d}，{h}方面有什么要点？", "{d}的“{h}”是怎么说的？", "请讲讲{d}的{h}。")
# Sentences about one relation that add nothing to it. {d} is the head, {x} the tails.
SAY: dict[str, tuple[str, ...]] = {
    "症状": (
        "{d}的常见表现有{x}。",
        "{d}可出现{x}等表现。",
        "得了{d}，可以有{x}。",
        "{d}的表现包括{x}。",
    ),
    "生病原因": ("{d}的发生与{x}有关。", "{d}的病因包括{x}。", "引起{d}的原因有{x}。"),
    "检查项目": ("怀疑{d}时，可以做的检查有{x}。", "{d}的检查项目包括{x}。", "诊断{d}可以查{x}。"),
    "并发症": ("{d}可能并发{x}。", "{d}的并发症有{x}。", "{d}需要留意的并发症包括{x}。"),
    "科室": ("{d}可以到{x}就诊。", "{d}应挂{x}。", "{d}由{x}诊治。"),
    "传染方式": ("{d}的传播方式：{x}。", "关于传染，{d}的情况是：{x}。"),
    "治疗方法": ("{d}的治疗方法包括{x}。", "治疗{d}可以采用{x}。", "{d}的治疗有{x}。"),
    "预防措施": ("预防{d}，要做到：{x}。", "{d}的预防措施有：{x}。", "{d}的预防要点是：{x}。"),
}
_GENERIC = re.compile("(?:总论|各论|绪论|概论|总则|正文|引言|背景|推荐意见|第.{1,4}[章节篇])$")
_LABEL = re.compile(rf"(?:{LABELS})$")
_FRONT = re.compile(
    "前言|目录|附录|参考文献|致谢|序言?$|编写|利益冲突|作者|声明|缩略语|指南制[定订]"
)
_DEFINES = re.compile(
    r"(?P<term>[^，。；：、（）“”\s]{2,16})(?:（[^）]{1,40}）)?"
    r"(?:，?(?:又称|也称|亦称|又名|简称|俗称)[^，。]{1,20})?，?"
    r"(?:是指|指的是|是一[种类组个]|是由|是(?:儿童|小儿|婴幼儿|新生儿)[^，。]{0,12}(?:疾病|急症|原因))"
)
_NO_TERM = re.compile(
    "^(?:该|本|此|这|那|其|它|他|我|你|目的|目标|原因|关键|主要|重点|结果|结论|研究|方法|因此|所以|"
    "但|而|如果|可能|一般|通常|多数|部分|少数|以上|上述|前者|后者)|的$|是$"
)
# Papers define what they study, of any field; and their sentences start before the term.
_NO_ILLNESS = re.compile(
    "表明|认为|发现|摘要|[】（(]|^所谓|^由于|^因为|^随着|^关于|^对|因素|看成|本质|[A-Za-z]$|乳腺"
)
# Names of illnesses that `_ILLNESS` does not know by their end.
_KNOWN = re.compile(
    "(?:紫癜|[唇腭]裂|破伤风|发育不[良全]|龋|窒息|癫痫|哮喘|脱位|瘫|缺损|佝偻|早产|水痘|结核)$"
)
_POINTS_AWAY = re.compile(
    r"[见如]?(?:图|表)\s*\d|见附|上图|下图|上表|下表|参见|详见|如前所述|本书|本章"
)
_REFERENCE = re.compile(r"[\[［]\s*\d+(?:\s*[-,，、–]\s*\d+)*\s*[\]］]")
_SENTENCE = re.compile(r"[^。！？；\n]+[。！？；]?")
_ANAPHORA = re.compile(
    "^(?:该|本|此|这|那|其|它|上述|以上|前者|后者|因此|所以|但|而且|同时|此外|另外|其次|并)"
)


def sentences(text: str) -> list[str]:
    """Sentences without reference marks; those that point to a figure or table are left out."""
    found = (s.strip() for s in _SENTENCE.findall(_REFERENCE.sub("", text)))
    return [s for s in found if s and not _POINTS_AWAY.search(s)]


def _answer(parts: list[str], longest: int = LONGEST) -> str:
    """Whole sentences in their order up to a length, doses replaced by the notice."""
    kept: list[str] = []
    for part in parts:
        if kept and sum(map(len, kept)) + len(part) > longest:
            break
        kept.append(part)
    text = "".join(part if part[-1] in "。！？；" else part + "。" for part in kept)
    text = finish(
        tidy(strip_doses(re.sub(r"(?:^|(?<=[。；]))\s*(?:\d{1,2}[.、．)）]|[①-⑳])\s*", "", text)))
    )
    return text if len(text.replace(NOTICE, "")) >= SHORTEST and len(text) <= LONGEST + 40 else ""


def subject_of(path: tuple[str, ...]) -> tuple[str, str]:
    """(what the chapter is about, the innermost label or heading below it) from the headings."""
    plain = [t for t in path if not _GENERIC.match(t)]
    named = [t for t in plain if not _LABEL.match(t) and not _FRONT.search(t) and 2 <= len(t) <= 24]
    if not named or _FRONT.search(path[-1]):
        return "", ""
    last = path[-1]
    subject = next((t for t in reversed(named) if t != last), named[-1])
    subject = re.sub(
        r"(?:诊疗|诊治|诊断与治疗|诊断和治疗|防治)?(?:指南|规范|专家共识|共识|方案|建议)?(?:[（(].*?[）)])?$",
        "",
        subject,
    )
    if not subject or _GENERIC.match(last) or re.search(r"\d", subject):
        return "", ""
    return subject, "概述" if last == named[-1] and len(named) == 1 else last


def _ask(subject: str, label: str, key: str) -> str:
    for labels, questions in ASK:
        if re.fullmatch(labels, label):
            question = pick(questions, key, label).format(d=subject)
            return (
                question.replace("孩子得了小儿", "得了小儿") if CHILD.search(subject) else question
            )
    return pick(OTHER, key, label).format(d=subject, h=label)


def from_text(job: Job) -> Iterator[Chat]:
    """A question per headed section, and one per definition in it."""
    found = sentences(job.passage)
    subject, label = subject_of(job.topic)
    defined: set[str] = set()
    given: set[str] = set()
    for i, part in enumerate(found):
        match = _DEFINES.match(part)
        term = match.group("term") if match else ""
        if not term or _NO_TERM.search(term) or term in defined:
            continue
        if job.source == CHINAXIV and not _names_illness(term):
            continue
        follow = next((j for j in range(i + 1, len(found)) if _DEFINES.match(found[j])), len(found))
        answer = _answer(found[i:follow], 220)
        if answer:
            defined.add(term)
            given.add(answer)
            question = pick(_ASK_TERM[bool(_ILLNESS.search(term))], job.id, term).format(d=term)
            yield made(
                job, dialogue(question, answer), _task(job, question), "offline", part=f"d{i}"
            )
    if label and not _ANAPHORA.match(found[0] if found else ""):
        answer = _answer(found)
        if answer and answer not in given:
            question = _ask(subject, label, job.id)
            yield made(job, dialogue(question, answer), _task(job, question), "offline", part="s")


def _names_illness(term: str) -> bool:
    """Whether a term of a paper, without its abbreviation, is the name of an illness."""
    bare = re.sub(r"[（(][^（）()]*[）)]$", "", term)
    if _NO_ILLNESS.search(bare):
        return False
    return bare in CONDITIONS or bool(_ILLNESS.search(bare) or _KNOWN.search(bare))


def _task(job: Job, question: str) -> str:
    return task_of(question, job.pediatric)


def say(name: str, relation: str, values: tuple[str, ...], salt: str) -> str:
    """One sentence that states a relation, or the empty string when there are no values."""
    if not values:
        return ""
    text = pick(SAY.get(relation, ("{d}的{r}包括{x}。",)), name, relation, salt)
    long = any(len(value) > 9 for value in values)
    said = "，".join(values) if long else listing(values)
    return text.format(d=name, r=relation, x=said)


def from_facts(job: Job) -> Iterator[Chat]:
    """A question per relation of a graph, in the phrasings of the builder's own graph reader."""
    name = job.topic[0]
    disease = sound(Disease(name, job.pediatric, {r: list(v[:10]) for r, v in job.facts}))
    facts = {r: tuple(values) for r, values in disease.facts.items()}
    asked: list[tuple[str, str, str]] = []  # kind of fact, question, answer
    for kind, (phrasings, relations) in QUESTIONS.items():
        needed = next((r for r in relations if r != "opening"), "易感人群")
        if needed not in facts or (relations[0] == "opening" and not opening(disease, kind)):
            continue
        body = [
            opening(disease, kind) if r == "opening" else say(name, r, facts.get(r, ()), kind)
            for r in relations
        ]
        question = pick(phrasings, name, kind).format(d=name)
        asked.append((kind, question if job.pediatric else _adult(question), "".join(body)))
    known = {r for _, relations in QUESTIONS.values() for r in relations} - {"治疗方法"}
    for relation, values in facts.items():
        if relation not in known and relation not in ("发病部位", "易感人群"):
            question = pick(_RELATION, name, relation).format(d=name, r=relation)
            answer = say(name, relation, values, "other")
            asked.append((_KINDS.get(relation, relation), question, answer))
    for kind, question, answer in asked:
        answer = finish(tidy(strip_doses(answer)))
        task = task_of(question, job.pediatric)
        group = f"{job.group}/{kind}"
        yield made(job, dialogue(question, answer), task, "offline", part=kind, group=group)


def _adult(question: str) -> str:
    return re.sub("孩子(?:怎么会|得了)?", lambda m: m.group().removeprefix("孩子"), question)


# The kinds of fact that these relations are in the builder's own graph reader.
_KINDS = {"治疗方法": "治疗", "预防措施": "护理"}
_RELATION = ("{d}的{r}有哪些？", "请问{d}的{r}是什么？", "我想了解{d}的{r}。")
