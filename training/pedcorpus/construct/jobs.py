"""Records as jobs: one passage or dialogue each, with what its results inherit."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..clean import CHILD, key_of, tidy
from ..ledger import Ledger
from ..phrasing import number
from ..readers.headings import read_back
from ..record import Chat, Exam, Text, Triple, Turn

LONGEST = 1600  # characters of a passage
SHORTEST = 24
# Names that graphs give to the same relation.
RELATIONS = {
    "临床表现": "症状",
    "症状体征": "症状",
    "疾病症状": "症状",
    "病因": "生病原因",
    "原因": "生病原因",
    "检查": "检查项目",
    "辅助检查": "检查项目",
    "治疗": "治疗方法",
    "预防": "预防措施",
    "就诊科室": "科室",
    "所属科室": "科室",
    "传播途径": "传染方式",
    "好发人群": "易感人群",
    "多发人群": "易感人群",
    "部位": "发病部位",
}


@dataclass(frozen=True)
class Job:
    """Something to construct from. `passage` is all that an answer may say; `facts` are its
    relations when it comes from a graph; `turns` the dialogue when it is one. `group` names the
    fact, so that a split never puts it on both sides."""

    rule: str
    id: str
    source: str
    topic: tuple[str, ...]
    passage: str
    pediatric: bool
    group: str
    provenance: str
    facts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    turns: tuple[Turn, ...] = ()
    task: str = ""
    templated: bool = True
    department: str = ""
    age_group: str = ""


def rule_of(record: Text | Chat | Triple) -> str:
    """The rule for a kind of record: people's dialogues are regularised, others reconstructed."""
    if isinstance(record, Chat):
        return "reconstruct" if record.templated else "regularise"
    return "role_play"


def jobs(records: Iterable, rule: str, ledger: Ledger) -> Iterator[Job]:
    """Jobs in the order of the records; triples last, gathered by what they are about.

    With a rule other than `auto`, records of another kind are counted and left out. So are
    records that the split has put aside, and exams, which never train.
    """
    graph: dict[tuple[str, str], dict[str, list[str]]] = {}
    for record in records:
        if isinstance(record, Exam):
            ledger.drop(record.source, "construct: exams never train", record.question)
        elif isinstance(record, Triple):
            if rule in ("auto", "role_play"):
                relation = RELATIONS.get(record.relation, record.relation)
                facts = graph.setdefault((record.source, record.head), {})
                facts.setdefault(relation, []).append(record.tail)
            else:
                ledger.drop(record.source, f"construct: not for {rule}", record.head)
        elif isinstance(record, Chat) and record.split in ("valid", "test"):
            ledger.drop(record.source, "construct: held out", record.question)
        elif rule not in ("auto", rule_of(record)) and not (
            isinstance(record, Chat) and rule in ("regularise", "reconstruct")
        ):
            ledger.drop(record.source, f"construct: not for {rule}", record.id)
        elif isinstance(record, Text):
            yield from _text_jobs(record, ledger)
        else:
            yield _chat_job(record, rule_of(record) if rule == "auto" else rule)
    for (source, head), facts in graph.items():
        yield graph_job(source, head, facts)


def in_turn(*streams: Iterable[Job]) -> Iterator[Job]:
    """One job of each stream after the other, so that a limit leaves none of them out."""
    waiting = [iter(stream) for stream in streams]
    while waiting:
        for stream in list(waiting):
            job = next(stream, None)
            if job is None:
                waiting.remove(stream)
            else:
                yield job


def _text_jobs(text: Text, ledger: Ledger) -> Iterator[Job]:
    path, body = read_back(text.text)
    parts = list(_cut(body))
    if not parts:
        ledger.drop(text.source, "construct: passage too short", text.text)
    for i, part in enumerate(parts):
        yield Job(
            "role_play",
            text.id if len(parts) == 1 else f"{text.id}.{i}",
            text.source,
            path,
            part,
            text.pediatric,
            f"text/{text.id}",
            text.provenance or text.id,
            department=text.department,
            age_group=text.age_group,
        )


def _cut(body: str) -> Iterator[str]:
    """Passages of at most LONGEST characters, cut between sentences."""
    part = ""
    for sentence in re.findall(r"[^。！？；\n]*[。！？；\n]+|[^。！？；\n]+$", body):
        if part and len(part) + len(sentence) > LONGEST:
            yield part.strip()
            part = ""
        part += sentence[:LONGEST]
    if len(part.strip()) >= SHORTEST:
        yield part.strip()


def _chat_job(chat: Chat, rule: str) -> Job:
    said = "\n".join(f"{'患者' if t.role == 'user' else '医生'}：{t.text}" for t in chat.turns)
    return Job(
        rule,
        chat.id,
        chat.source,
        (),
        said,
        chat.task != "general",
        chat.group or key_of(chat.question),
        chat.provenance or chat.id,
        turns=chat.turns,
        task=chat.task,
        templated=chat.templated,
        department=chat.department,
        age_group=chat.age_group,
    )


def graph_job(source: str, head: str, facts: dict[str, list[str]]) -> Job:
    """All that the graph says about one thing, values in their first order, without doubles."""
    kept = {}
    for relation, values in facts.items():
        cleaned = dict.fromkeys(tidy(v).strip(" 。；;，,、") for v in values)
        kept[relation] = tuple(v for v in cleaned if 1 < len(v) <= 40 and v != head)
    kept = {relation: values for relation, values in kept.items() if values}
    departments = kept.get("科室", ())
    pediatric = bool(CHILD.search(head)) or any("儿" in d for d in departments)
    lines = [f"{head}的{relation}：{'、'.join(values)}。" for relation, values in kept.items()]
    return Job(
        "role_play",
        f"triples-{number(source, head) % 16**10:010x}",
        source,
        (head,),
        "\n".join(lines),
        pediatric,
        f"kg/{head}",
        f"triples of {head}",
        facts=tuple(kept.items()),
        department="儿科" if pediatric else "",
    )
