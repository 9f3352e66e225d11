"""Build the corpus: `python -m training.pedcorpus.build --data DIR --out OUT [--preset nano]`.

Sources are read as one stream, cleaned and spilled to Parquet (pipeline.py), thinned out there,
extended by the construction rules, and written: records/*.parquet with every field, the JSON lines
that training reads, report.json, DATA_CARD.md and hashes.json. No step holds the texts in memory.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from time import perf_counter

from . import construct
from .archive import Library
from .datacard import card, table
from .ledger import Ledger
from .output import (
    chat_row,
    completion_row,
    exam_row,
    hash_files,
    pair_row,
    put,
    replacing,
    text_row,
)
from .pairs import Chooser, ranked
from .pipeline import Pipeline
from .readers import own_folder
from .readers.more import PAIR_READERS
from .reading import PRESETS, Preset, Reading
from .record import Chat, Exam, Pair, Text, Triple
from .sources import CAREGPT, CHINESEBLUE, SMILE
from .split import hashed
from .store import Record, Writer
from .tally import Tally


def _seed(record: Record, engine: construct.Engine) -> bool:
    """Whether to construct from a record: from training records, and without a model only from
    texts and triples about children, since rules cannot better what people said.
    """
    if isinstance(record, Exam):
        return False
    if isinstance(record, Chat):
        chosen = engine.options.engine != "offline" or engine.options.rule != "auto"
        return chosen and record.split == "train"
    return isinstance(record, Triple) or (record.pediatric and record.source not in _NO_BOOKS)


def _constructed(
    pipeline: Pipeline, engine: construct.Engine, limit: int, ledger: Ledger
) -> Iterator[Chat]:
    """What the rules make of the training records, for training; nothing from a held-out fact."""
    made = 0
    # the user's own files first: the limit should not be spent before they are reached
    mine = pipeline.kept(lambda r: r.source.startswith("user__") and _seed(r, engine))
    others = pipeline.kept(lambda r: not r.source.startswith("user__") and _seed(r, engine))
    made_of = (construct.apply(seeds, engine, ledger) for seeds in (mine, others))
    for chat in chain.from_iterable(made_of):
        if made >= limit:
            return
        if chat.task == "general" and engine.options.engine == "offline":
            continue  # adults' diseases as sentences of the graph: the texts hold them already
        ledger.saw(chat.source)
        if chat.split not in _TRAIN or (chat.group and hashed(chat.group, chat.task) != "train"):
            ledger.drop(chat.source, "constructed from a held-out fact", chat.question)
            continue
        made += 1
        yield replace(chat, split="train")


_TRAIN = ("", "train")
# Dialogues written out, and monographs whose sentences lost their doses: no passages of a book.
_NO_BOOKS = (CHINESEBLUE, SMILE, CAREGPT)


class Corpus:
    """Writes what stays of a pipeline."""

    def __init__(self, out: Path, pipeline: Pipeline, library: Library, pairs: int) -> None:
        self.out, self.pipeline, self.library = out, pipeline, library
        self.tally, self.chooser = Tally(), Chooser(pairs)

    def write(self) -> None:
        """All record files, then the pairs. Children's texts come first in text.jsonl."""
        records = self.out / "records"
        with (
            Writer(records / "text.parquet") as texts,
            Writer(records / "chat.parquet") as chats,
            Writer(records / "exam.parquet") as exams,
            Writer(records / "triple.parquet") as triples,
            replacing(self.out / "text.jsonl") as text_file,
            replacing(self.out / "chat.jsonl") as chat_file,
            replacing(self.out / "completions.jsonl") as completion_file,
            replacing(self.out / "exam.jsonl") as exam_file,
        ):
            for record in self.pipeline.kept():
                self.tally.count(record)
                if isinstance(record, Text):
                    texts.put(record)
                    if record.pediatric:
                        put(text_file, text_row(record))
                elif isinstance(record, Chat):
                    chats.put(record)
                    put(chat_file, chat_row(record))
                    self.chooser.see(record)
                    if record.split == "train":
                        put(completion_file, completion_row(record))
                elif isinstance(record, Exam):
                    exams.put(record)
                    put(exam_file, exam_row(record))
                else:
                    triples.put(record)
            for record in self.pipeline.kept(lambda r: isinstance(r, Text) and not r.pediatric):
                put(text_file, text_row(record))  # type: ignore[arg-type]
        with replacing(self.out / "pairs.jsonl") as file:
            for pair in self._pairs():
                self.tally.count_pair(pair)
                put(file, pair_row(pair))

    def _pairs(self) -> Iterator[Pair]:
        seen: set[str] = set()
        for pair in self._candidates():
            asked = "\n".join(t.text for t in pair.turns)
            held = self.pipeline.index.contaminated(
                [asked, asked + pair.chosen, asked + pair.rejected]
            )
            if held.any() or self.pipeline.holds_out(pair.turns[0].text):
                self.pipeline.ledger.drop(pair.source, "pair holds an evaluation item", asked)
            elif pair.id not in seen:
                seen.add(pair.id)
                yield pair

    def _candidates(self) -> Iterator[Pair]:
        yield from self.chooser.pairs()
        yield from ranked(self.library)
        for source, reader in PAIR_READERS:
            if self.library.has(source):
                yield from reader(self.library, self.pipeline.ledger)


