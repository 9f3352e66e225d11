"""Reading the sources: each is `NAME.tar.xz` or a folder `NAME/` with the original paths."""

import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path


class Library:
    """A folder of sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether the source is here."""
        return (self.folder / name).is_dir() or (self.folder / f"{name}.tar.xz").is_file()

    def files(self, name: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
        """Yield (path inside the source, text) of the wanted files, in one pass.

        Folders come in sorted order, archives in the order they were packed; bytes that are not
        UTF-8 become U+FFFD and are removed by the cleaning. Raises FileNotFoundError when the
        source is absent.
        """
        folder = self.folder / name
        if folder.is_dir():
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                inner = path.relative_to(folder).as_posix()
                if wanted(inner):
                    yield inner, path.read_text("utf-8-sig", "replace")
            return
        with tarfile.open(self.folder / f"{name}.tar.xz", "r|xz") as tar:
            for member in tar:
                inner = member.name.removeprefix("./").partition("/")[2]
                if not member.isfile() or not wanted(inner):
                    continue
                stream = tar.extractfile(member)
                if stream is not None:
                    yield inner, stream.read().decode("utf-8-sig", "replace")

    def read(self, name: str, *paths: str) -> dict[str, str]:
        """Texts of some files by path; absent files are left out."""
        return dict(self.files(name, lambda path: path in paths))

    def records(self, name: str, path: str) -> list:
        """The records of a .json list or a .jsonl / one-object-per-line file; [] when absent."""
        text = self.read(name, path).get(path, "")
        if not text.strip():
            return []
        if text.lstrip().startswith("["):
            return json.loads(text)
        return [json.loads(line) for line in text.splitlines() if line.strip()]
