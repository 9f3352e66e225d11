"""Construct dialogues from a file or folder:
`python -m training.pedcorpus.construct --in FILE.jsonl|DIR --out FILE.jsonl [--engine ...]`.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..archive import Library
from ..ledger import Ledger
from ..options import add_arguments, options_from
from ..readers.lexicons import Lexicon, lexicon
from ..readers.own_folder import open_folder
from ..record import Chat
from ..sources import SOURCES, Source
from .apply import apply, engine_from
from .endpoint import EndpointError


def line_of(chat: Chat) -> str:
    """The chat as a line of the corpus's chat.jsonl, with its group and provenance."""
    known = SOURCES.get(chat.source, Source("unstated", "user"))
    row = {
        "id": chat.id,
        "source": chat.source,
        "licence": known.licence,
        "task": chat.task,
        "split": chat.split,
        "templated": chat.templated,
        "department": chat.department,
        "age_group": chat.age_group,
        "group": chat.group,
        "provenance": chat.provenance,
        "turns": [{"role": turn.role, "text": turn.text} for turn in chat.turns],
    }
    return json.dumps(row, ensure_ascii=False)


def _records(path: Path, licence: str, ledger: Ledger) -> Iterator:
    """Records of a folder, or of one file as if it were alone in a folder."""
    if path.is_dir():
        own = open_folder(path, licence)
        yield from own.records(ledger)
        notes = own.warnings + own.problems
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / path.stem
            folder.mkdir()
            try:
                (folder / path.name).symlink_to(path.resolve())
            except OSError:  # a file system without links
                shutil.copyfile(path, folder / path.name)
            own = open_folder(folder, licence or "unstated")
            own.keep_sources = True
            yield from own.records(ledger)
            notes = own.problems
    for note in notes[:20]:
        print(f"warning: {note}", file=sys.stderr)
    if len(notes) > 20:
        print(f"warning: and {len(notes) - 20} more", file=sys.stderr)


def _names(data: Path | None) -> Lexicon | None:
    return lexicon(Library(data), Ledger()) if data else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--in",
        dest="input",
        type=Path,
        required=True,
        help="texts, triples, dialogues; or a folder",
    )
    parser.add_argument("--out", type=Path, required=True, help="file of dialogues to write")
    parser.add_argument("--licence", default="", help="licence of the input")
    parser.add_argument("--data", type=Path, help="corpus sources, for the check of medicine names")
    add_arguments(parser)
    parsed = parser.parse_args()
    if not parsed.input.exists():
        parser.error(f"no such file or folder: {parsed.input}")
    ledger = Ledger()
    written = 0
    try:
        engine = engine_from(options_from(parsed), _names(parsed.data))
        records = _records(parsed.input, parsed.licence, ledger)
        partial = parsed.out.with_name(parsed.out.name + ".part")
        parsed.out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            for chat in apply(records, engine, ledger):
                file.write(line_of(chat) + "\n")
                written += 1
        partial.replace(parsed.out)
    except (ValueError, EndpointError) as error:
        raise SystemExit(f"construct: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit("construct: stopped; run the same command again to go on") from None
    print(f"{written} dialogues -> {parsed.out}")
    for source, steps in ledger.removed.items():
        for step, count in steps.most_common():
            sample = ledger.samples["removed", source, step][0][:60]
            print(f"  {count:7d} {step} ({source}), e.g. {sample!r}")


if __name__ == "__main__":
    main()
