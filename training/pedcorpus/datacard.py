"""The data card: what the corpus holds, in the shape of the paper's table, and how it was cleaned."""

from collections import Counter
from collections.abc import Iterable, Sequence

from . import decontaminate, dedup
from .filters import STEPS
from .pipeline import REPLACED
from .record import SPLITS, TASKS
from .sources import (
    BABY,
    BENTSAO,
    CAREGPT,
    CHINAXIV,
    CHINESEBLUE,
    CMRC,
    DIALMED,
    DISC,
    DXFORMER,
    HUATUOGPT,
    ICD,
    KDCONV,
    KG,
    LLAMAFACTORY,
    MEDICALGPT,
    MIDMED,
    MING,
    OWN,
    REASONING,
    REMEDI,
    SMILE,
    TOYHOM,
    WIKI,
    YIER,
    ZHONGJING,
)

_FAMILY = {
    OWN: "written for this project",
    KG: "knowledge graph",
    DXFORMER: "knowledge graph: symptom records",
    CHINESEBLUE: "real conversations",
    DIALMED: "real conversations",
    MIDMED: "real conversations",
    REMEDI: "real conversations",
    ZHONGJING: "real conversations",
    TOYHOM: "real conversations",
    MEDICALGPT: "real conversations",
    HUATUOGPT: "real conversations",
    DISC: "real conversations",
    BENTSAO: "distilled medical sets",
    REASONING: "distilled medical sets",
    BABY: "distilled medical sets",
    LLAMAFACTORY: "general data",
    SMILE: "general data: empathic talk",
    KDCONV: "general data: small talk",
    CAREGPT: "drug handbook",
    CMRC: "Chinese Wikipedia",
    WIKI: "psychology wiki",
    CHINAXIV: "research papers",
    ICD: "classification of diseases",
    MING: "exams",
    YIER: "exams",
}
_NAMES = {"medkqa": "MedKQ&A", "evidiag": "EviDiag", "trerecom": "TreRecom", "general": "general"}
WEAKNESSES = """\
- Much of MedKQ&A and EviDiag is templated: graph triples and symptom records put into sentences.
  Human and templated records are counted apart everywhere, and evaluated apart.
- No source is a checked formulary or a guideline of a society; nothing here was reviewed by a
  doctor. Sentences with doses are gone, wrong statements may be left.
- CMDD is transcribed speech: slips of recognition are left, mostly homophones. Its complaint is put
  together from the symptom annotation, because the platform kept the written one elsewhere; windows
  after the first repeat it.
- Adult consultations (task `general`) teach the register of online doctors, not pediatrics.
- Toyhom's consultations were paraphrased by machine before they were published, and the words that
  it exchanged include opposites (a tumour is "enlarged" by chemotherapy, acid "increased" by its
  blockers). They are left out; the field `toyhom` of a preset takes them back.
- CMtMedQA, SMILE, BenTsao, baby-ai, the DISC dialogues and the reasoning set were written or
  polished by language models. The adult part of CMtMedQA, a test set of another project, is in
  training here.
- Department and age group come from the words of the question where the source has no field: empty
  means unknown, and a child's age is often unknown.
- Names are replaced only before a title or after words like 患者; a bare name in running text stays.
- Templated evaluation items share their sentences with templated training items by construction;
  decontamination does not count grams that three evaluation items share.
"""


def _rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _family(source: str) -> str:
    return _FAMILY.get(source, "the user's own files" if source.startswith("user__") else "other")


def _n(value: int) -> str:
    return f"{value:,}" if value else "–"


