"""The disease graph: triples, cleaned, and rewritten as one page of prose per disease."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ..archive import Library
from ..clean import CHILD, tidy
from ..ledger import Ledger
from ..phrasing import listing, number, pick, some
from ..record import Text
from ..sources import KG

FOLDER = "data/kg_info/fixed_entity_relation/relation/"
RELATIONS = (
    "症状",
    "检查项目",
    "预防措施",
    "治疗方法",
    "生病原因",
    "科室",
    "并发症",
    "发病部位",
    "传染方式",
    "易感人群",
)
LIMITS = {
    "症状": 10,
    "检查项目": 7,
    "预防措施": 6,
    "生病原因": 6,
    "并发症": 6,
    "科室": 2,
    "治疗方法": 4,
    "发病部位": 3,
    "传染方式": 3,
    "易感人群": 2,
}
_BAD = re.compile(
    r"\.{2,}|…|[:：？?]|^其他|^其它|^无$|详见|^暂|^尚|患有|过程中出现|根据|^发病|有传染性|^有传染性$|^查$|"
    r"^[A-Za-z]$"
)
_NO_INFECTION = re.compile("无传染|不传染|非传染|没有传染|无特殊传染")
_DEPARTMENTS = ("儿科综合", "其他综合", "其他")


@dataclass(frozen=True)
class Disease:
    """What the graph says about a disease, by relation, cleaned and capped."""

    name: str
    pediatric: bool
    facts: dict[str, list[str]] = field(default_factory=dict)

    def get(self, relation: str) -> list[str]:
        """The values of a relation, possibly none."""
        return self.facts.get(relation, [])


# Illnesses with a germ: that they do not spread is not for a graph to say.
_GERM = re.compile(
    "感染|细菌|真菌|霉菌|病毒|流感|流行性|结核|传染|链球菌|葡萄球菌|杆菌|支原体|衣原体|螺旋体|梅毒|淋病|"
    "痢疾|麻疹|水痘|风疹|百日咳|白喉|伤寒|霍乱|手足口|疱疹|脓疱|疥|[头体股手足]癣"
)
# "少饮" stands where the crawled page had "多饮", also with diabetes; nobody should drink little.
_LITTLE_DRINK = re.compile("^(?:.{0,6}[和、，])?(?:忌|宜|应)?少[饮喝]水?$")


def sound(disease: Disease) -> Disease:
    """The disease without the values of the graph that are known to be wrong."""

    def right(relation: str, value: str) -> bool:
        if relation == "传染方式" and _NO_INFECTION.search(value):
            return not _GERM.search(disease.name)
        return not _LITTLE_DRINK.search(value)

    facts = {r: [v for v in values if right(r, v)] for r, values in disease.facts.items()}
    return replace(disease, facts={r: values for r, values in facts.items() if values})


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
        facts = {
            relation: _values(name, relation, values) for relation, values in relations.items()
        }
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
    return (
        "，".join(values)
        if long and len(values) > 1
        else listing(values, pick(("和", "以及", "及"), salt))
    )


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
        (True, True): (
            "{d}是一种累及{s}的{k}，多见于{p}。",
            "{d}属于{k}，病变部位主要在{s}，{p}较容易发病。",
        ),
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
    """One page per disease, children's diseases first, at most `limit`."""
    for i, disease in enumerate(found[:limit]):
        text = page(sound(disease))
        if len(text) < 60:
            ledger.drop(KG, "short page", text)
            continue
        departments = disease.get("科室")
        yield Text(
            f"kg-page-{i}",
            KG,
            disease.pediatric,
            text,
            "儿科" if disease.pediatric else departments[-1] if departments else "",
            provenance=f"relations of {disease.name}",
        )
