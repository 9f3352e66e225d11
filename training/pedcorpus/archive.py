"""Reading the sources: each is `NAME.tar.xz` or a folder `NAME/` with the original paths."""

import json
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .ledger import Ledger


class Library:
    """A folder of sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether the source is here."""
        return (self.folder / name).is_dir() or (self.folder / f"{name}.tar.xz").is_file()

    def names(self) -> list[str]:
        """What lies in the folder as a source would, whether a reader knows it or not. Licence
        texts, single files and what is hidden are none."""
        if not self.folder.is_dir():
            return []
        found = set()
        for path in self.folder.iterdir():
            name = path.name if path.is_dir() else path.name.removesuffix(".tar.xz")
            if (path.is_dir() or name != path.name) and not name.startswith("."):
                found.add(name)
        return sorted(found - {"licences", "licenses"})

    def files(self, name: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
        """Yield (path inside the source, text) of the wanted files, in one pass.

        Folders come in sorted order, archives in the order they were packed; one file at a time
        is in memory. Bytes that are not UTF-8 become U+FFFD and are removed by the cleaning.
        Raises FileNotFoundError when the source is absent, ValueError when its archive is broken.
        """
        folder = self.folder / name
        if folder.is_dir():
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                inner = path.relative_to(folder).as_posix()
                if wanted(inner):
                    yield inner, path.read_text("utf-8-sig", "replace")
            return
        archive = self.folder / f"{name}.tar.xz"
        try:
            with tarfile.open(archive, "r|xz") as tar:
                for member in tar:
                    inner = member.name.removeprefix("./").partition("/")[2]
                    if not member.isfile() or not wanted(inner):
                        continue
                    stream = tar.extractfile(member)
                    if stream is not None:
                        yield inner, stream.read().decode("utf-8-sig", "replace")
        except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
            raise ValueError(f"{archive}: broken archive ({error}); copy it again") from error

    def read(self, name: str, *paths: str) -> dict[str, str]:
        """Texts of some files by path; absent files are left out."""
        return dict(self.files(name, lambda path: path in paths))

    def records(self, name: str, path: str, ledger: Ledger | None = None) -> list:
        """The records of a .json list or a .jsonl / one-object-per-line file; [] when absent.

        A line that is not JSON is counted in the ledger as a broken line; without a ledger, and
        for a broken list, ValueError says which file and line.
        """
        text = self.read(name, path).get(path, "")
        return parse(text, f"{name}/{path}", name, ledger)


def parse(text: str, where: str, source: str, ledger: Ledger | None = None) -> list:
    """The records of a JSON list or of JSON lines. See `Library.records` for errors."""
    if not text.strip():
        return []
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}:{error.lineno}: not JSON: {error.msg}") from error
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            if ledger is None:
                raise ValueError(f"{where}:{number}: not JSON: {error.msg}") from error
            ledger.saw(source)
            ledger.drop(source, "broken line", f"{where}:{number}: {error.msg}: {line.strip()}")
    return found
