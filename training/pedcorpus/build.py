"""Build the corpus: `python -m training.pedcorpus.build --data DIR --out OUT [--preset nano]`.

Sources are read as one stream, cleaned and spilled to Parquet (pipeline.py), thinned out there,
extended by the construction rules, and written: records/*.parquet with every field, the JSON lines
that training reads, report.json, DATA_CARD.md and hashes.json. No step holds the texts in memory.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
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
from .readers.lexicons import lexicon
from .readers.more import PAIR_READERS
from .reading import PRESETS, Preset, Reading
from .record import Chat, Exam, Pair, Text, Triple
from .sources import CAREGPT, CHINESEBLUE, SMILE
from .sources import folders as folders_of_sources
from .split import hashed
from .store import Record, Writer
from .tally import Tally


def _seed(record: Record, options: construct.Options) -> bool:
    """Whether to construct from a record: from training records, and without a model only from
    texts and triples about children, since rules cannot better what people said.
    """
    if isinstance(record, Exam):
        return False
    if isinstance(record, Chat):
        chosen = options.engine != "offline" or options.rule != "auto"
        return chosen and record.split == "train"
    return isinstance(record, Triple) or (record.pediatric and record.source not in _NO_BOOKS)


def _own(source: str) -> bool:
    return source.startswith("user__")


class Construction:
    """The dialogues that the rules make of training records, for training.

    Of one's own files all passages are used; of the other sources as many as `preset` says, which
    counts dialogues offline and passages with an endpoint, where each is paid for. `options.limit`
    counts passages of both, one's own first, and then texts, dialogues and triples take turns.
    """

    def __init__(
        self, pipeline: Pipeline, options: construct.Options, preset: int, ledger: Ledger
    ) -> None:
        self.pipeline, self.options, self.preset, self.ledger = pipeline, options, preset, ledger
        self.passages = 0  # all that there were to choose from, with a limit

    def chats(self, engine: construct.Engine) -> Iterator[Chat]:
        """All that is constructed; nothing from a held-out fact."""
        offline, made = self.options.engine == "offline", 0
        for chat in engine.run(self._jobs(), self.ledger):
            own = _own(chat.source)
            if not own and offline and not self.options.limit and made >= self.preset:
                print(f"construct: {made:,d} dialogues, as many as the preset wants of the "
                      "project's sources; --limit takes more", file=sys.stderr)  # fmt: skip
                return
            if chat.task == "general" and offline:
                continue  # adults' diseases as sentences of the graph: the texts hold them already
            self.ledger.saw(chat.source)
            held = chat.group and hashed(chat.group, chat.task) != "train"
            if chat.split not in _TRAIN or held:
                self.ledger.drop(chat.source, "constructed from a held-out fact", chat.question)
                continue
            made += not own
            yield replace(chat, split="train")

    def said(self) -> str:
        """What the limit cut off, in words; empty where it cut nothing."""
        if self.passages <= self.options.limit:
            return ""
        return f"cut by --limit at {self.options.limit:,d} of {self.passages:,d} passages"

    def _jobs(self) -> Iterator[construct.Job]:
        if self.options.limit:
            for job in chain(self._in_turn(own=True), self._in_turn(own=False)):
                self.passages += 1
                if self.passages <= self.options.limit:
                    yield job
            return
        yield from self._in_order(own=True)
        others = self._in_order(own=False)
        yield from others if self.options.engine == "offline" else islice(others, self.preset)

    def _in_order(self, own: bool, *kinds: type) -> Iterator[construct.Job]:
        def wanted(record: Record) -> bool:
            mine = _own(record.source) == own and _seed(record, self.options)
            return mine and (not kinds or isinstance(record, kinds))

        return construct.jobs(self.pipeline.kept(wanted), self.options.rule, self.ledger)

    def _in_turn(self, own: bool) -> Iterator[construct.Job]:
        return construct.in_turn(*(self._in_order(own, kind) for kind in (Text, Chat, Triple)))


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
    extra: Path | Sequence[Path] | None = None,
    options: construct.Options | None = None,
    records: Iterable[Record] = (),
) -> dict:
    """Read the sources in `data`, write the corpus to `out`, return the report.

    `extra` are folders of the user's own files; `records` are added as they come. Raises ValueError
    or FileNotFoundError that say which file cannot be used and why, or that there is no source.
    """
    start = perf_counter()
    chosen = PRESETS[preset] if isinstance(preset, str) else preset
    options = options or construct.Options()
    library, ledger = Library(data), Ledger()
    folders = [extra] if isinstance(extra, Path) else list(extra or ())
    warn_of_unknown(library)
    if not (folders or records):
        require_source(library)
    own = own_folder.open_folders(folders)
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    pipeline = Pipeline(work, ledger)
    pipeline.take(Reading(library, chosen, ledger, _chain(own, ledger, records)).records())
    cut = ""
    if options.limit or chosen.constructed:
        pipeline.settle()
        cut = _construct(pipeline, library, options, chosen.constructed, ledger)
    pipeline.settle(chosen.templated)
    pipeline.account()
    corpus = Corpus(out, pipeline, library, chosen.pairs)
    corpus.write()
    hash_files(out)
    report = corpus.tally.report(ledger, pipeline.decontamination, perf_counter() - start)
    if own:
        report["own"] = [folder.about() for folder in own]
    if cut:
        report["cut"] = cut
    with replacing(out / "report.json") as file:
        file.write(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    with replacing(out / "DATA_CARD.md") as file:
        file.write(card(report, preset if isinstance(preset, str) else "custom"))
    shutil.rmtree(work, ignore_errors=True)
    return report


def _construct(
    pipeline: Pipeline, library: Library, options: construct.Options, preset: int, ledger: Ledger
) -> str:
    """Adds what the rules make; a dialogue that was made better goes. -> what a limit cut off."""
    construction = Construction(pipeline, options, preset, ledger)
    names = lexicon(library, Ledger()) if options.engine == "endpoint" else None
    engine = construct.engine_from(options, names)
    pipeline.take(construction.chats(engine), construct.parent_of)
    if cut := construction.said():
        print(f"construct: {cut}", file=sys.stderr)
    return cut


def require_source(library: Library) -> None:
    """Raises ValueError where no source that a reader knows is there."""
    if not any(library.has(name) for name in folders_of_sources()):
        raise ValueError(
            f"{library.folder}: no source in this folder. training/README.md lists the names that "
            "are read; training/sample is a small folder of them"
        )


def warn_of_unknown(library: Library) -> None:
    """Says which folders and archives no reader knows."""
    for name in library.names():
        if name not in folders_of_sources():
            said = (
                "no reader knows a source of this name, so it is not read; your own files: --extra"
            )
            print(f"warning: {library.folder / name}: {said}", file=sys.stderr)


def _chain(
    own: list[own_folder.OwnFolder], ledger: Ledger, more: Iterable[Record]
) -> Iterator[Record]:
    for folder in own:
        yield from folder.records(ledger)
    yield from more


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the pediatric corpus.")
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME.tar.xz or NAME/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="nano")
    parser.add_argument(
        "--extra", type=Path, nargs="+", help="folders of your own books, triples, dialogues"
    )
    construct.add_arguments(parser, construct.BUILD_LIMIT)
    given = parser.parse_args()
    if not given.data.is_dir():
        parser.error(f"no such folder: {given.data}")
    try:
        options = construct.options_from(given)
        require_source(Library(given.data))
        report = build(given.data, given.out, given.preset, given.extra, options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"pedcorpus: {error}")
    print(table(report))


if __name__ == "__main__":
    main()
