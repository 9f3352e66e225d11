"""A folder of the user's own material: textbooks and guidelines (txt, md, pdf), triples of a
knowledge graph and dialogues (JSON lines), and the licence they stand under."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..clean import is_pediatric, tidy
from ..ledger import Ledger
from ..phrasing import number
from ..record import Chat, Text, Triple
from ..sources import SOURCES, register
from .ages import age_group
from .headings import sections, written
from .own_files import Unreadable, pdf_pages, text_lines
from .own_records import from_object

LICENCE_FILES = ("licence.txt", "license.txt", "licence", "license", "licence.md", "license.md")
TEXTS, TABLES = (".txt", ".md", ".markdown"), (".jsonl", ".json")
SHORTEST = 24  # characters of a section worth keeping


@dataclass
class OwnFolder:
    """Where the records come from. `warnings` and `problems` belong in the data card; `problems`
    is complete when the records have been read."""

    folder: Path
    source: str
    licence: str
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    keep_sources: bool = False  # lines of a corpus that was built here name their sources

    def about(self) -> dict:
        """What a report says of it, once the records have been read."""
        return {
            "source": self.source,
            "licence": self.licence,
            "warnings": self.warnings,
            "problems": self.problems,
        }

    def records(self, ledger: Ledger) -> Iterator[Text | Chat | Triple]:
        """All records, file after file in sorted order, one section or line at a time.

        A line or file that cannot be used is named in `problems` and counted in the ledger.
        Raises ValueError when nothing at all can be used.
        """
        found = 0
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            name = path.relative_to(self.folder).as_posix()
            if name.lower() in LICENCE_FILES or path.name.startswith("."):
                continue
            before = found
            try:
                for record in self._file(path, name, ledger):
                    found += 1
                    yield record
            except Unreadable as error:
                self._problem(ledger, "unreadable file", str(error).replace(path.name, name, 1))
                continue
            if found == before:
                self._problem(ledger, "file without a usable record", name)
        if not found:
            listed = "".join(f"\n  {p}" for p in self.problems[:10])
            raise ValueError(f"{self.folder}: nothing usable in this folder{listed}")

    def _problem(self, ledger: Ledger, step: str, what: str) -> None:
        self.problems.append(what)
        ledger.drop(self.source, step, what)

    def _file(self, path: Path, name: str, ledger: Ledger) -> Iterator[Text | Chat | Triple]:
        kind = path.suffix.lower()
        if kind in TEXTS:
            yield from self._text(name, ((line, 0) for line in text_lines(path)), ledger)
        elif kind == ".pdf":
            pages = pdf_pages(path)
            for at, page in enumerate(pages, 1):
                if not any(line.strip() for line in page):
                    self._problem(ledger, "page without text", f"{name}: page {at} holds no text")
            lines = ((line, at) for at, page in enumerate(pages, 1) for line in page)
            yield from self._text(name, lines, ledger)
        elif kind in TABLES:
            yield from self._table(path, name, ledger)
        else:
            wanted = ", ".join((*TEXTS, ".pdf", *TABLES))
            raise Unreadable(f"{path.name}: unknown kind of file (wanted {wanted})")

    def _sound(self, name: str, lines: Iterable, ledger: Ledger) -> Iterator[tuple[str, int]]:
        for at, (line, page) in enumerate(lines, 1):
            if "\ufffd" in line:
                self._problem(ledger, "bad line", f"{name}:{at}: bytes that do not decode")
                yield "", page
            else:
                yield line, page

    def _text(self, name: str, lines: Iterable, ledger: Ledger) -> Iterator[Text]:
        mark = f"{number(name) % 16**8:08x}"
        for i, section in enumerate(sections(self._sound(name, lines, ledger))):
            ledger.saw(self.source)
            text = tidy(written(section))
            place = f"{name}#p{section.page}" if section.page else f"{name}#L{section.line}"
            if len(section.body) < SHORTEST:
                ledger.drop(self.source, "section too short", f"{place} {text}")
                continue
            titles = " ".join((name, *section.path))
            pediatric = is_pediatric(text) or is_pediatric(titles)
            yield Text(
                f"{self.source}-{mark}-{i}",
                self.source,
                pediatric,
                text,
                age_group=age_group(titles),  # the text itself names many ages
                provenance=place,
            )

    def _table(self, path: Path, name: str, ledger: Ledger) -> Iterator[Text | Chat | Triple]:
        for at, item in self._objects(path, name, ledger):
            ledger.saw(self.source)
            place = f"{name}:{at}"
            try:
                named = item.get("source") if isinstance(item, dict) else None
                kept = self.keep_sources and named in SOURCES
                yield from_object(item, str(named) if kept else self.source, place)
            except ValueError as error:
                self._problem(ledger, "bad line", f"{place}: {error}")

    def _objects(self, path: Path, name: str, ledger: Ledger) -> Iterator[tuple[int, object]]:
        """(number from 1, value) of JSON lines, or of the entries of a JSON list."""
        lines = text_lines(path)
        first = next((line for line in lines if line.strip()), "")
        if first.lstrip("\ufeff ").startswith("["):
            try:
                entries = json.loads("\n".join(text_lines(path)))
            except json.JSONDecodeError as error:
                raise Unreadable(f"{path.name}:{error.lineno}: not JSON: {error.msg}") from error
            yield from enumerate(entries, 1)
            return
        for at, line in enumerate(text_lines(path), 1):
            if not line.strip():
                continue
            try:
                yield at, json.loads(line)
            except json.JSONDecodeError as error:
                ledger.saw(self.source)
                self._problem(ledger, "bad line", f"{name}:{at}: not JSON: {error.msg}")


def open_folder(folder: Path, licence: str = "") -> OwnFolder:
    """The folder under the licence that is given here or in its `licence.txt` (first line).

    Without either the licence is "unstated", with a warning. The source's name is `user__` and
    the folder's name. Raises ValueError when there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder}")
    stated = licence.strip()
    for path in sorted(folder.iterdir()):
        if not stated and path.is_file() and path.name.lower() in LICENCE_FILES:
            stated = next((line.strip() for line in text_lines(path) if line.strip()), "")[:80]
    own = OwnFolder(folder, f"user__{folder.resolve().name}", stated or "unstated")
    if not stated:
        own.warnings.append(
            f"{folder}: no licence stated. Write it in {folder}/licence.txt or give it as an "
            "option; do not pass on a model trained on material that you have no right to use."
        )
    register(own.source, own.licence)
    return own


def open_folders(folders: Iterable[Path]) -> list[OwnFolder]:
    """Several folders, each under the licence in its `licence.txt`. Raises ValueError where one is
    not there, and where two of a name could not be told apart."""
    opened = [open_folder(folder) for folder in folders]
    sources = [own.source for own in opened]
    for own in opened:
        if sources.count(own.source) > 1:
            raise ValueError(f"{own.folder}: two folders of this name; rename one")
    return opened