def _table_one(report: dict) -> str:
    """The table in the shape of Table 1 of the paper; training records only."""
    per: dict[str, Counter[str]] = {}
    for row in report["chat_by_source"]:
        if row["split"] == "train":
            per.setdefault(row["source"], Counter())[row["task"]] += row["records"]
    paired = report["pairs"]["sources"]
    rows: list[list[str]] = []
    for source, tasks in sorted(per.items(), key=lambda item: (_family(item[0]), item[0])):
        children = sum(n for task, n in tasks.items() if task != "general")
        department = "pediatrics" if not tasks["general"] else "multiple" if children else "general"
        cells = [_n(tasks[task]) for task in ("medkqa", "evidiag", "trerecom")]
        rows.append(
            ["PedCorpus", f"{_family(source)} ({source})", department, _n(sum(tasks.values()))]
            + [_n(paired.get(source, 0)), *cells]
        )
    for source, chars in report["text"]["chars_by_source"].items():
        children = report["text"]["pediatric_chars_by_source"][source]
        department = "pediatrics" if children > chars * 0.9 else "multiple"
        rows.append(
            ["PedCorpus-CPT", f"{_family(source)} ({source})", department, f"{chars:,} chars"]
            + ["–"] * 4
        )
    rows.append(
        ["PedCorpus-CPT", "instructions in completion form, from PedCorpus", "multiple"]
        + [f"{report['completion_chars']:,} chars", "–", "yes", "yes", "yes"]
    )
    tasks = report["pairs"]["tasks"]
    rows.append(
        ["PedCorpus-DFPO", "records of PedCorpus and ranked answers", "pediatrics"]
        + [_n(report["pairs"]["records"])] * 2
        + [_n(tasks.get(task, 0)) for task in ("medkqa", "evidiag", "trerecom")]
    )
    header = ("set", "source", "department", "number/size", "human preference")
    return _rows((*header, "MedKQ&A", "EviDiag", "TreRecom"), rows)


def _counts(report: dict) -> str:
    rows = []
    for task in TASKS:
        for split in SPLITS:
            row = report["human_and_templated"][task][split]
            rows.append(
                [_NAMES[task], split, _n(row["human"]), _n(row["templated"])]
                + [_n(row["human_answer_chars"]), _n(row["templated_answer_chars"])]
            )
    header = ("task", "split", "human", "templated", "answer chars, human", "templated")
    return _rows(header, rows)


def _breakdown(report: dict) -> str:
    def row(what: str) -> list[list[str]]:
        return [
            [
                _NAMES[task],
                ", ".join(f"{name or 'unknown'} {n:,}" for name, n in counts.items()),
            ]
            for task, counts in report[what].items()
        ]

    return (
        _rows(("task", "departments (records)"), row("departments"))
        + "\n"
        + _rows(("task", "age groups (records)"), row("age_groups"))
    )


def _steps(report: dict) -> str:
    rules = {step.name: step.rule for step in STEPS} | {
        "exact duplicate": "64-bit hash of the normalised text",
        "near duplicate": f"MinHash ({dedup.PLACES} places, {dedup.SHINGLE}-character shingles), "
        f"Jaccard from {dedup.NEAR}; texts, and human answers or dialogues",
        "holds an evaluation item": f"{decontaminate.N}-gram overlap, see below",
        "shares a held-out question": "the same question, punctuation and courtesies aside",
        "group is held out": "another record of the same dialogue or fact is held out",
        "template over the cap": "templated training records per task, chosen by hash",
    }
    removed: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for source in report["sources"].values():
        for step, item in source["removed"].items():
            removed[step] += item["count"]
        for step, item in source["changed"].items():
            changed[step] += item["count"]
    known = [[name, rule, _n(removed[name]), _n(changed[name])] for name, rule in rules.items()]
    if removed[REPLACED]:
        known.append(
            [REPLACED, "a regularised or reconstructed dialogue", _n(removed[REPLACED]), "–"]
        )
        rules[REPLACED] = ""
    others = [
        [step, "rule of the source's reader", _n(n), _n(changed[step])]
        for step, n in removed.most_common()
        if step not in rules
    ]
    return _rows(("step", "rule", "removed", "changed"), known + others)


def _samples(report: dict) -> str:
    lines = []
    for name, source in report["sources"].items():
        steps = [("removed", step, item) for step, item in source["removed"].items()]
        steps += [("changed", step, item) for step, item in source["changed"].items()]
        lines.append(f"\n### {name}\n\nread {source['read']:,}, kept {source['kept']:,}\n")
        for kind, step, item in steps:
            lines.append(f"- {step}, {kind} {item['count']:,}")
            lines += [f"  - `{_inline(sample)}`" for sample in item["samples"]]
    return "\n".join(lines) + "\n"


def _inline(sample: str) -> str:
    return " ".join(sample.replace("`", "'").split())


