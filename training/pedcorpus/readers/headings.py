"""Headings and paragraphs of a textbook or guideline that comes as lines of text."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..clean import HAN

# Names that stand alone on a line above their paragraph.
LABELS = (
    "定义|概述|概念|简介|病因|病因和发病机制|发病机制|病理|病理生理|流行病学|分类|分型|临床表现|症状|体征|"
    "症状和体征|辅助检查|实验室检查|影像学检查|检查|诊断|诊断标准|诊断要点|诊断依据|鉴别诊断|治疗|治疗原则|"
    "一般治疗|药物治疗|对症治疗|手术治疗|并发症|预防|护理|家庭护理|预后|随访|健康教育|注意事项|转诊指征|"
    "就诊指征|危险信号"
)
_MARKDOWN = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")
_CHAPTER = re.compile(r"第\s*[一二三四五六七八九十百零\d]{1,5}\s*([篇章节])[\s　]*(.{0,40})$")
_HAN_NUMBER = re.compile(r"[一二三四五六七八九十]{1,3}、\s*(.{1,30})$")
_BRACKET_NUMBER = re.compile(r"[（(][一二三四五六七八九十]{1,3}[）)]\s*(.{1,30})$")
_DECIMAL = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,3})[\s、.．]\s*(\D.{0,29})$")
_LENTICULAR = re.compile(r"【([^】]{1,20})】\s*(.*)$")
_LABEL = re.compile(rf"(?:{LABELS})[:：]?$")
_ENDS = re.compile(r"[。！？；，、,;.!?…]$")
_CHAPTER_LEVEL = {"篇": 1, "章": 2, "节": 3}
WRAPPED = 16  # a line this long without an end of sentence goes on in the next line


@dataclass(frozen=True)
class Section:
    """A stretch of text under its headings, outermost first. `line` and `page` count from 1;
    page 0 means that the file has no pages."""

    path: tuple[str, ...]
    body: str
    line: int
    page: int = 0


def heading(line: str) -> tuple[int, str, str] | None:
    """(level from 1, title, text that follows on the line) if the line is a heading."""
    line = line.strip()
    if found := _MARKDOWN.match(line):
        return len(found.group(1)), found.group(2).strip("* "), ""
    if found := _LENTICULAR.match(line):
        return 9, found.group(1).strip(), found.group(2)
    if _LABEL.fullmatch(line):
        return 9, line.rstrip(":："), ""
    if len(line) > 40 or _ENDS.search(line) or not re.search(f"[{HAN}]", line):
        return None
    if found := _CHAPTER.match(line):
        return _CHAPTER_LEVEL[found.group(1)], found.group(2).strip() or line, ""
    if found := _HAN_NUMBER.match(line):
        return 5, found.group(1).strip(), ""
    if found := _BRACKET_NUMBER.match(line):
        return 6, found.group(1).strip(), ""
    if (found := _DECIMAL.match(line)) and re.match(f"[{HAN}A-Za-z]", found.group(2)):
        return 6 + found.group(1).count("."), found.group(2).strip(), ""
    return None


def _goes_on(line: str) -> bool:
    return len(line) >= WRAPPED and not re.search(r"[。！？；：:.!?…”）)】]$", line)


def sections(lines: Iterable[tuple[str, int]], longest: int = 1600) -> Iterator[Section]:
    """Sections of numbered-page lines [(text, page)], each of about `longest` characters at most.

    Lines that were only wrapped are joined; an empty line ends a paragraph. Nothing is lost:
    text before the first heading has an empty path.
    """
    path: list[tuple[int, str]] = []
    body: list[str] = []
    begins = (1, 0)
    size = 0

    def flush() -> Iterator[Section]:
        text = "\n".join(part for part in body if part).strip()
        if text:
            yield Section(tuple(title for _, title in path), text, *begins)

    joins = False
    for number, (raw, page) in enumerate(lines, 1):
        line = raw.strip()
        found = heading(line)
        if found is not None:
            yield from flush()
            level, title, rest = found
            path = [entry for entry in path if entry[0] < level] + [(level, title)]
            body, size, begins = ([rest] if rest else []), len(rest), (number, page)
            joins = _goes_on(rest)
            continue
        if not line:
            joins = False
            continue
        if joins and body:
            space = " " if re.search(r"[A-Za-z]$", body[-1]) and line[0].isalpha() else ""
            body[-1] += space + line
        else:
            if size >= longest:
                yield from flush()
                body, size, begins = [], 0, (number, page)
            if not body:
                begins = (number, page)
            body.append(line)
        size += len(line)
        joins = _goes_on(line)
    yield from flush()


def written(section: Section) -> str:
    """The section as Markdown: the outermost and the last two headings, then the text."""
    titles = (*section.path[:1], *section.path[1:][-2:])
    marks = [f"{'#' * (i + 1)} {title}" for i, title in enumerate(titles)]
    return "\n".join([*marks, section.body])


def read_back(text: str) -> tuple[tuple[str, ...], str]:
    """(headings, body) of a text that `written` made, or of any text with leading headings."""
    lines = text.split("\n")
    path = []
    while lines and (found := _MARKDOWN.match(lines[0].strip())):
        path.append(found.group(2))
        lines.pop(0)
    return tuple(path), "\n".join(lines).strip()
