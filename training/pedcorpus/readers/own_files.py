"""The text of one file of a user's folder: encodings, pages, repeated headers."""

import codecs
import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SAMPLE = 65536  # bytes looked at, at the beginning, middle and end, to tell the encoding
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PAGE_NUMBER = re.compile(
    r"[-—·\s]*(?:第\s*)?\d{1,4}(?:\s*页)?(?:\s*[/共]\s*\d{1,4}\s*页?)?[-—·\s]*$"
)


class Unreadable(Exception):
    """A file that cannot be used; the message names it and says what to do."""


def encoding_of(path: Path) -> str:
    """UTF-8, UTF-16, UTF-32 (by their marks) or GB18030. Raises Unreadable for anything else."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(SAMPLE)
        for mark, name in _BOMS:
            if head.startswith(mark):
                return name
        parts = [head]
        for at in (size // 2, size - SAMPLE):
            if at > SAMPLE:
                file.seek(at)
                parts.append(file.read(SAMPLE))
    if b"\0" in head:
        raise Unreadable(f"{path.name}: holds null bytes, so it is no text file; save it as UTF-8")
    share = {name: _broken(parts, name) for name in ("utf-8", "gb18030")}
    if share["utf-8"] <= 0.001:  # a stray byte is counted as a bad line later
        return "utf-8"
    if share["gb18030"] <= 0.001:
        return "gb18030"
    raise Unreadable(f"{path.name}: neither UTF-8 nor GB18030; save it as UTF-8")


def _broken(parts: list[bytes], name: str) -> float:
    """Share of characters that do not decode; a sample may begin and end inside a character."""
    bad = total = 0
    for i, part in enumerate(parts):
        text = part.decode(name, "replace")
        edge = text[4 if i else 0 : -4 if len(part) == SAMPLE else None]
        bad += edge.count("\ufffd")
        total += len(edge)
    return bad / max(1, total)


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, one at a time; a byte that does not decode becomes U+FFFD."""
    with path.open(encoding=encoding_of(path), errors="replace") as file:
        for line in file:
            yield line.rstrip("\n")


def pdf_pages(path: Path) -> list[list[str]]:
    """The lines of each page, without page numbers and lines that most pages repeat.

    Raises Unreadable for a broken or encrypted file and for one whose pages hold no text.
    """
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.ERROR)
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable(f"{path.name}: is encrypted; save a copy without a password")
        pages = [(page.extract_text() or "").splitlines() for page in reader.pages]
    except (PyPdfError, OSError, ValueError, KeyError, AttributeError) as error:
        raise Unreadable(f"{path.name}: not a readable PDF ({error})") from error
    characters = sum(len(re.sub(r"\s", "", line)) for page in pages for line in page)
    if characters < 10 * len(pages) or not pages:
        raise Unreadable(
            f"{path.name}: {len(pages)} pages without text, so it is probably scanned; "
            "recognise it first (for example with ocrmypdf -l chi_sim) and give the result"
        )
    edges = Counter(line.strip() for page in pages for line in {*page[:2], *page[-2:]})
    often = {line for line, count in edges.items() if len(pages) >= 4 and 2 * count > len(pages)}
    return [
        [line for line in page if line.strip() not in often and not _PAGE_NUMBER.match(line)]
        for page in pages
    ]
