"""Long documents: preprints, a psychology wiki, encyclopaedia paragraphs."""

import json
import re
from collections.abc import Iterator

from ..archive import Library
from ..clean import CHILD, HAN, han_share, loops, tidy
from ..doses import count_doses
from ..ledger import Ledger
from ..personal import find_personal
from ..phrasing import number
from ..record import Text
from ..sources import CHINAXIV, CMRC, WIKI

_MEDICAL = re.compile("患者|病人|临床|治疗|症状|疾病|诊断|医院|药物|手术|护理|感染|肿瘤|病例")
_REFERENCES = re.compile(
    r"^#*\s*(?:参考文献|References|REFERENCES|致谢|附录|作者贡献|利益冲突|志\s*谢)"
)
_META = re.compile(
    r"通[讯信]作者|作者简介|基金|收稿|关键词|中图分类|文献标[识志]码|文章编号|DOI|邮编|电话|"
    r"E-?mail|责任编辑|分类号|引用格式|单位[:：]|^[图表]\s*\d|^Fig|^Table|投稿|摘\s*要[:：]?$|"
    r"版权|ORCID|http"
)
_MATHS = re.compile(r"\$([^$\n]{0,120})\$")
_RAISED = re.compile(r"\s*(?:\^|\\textsuperscript)\s*\{?[\s\[\]\d,，~\-–—]+\}?\s*")  # a citation
_SYMBOLS = (
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?\s*(?:\{?\\(?:mathrm|mathsf|text|rm)\b[\s{~]*)*C"), "℃"),
    (re.compile(r"\\mathord|\\(?:mathrm|mathsf|mathbf|text|rm)\b"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\times\b"), "×"),
    (re.compile(r"\\sim\b"), "~"),
    (re.compile(r"[\s{}]|\\[,;!]"), ""),
    (re.compile(r"(?<!\d)(?<![\d%℃])~|~(?!\d)"), ""),  # without a number on both sides: a space
    (re.compile("°C"), "℃"),
    (re.compile(r"\^?\\circ\b"), "°"),
    (re.compile(r"\^\[[\d,，~\-–—]+\]$"), ""),
)
_CIRCLED = re.compile(r"\\textcircled(\d)")
_UNIT = "(?:%|℃|°|min|h|s|ms|m|mm|cm|km|g|kg|mL|ml|L)"  # amounts of a medicine go elsewhere
_NUMBER = rf"\d[\d.,]*{_UNIT}?"
_NUMBERS = re.compile(rf"\(?[~×]?{_NUMBER}(?:[~×\-–—]{_NUMBER})*×?\)?|[①-⑳]")
_CITATION = re.compile(
    r"\\\w+|\[[\d,，\-–—~\s.]+[\]」]|［[\d,，\-–—~]+］|\^\S+|"
    r"\([A-Z][^()]{2,80},? ?\d{4}[a-z]?[^()]*\)|（[^（）]{0,60}(?:19|20)\d\d[a-z]?[^（）]{0,60}）"
)
_BOILERPLATE = re.compile(
    "本站资料|敏感议题|请留意自身状态|阅读时|触发警告|不构成医疗建议|本词条|_$"
)
_SPACED_NUMBER = re.compile(r"(?<=\d) (?=[\d.%])|(?<=\.) (?=\d)")


def _plain_maths(match: re.Match[str]) -> str:
    """Inline maths that is only a number with its unit as text, other maths as it stands."""
    text = match.group(1)
    if _RAISED.fullmatch(text):
        return ""
    for symbol, plain in _SYMBOLS:
        text = symbol.sub(plain, text)
    text = _CIRCLED.sub(lambda m: chr(ord("①") + int(m.group(1)) - 1), text)
    return text if _NUMBERS.fullmatch(text) else match.group()


def _paragraphs(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n|\n(?=#)", text):
        if _REFERENCES.match(block.strip()):
            return
        raw = " ".join(line.strip() for line in block.split("\n"))
        if (
            raw.startswith(("#", "!", "<", "|", "-", "*", "$"))
            or "<table" in raw
            or _META.search(raw[:160])
        ):
            continue
        raw = _MATHS.sub(_plain_maths, raw)
        if _MATHS.search(raw):
            yield raw  # a formula: without it the sentence says nothing; counted by the caller
            continue
        raw = (
            re.sub(rf"(?<=[{HAN}])(?:\d{{1,2}}[,，\-]?)+(?=[。，；])", "", _CITATION.sub("", raw))
            if "$" in raw or "[" in raw or "(" in raw or "（" in raw
            else raw
        )
        yield from _whole(tidy(_SPACED_NUMBER.sub("", raw)))


def _whole(paragraph: str, longest: int = 1200) -> Iterator[str]:
    """The paragraph without what follows its last sentence, in parts of whole sentences."""
    part = ""
    for sentence in re.findall(r"[^。！？]*[。！？]+[”）]?", paragraph):
        if part and len(part) + len(sentence) > longest:
            yield part
            part = ""
        part += sentence
    if part:
        yield part
    elif len(paragraph) > 60:
        yield paragraph


def _good(text: str) -> bool:
    if not 60 <= len(text) <= 1500 or han_share(text) < 0.86 or find_personal(text) or loops(text):
        return False
    if (
        re.search(r"[\\{}^_|<>=±$]|\d\s\d|(?:[A-Za-z]+ ){4}", text)
        or len(re.findall(r"\d", text)) > len(text) * 0.06
    ):
        return False
    return text[-1] in "。！？" and not count_doses(text)


def _chunks(paragraphs: list[str], longest: int = 1200) -> Iterator[str]:
    part: list[str] = []
    for paragraph in paragraphs:
        if part and sum(map(len, part)) + len(paragraph) > longest:
            yield "\n".join(part)
            part = []
        part.append(paragraph)
    if part:
        yield "\n".join(part)


def preprints(library: Library, ledger: Ledger, limit: int) -> Iterator[Text]:
    """Chinese paragraphs of child-related and medical preprints, best first, to `limit` chars."""
    index = library.read(CHINAXIV, "INDEX.tsv").get("INDEX.tsv", "")
    value: dict[str, float] = {}
    for row in index.splitlines()[1:]:
        path, _, _, _, _, medical, pediatric, _ = row.split("\t")[:8]
        child, ill = int(pediatric), int(medical)
        if child >= 5 or ill >= 20 or limit > 20_000_000:
            value[path] = (
                (3 if child >= 5 else 0) + (2 if ill >= 20 else 0) + number(path) % 1000 / 1000
            )
    found: list[tuple[float, str, list[str]]] = []
    for path, text in library.files(CHINAXIV, lambda p: p in value):
        ledger.saw(CHINAXIV)
        good = []
        for paragraph in _paragraphs(text):
            if _good(paragraph):
                good.append(paragraph)
            elif len(paragraph) > 60:
                ledger.drop(
                    CHINAXIV, "paragraph with tables, formulae, doses or foreign text", paragraph
                )
        if sum(map(len, good)) >= 400:
            found.append((-value[path], path, good))
    total, seen = 0, set()
    for _, path, good in sorted(found):
        fresh = [p for p in good if p[:60] not in seen]
        seen.update(p[:60] for p in fresh)
        for i, chunk in enumerate(_chunks(fresh)):
            if total >= limit:
                return
            total += len(chunk)
            yield Text(
                f"{path.removeprefix('md/').removesuffix('.md')}-{i}",
                CHINAXIV,
                len(CHILD.findall(chunk)) >= 3,
                chunk,
                provenance=path,
            )


def wiki(library: Library, ledger: Ledger, limit: int) -> Iterator[Text]:
    """Pages without front matter, links and notes; those that speak of children first."""
    found: list[tuple[bool, str, list[str]]] = []
    for path, text in library.files(
        WIKI, lambda p: p.startswith("docs/entries/") and p.endswith(".md")
    ):
        ledger.saw(WIKI)
        lines = _wiki_lines(text)
        if sum(map(len, lines)) < 200:
            ledger.drop(WIKI, "page without prose", path)
            continue
        others = len(re.findall("儿童|婴幼儿|孩子|父母|家长", text)) < 5
        found.append((others, path, lines))
    done = 0
    for _, path, lines in sorted(found, key=lambda page: page[0]):
        for i, chunk in enumerate(_chunks(lines)):
            done += len(chunk)
            yield Text(
                f"wiki-{path.split('/')[-1].removesuffix('.md')}-{i}",
                WIKI,
                bool(CHILD.search(chunk)),
                chunk,
                "精神心理科",
                provenance=path,
            )
        if done >= limit:
            return


def _wiki_lines(text: str) -> list[str]:
    text = re.sub(r"^---\n.*?\n---\n", "", text, flags=re.S)
    text = re.sub(r"^\[\^[^\]]*\]:.*$", "", text, flags=re.M)
    text = re.sub(r"\[\^[^\]]*\]", "", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    lines = []
    for line in text.split("\n"):
        line = tidy(re.sub(r"\*\*|`|^[\s>*+-]+|^\d+\.\s", "", line))
        if (
            len(line) >= 24
            and not line.startswith(("#", "|", ":", "!", "http"))
            and han_share(line) > 0.75
            and "http" not in line
            and not find_personal(line)
            and not _BOILERPLATE.search(line)
        ):
            lines.append(line if line[-1] in "。！？；：" else line + "。")
    return lines


def encyclopaedia(library: Library, ledger: Ledger, limit: int) -> Iterator[Text]:
    """Paragraphs of the reading comprehension set: a little general Chinese."""
    name = "squad-style-data/cmrc2018_dev.json"
    raw = library.read(CMRC, name).get(name)
    total = 0
    for article in json.loads(raw)["data"] if raw else ():
        for paragraph in article["paragraphs"]:
            ledger.saw(CMRC)
            text = tidy(paragraph["context"])
            if han_share(text) < 0.85 or find_personal(text) or count_doses(text):
                ledger.drop(CMRC, "foreign text, personal data or doses", text)
                continue
            total += len(text)
            if total > limit:
                return
            yield Text(
                f"cmrc-{paragraph['id']}",
                CMRC,
                False,
                text if text[-1] in "。！？" else text + "。",
            )