def card(report: dict, preset: str) -> str:
    """DATA_CARD.md."""
    found = report["decontamination"]
    text = report["text"]
    absent = ", ".join(report["absent"])
    licences = [[n, x["licence"], x["tier"]] for n, x in report["licences"].items()]
    exams = [[e["source"], e["split"], _n(e["records"])] for e in report["exams"]]
    return (
        f"# PedCorpus, preset `{preset}`: data card\n\n"
        "Chinese pediatric instructions for three tasks (PedCorpus), text for continued "
        "pre-training (PedCorpus-CPT) and pairs of answers (PedCorpus-DFPO), built by "
        "`python -m training.pedcorpus.build`. For research and teaching; not medical advice.\n\n"
        f"Text: {text['records']:,} records, {text['chars']:,} characters, "
        f"{text['pediatric_chars']:,} of them about children. Dialogues: "
        f"{report['chat_chars']:,} characters. Built in {report['seconds']:.0f} s with at most "
        f"{report['peak_rss_mb']:,.0f} MB of memory.\n\n"
        "## What is in it\n\nTraining records, in the shape of Table 1 of the PediatricsGPT paper "
        "(arXiv 2405.19266). The human-preference column counts pairs.\n\n"
        + _table_one(report)
        + "\n## People and templates, per task and split\n\n"
        + _counts(report)
        + "\n## Departments and ages\n\n"
        + _breakdown(report)
        + ("\n## Exams\n\n" + _rows(("source", "split", "questions"), exams) if exams else "")
        + "\n## Licences\n\nTier A: stated by the makers of the data. B: of a repository that "
        "re-hosts or derives from others' content. own: written here. user: stated by the user.\n\n"
        + _rows(("source", "licence", "tier"), licences)
        + (f"\nNot at hand in this build: {absent}.\n" if absent else "")
        + "".join(_own(folder) for folder in report.get("own", []))
        + (f"\nConstruction was {report['cut']}.\n" if "cut" in report else "")
        + "\n## Cleaning\n\nA step removes a record (or a part of one) or changes it. Evaluation "
        "items keep their wording.\n\n" + _steps(report) + "\n## Decontamination\n\n"
        f"Training records (text, dialogues, constructed ones and pairs) against "
        f"{found['units']:,} units of evaluation items (questions, answers, exams): a record goes "
        f"when it holds {found['share']:.0%} of a unit's distinct {found['n']}-character grams or "
        f"{found['run']} of them. {found['grams']:,} grams count; {found['common_grams_not_counted']:,} "
        f"that {decontaminate.COMMON} or more evaluation items share do not. "
        f"Looked at {found['looked_at']:,}, removed {found['removed']:,}; records by largest "
        "overlap before: "
        + ", ".join(f"{edge} {n:,}" for edge, n in found["share_of_overlap"].items())
        + ".\n\n## Known weaknesses\n\n"
        + WEAKNESSES
        + "\n## Samples of what each step took, by source\n"
        + _samples(report)
    )


def _own(own: dict) -> str:
    lines = [f"\nYour own files ({own['source']}, licence: {own['licence']}):\n"]
    lines += [f"- {line}" for line in (*own["warnings"], *own["problems"][:20])]
    return "\n".join(lines) + "\n"


def table(report: dict) -> str:
    """The counts per task, split and source, for the terminal."""
    text = report["text"]
    lines = [
        f"text   {text['records']:7d} records {text['chars']:10,d} chars,"
        f" {text['pediatric_chars']:,d} pediatric"
    ]
    lines += [
        f"       {name:46s} {chars:10,d} chars"
        for name, chars in sorted(text["chars_by_source"].items(), key=lambda x: -x[1])
    ]
    for task, row in report["human_and_templated"].items():
        cells = (f"{split} {n['human']:6d} + {n['templated']:5d}" for split, n in row.items())
        lines.append(f"{task:9s} " + "   ".join(cells) + "   (human + templated)")
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for item in report["chat_by_source"]:
        rows.setdefault((item["task"], item["source"]), {})[item["split"]] = item["records"]
    lines += [
        f"  {task:9s} {source:46s}"
        + "".join(f" {split} {row.get(split, 0):5d}" for split in SPLITS)
        for (task, source), row in sorted(rows.items())
    ]
    lines += [f"exam    {e['source']:46s} {e['split']} {e['records']:5d}" for e in report["exams"]]
    lines.append(f"pairs  {report['pairs']['records']:7d} {report['pairs']['kinds']}")
    if report["absent"]:
        lines.append("absent: " + ", ".join(report["absent"]))
    return "\n".join([*lines, f"{report['seconds']} s, {report['peak_rss_mb']} MB"])