def build(
    data: Path,
    out: Path,
    preset: str | Preset,
    extra: Path | None = None,
    options: construct.Options | None = None,
    records: Iterable[Record] = (),
) -> dict:
    """Read the sources in `data`, write the corpus to `out`, return the report.

    `extra` is a folder of the user's own files; `records` are added as they come. Raises ValueError
    or FileNotFoundError that say which file cannot be used and why.
    """
    start = perf_counter()
    chosen = PRESETS[preset] if isinstance(preset, str) else preset
    options = options or construct.Options()
    library, ledger = Library(data), Ledger()
    own = own_folder.open_folder(extra) if extra else None
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    pipeline = Pipeline(work, ledger)
    pipeline.take(Reading(library, chosen, ledger, _chain(own, ledger, records)).records())
    limit = options.limit or chosen.constructed
    if limit:
        pipeline.settle()
        # an endpoint's cost is estimated for what it is asked, so it is told the limit
        asked = replace(options, limit=limit) if options.engine == "endpoint" else options
        engine = construct.engine_from(asked)
        pipeline.take(_constructed(pipeline, engine, limit, ledger))
    pipeline.settle(chosen.templated)
    pipeline.account()
    corpus = Corpus(out, pipeline, library, chosen.pairs)
    corpus.write()
    hash_files(out)
    report = corpus.tally.report(ledger, pipeline.decontamination, perf_counter() - start)
    if own:
        report["own"] = {
            "source": own.source,
            "licence": own.licence,
            "warnings": own.warnings,
            "problems": own.problems,
        }
    with replacing(out / "report.json") as file:
        file.write(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    with replacing(out / "DATA_CARD.md") as file:
        file.write(card(report, preset if isinstance(preset, str) else "custom"))
    shutil.rmtree(work, ignore_errors=True)
    return report


def _chain(own: own_folder.OwnFolder | None, ledger: Ledger, more: Iterable[Record]) -> Iterator:
    if own:
        yield from own.records(ledger)
    yield from more


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the pediatric corpus.")
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME.tar.xz or NAME/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="nano")
    parser.add_argument("--extra", type=Path, help="folder of your own books, triples, dialogues")
    construct.add_arguments(parser)
    given = parser.parse_args()
    if not given.data.is_dir():
        parser.error(f"no such folder: {given.data}")
    try:
        options = construct.options_from(given)
        report = build(given.data, given.out, given.preset, given.extra, options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"pedcorpus: {error}")
    print(table(report))


if __name__ == "__main__":
    main()
