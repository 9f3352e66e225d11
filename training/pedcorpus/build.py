"""Build the corpus: `python -m training.pedcorpus.build --data DIR --out OUT [--preset nano]`."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from .archive import Library
from .ledger import Ledger
from .pairs import built, ranked
from .quality import good_chats, good_texts
from .readers import (
    authored,
    cmdd,
    consult,
    drugs,
    general,
    kg,
    kg_talks,
    papers,
    questioning,
    symptoms,
)
from .record import SPLITS, TASKS, Chat, Pair, Text
from .sources import (
    BABY,
    BENTSAO,
    CAREGPT,
    CHINAXIV,
    CHINESEBLUE,
    CMRC,
    DIALMED,
    DXFORMER,
    KDCONV,
    KG,
    LLAMAFACTORY,
    MEDICALGPT,
    OWN,
    SMILE,
    SOURCES,
    TOYHOM,
    WIKI,
    ZHONGJING,
)
from .split import assign, clear_texts


@dataclass(frozen=True)
class Preset:
    """How much of the large sources to take (records, or characters for documents)."""

    diseases: int
    drugs: int
    preprint_chars: int
    wiki_chars: int
    cmrc_chars: int
    toyhom: int
    toyhom_chats: int
    smile: int
    kdconv: int
    cases: int
    pairs: int
    adults: int


PRESETS = {
    "ci": Preset(300, 80, 200_000, 60_000, 20_000, 100, 40, 30, 10, 400, 300, 60),
    "nano": Preset(9_000, 2_441, 6_000_000, 150_000, 300_000, 0, 0, 250, 60, 4_000, 2_700, 700),
    "nano-gpu": Preset(
        99_999,
        2_441,
        40_000_000,
        2_000_000,
        2_000_000,
        99_999,
        3_000,
        1_500,
        300,
        9_999,
        4_500,
        99_999,
    ),
}


class Builder:
    """Reads each source once, in a fixed order."""

    def __init__(self, library: Library, preset: Preset) -> None:
        self.library, self.preset, self.ledger = library, preset, Ledger()
        self.texts: list[Text] = []
        self.chats: list[Chat] = []

    def _steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        library, ledger, p = self.library, self.ledger, self.preset

        def text(source: str, make: Callable[[], Iterable[Text]]) -> tuple[str, Callable[[], None]]:
            return source, lambda: self.texts.extend(make())

        def chat(source: str, make: Callable[[], Iterable[Chat]]) -> tuple[str, Callable[[], None]]:
            return source, lambda: self.chats.extend(make())

        yield OWN, self._authored
        yield DXFORMER, self._cases
        yield KG, self._graph
        yield chat(ZHONGJING, lambda: consult.huatuo(library, ledger, p.adults))
        yield chat(ZHONGJING, lambda: consult.cmtmedqa(library, ledger))
        yield chat(BENTSAO, lambda: consult.bentsao(library, ledger))
        yield chat(MEDICALGPT, lambda: consult.medical_sft(library, ledger, p.adults // 3))
        yield chat(BABY, lambda: consult.baby(library, ledger))
        yield chat(DIALMED, lambda: consult.dialmed(library, ledger))
        yield chat(LLAMAFACTORY, lambda: general.instructions(library, ledger))
        yield chat(SMILE, lambda: general.support(library, ledger, p.smile))
        yield chat(KDCONV, lambda: general.smalltalk(library, ledger, p.kdconv))
        if p.toyhom_chats:
            yield chat(TOYHOM, lambda: consult.toyhom(library, ledger, p.toyhom_chats))
        yield text(CAREGPT, lambda: drugs.monographs(library, ledger, p.drugs))
        yield text(WIKI, lambda: papers.wiki(library, ledger, p.wiki_chars))
        yield text(CHINAXIV, lambda: papers.preprints(library, ledger, p.preprint_chars))
        if p.toyhom:
            yield text(TOYHOM, lambda: consult.toyhom_texts(library, ledger, p.toyhom))
        yield text(CMRC, lambda: papers.encyclopaedia(library, ledger, p.cmrc_chars))

    def _authored(self) -> None:
        self.texts.extend(authored.pages())
        for make in (authored.knowledge(), authored.advice(), authored.talks(self.ledger)):
            self.chats.extend(make)

    def _cases(self) -> None:
        found = symptoms.cases(self.library, self.ledger)
        used: set[str] = set()
        if self.library.has(CHINESEBLUE):
            talks = cmdd.consultations(self.library, self.ledger, found)
            real = list(cmdd.evidence(talks))
            used = {c.group.removeprefix("cmdd/") for c in real}
            self.chats.extend(real)
            self.chats.extend(cmdd.recommendations(talks))
            self.texts.extend(cmdd.transcripts(talks))
        self.chats.extend(questioning.questionings(found, self.ledger, used, self.preset.cases))

    def _graph(self) -> None:
        found = kg.diseases(self.library, self.ledger)
        self.texts.extend(kg.pages(found, self.ledger, self.preset.diseases))
        self.chats.extend(kg_talks.knowledge(found, self.preset.diseases))
        self.chats.extend(kg_talks.advice(found, self.preset.diseases))

    def run(self) -> tuple[list[Text], list[Chat], list[Pair]]:
        """Texts, chats and pairs, cleaned and split."""
        steps = list(self._steps())
        for source, step in tqdm(steps, desc="sources", file=sys.stderr):
            if source != OWN and not self.library.has(source):
                if source not in self.ledger.absent:
                    self.ledger.absent.append(source)
                continue
            step()
        chats, guard = assign(good_chats(self.chats, self.ledger), self.ledger)
        held = [c.group for c in chats if c.split != "train" and c.group.startswith("cmdd/")]
        hidden = {group.replace("cmdd/", "cmdd-") for group in held}
        texts = [t for t in self.texts if t.id not in hidden]
        texts = list(clear_texts(good_texts(texts, self.ledger), guard, self.ledger))
        texts.sort(key=lambda t: not t.pediatric)
        pairs = [*built(chats, self.preset.pairs), *ranked(self.library)]
        pairs = [pair for pair in pairs if not guard.shares(pair.turns[-1].text)]
        for item in (*texts, *chats):
            self.ledger.keep(item.source)
        return texts, chats, pairs


def _turns(turns: Iterable) -> list[dict]:
    return [{"role": t.role, "text": t.text} for t in turns]


def _write(path: Path, rows: Iterable[dict]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write(out: Path, texts: list[Text], chats: list[Chat], pairs: list[Pair]) -> None:
    """The three files of the corpus."""
    out.mkdir(parents=True, exist_ok=True)
    licence = {name: source.licence for name, source in SOURCES.items()}
    _write(
        out / "text.jsonl",
        (
            {
                "id": t.id,
                "source": t.source,
                "licence": licence[t.source],
                "kind": "text",
                "pediatric": t.pediatric,
                "text": t.text,
            }
            for t in texts
        ),
    )
    _write(
        out / "chat.jsonl",
        (
            {
                "id": c.id,
                "source": c.source,
                "licence": licence[c.source],
                "task": c.task,
                "split": c.split,
                "templated": c.templated,
                "turns": _turns(c.turns),
            }
            for c in chats
        ),
    )
    _write(
        out / "pairs.jsonl",
        (
            {
                "id": p.id,
                "source": p.source,
                "task": p.task,
                "turns": _turns(p.turns),
                "chosen": p.chosen,
                "rejected": p.rejected,
                "kind": p.kind,
            }
            for p in pairs
        ),
    )


def report(
    ledger: Ledger, texts: list[Text], chats: list[Chat], pairs: list[Pair], seconds: float
) -> dict:
    """The numbers of report.json."""
    by_task = Counter((c.task, c.split) for c in chats)
    by_source = Counter((c.source, c.task, c.split) for c in chats)
    return {
        "seconds": round(seconds, 1),
        "text": {
            "records": len(texts),
            "chars": sum(len(t.text) for t in texts),
            "pediatric_chars": sum(len(t.text) for t in texts if t.pediatric),
            "chars_by_source": dict(_sum((t.source, len(t.text)) for t in texts)),
        },
        "chat": {task: {split: by_task[task, split] for split in SPLITS} for task in TASKS},
        "chat_chars": sum(len(t.text) for c in chats for t in c.turns),
        "chat_human": dict(Counter(c.task for c in chats if not c.templated)),
        "chat_by_source": [
            {"source": s, "task": t, "split": x, "records": n}
            for (s, t, x), n in sorted(by_source.items())
        ],
        "pairs": {
            "records": len(pairs),
            "kinds": dict(Counter(p.kind for p in pairs)),
            "tasks": dict(Counter(p.task for p in pairs)),
        },
        "licences": {
            n: {"licence": SOURCES[n].licence, "tier": SOURCES[n].tier}
            for n in sorted({x.source for x in (*texts, *chats, *pairs)})
        },
        "absent": ledger.absent,
        "sources": ledger.as_dict(),
    }


def _sum(items: Iterable[tuple[str, int]]) -> Counter:
    total: Counter[str] = Counter()
    for name, count in items:
        total[name] += count
    return total


def table(numbers: dict) -> str:
    """The counts per task, split and source, for the terminal."""
    text = numbers["text"]
    lines = [
        f"text   {text['records']:7d} records {text['chars']:10,d} chars,"
        f" {text['pediatric_chars']:,d} pediatric"
    ]
    lines += [
        f"       {name:46s} {chars:10,d} chars"
        for name, chars in sorted(text["chars_by_source"].items(), key=lambda x: -x[1])
    ]
    lines += [
        f"{task:9s}"
        + "".join(f"  {split} {count:6d}" for split, count in row.items())
        + f"  human {numbers['chat_human'].get(task, 0)}"
        for task, row in numbers["chat"].items()
    ]
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for item in numbers["chat_by_source"]:
        rows.setdefault((item["task"], item["source"]), {})[item["split"]] = item["records"]
    lines += [
        f"  {task:9s} {source:46s}"
        + "".join(f" {split} {row.get(split, 0):5d}" for split in SPLITS)
        for (task, source), row in sorted(rows.items())
    ]
    lines.append(f"pairs  {numbers['pairs']['records']:7d} {numbers['pairs']['kinds']}")
    if numbers["absent"]:
        lines.append("absent: " + ", ".join(numbers["absent"]))
    return "\n".join([*lines, f"{numbers['seconds']} s"])


def build(data: Path, out: Path, preset: str) -> dict:
    """Read the sources in `data`, write the corpus to `out`, return the report."""
    start = perf_counter()
    builder = Builder(Library(data), PRESETS[preset])
    texts, chats, pairs = builder.run()
    write(out, texts, chats, pairs)
    numbers = report(builder.ledger, texts, chats, pairs, perf_counter() - start)
    (out / "report.json").write_text(json.dumps(numbers, ensure_ascii=False, indent=1), "utf-8")
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the pediatric corpus.")
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME.tar.xz or NAME/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="nano")
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"no such folder: {options.data}")
    print(table(build(options.data, options.out, options.preset)))


if __name__ == "__main__":
    main()
