"""Word lists and classifications: names to check texts against, and glossary texts."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..archive import Library
from ..clean import CHILD, is_pediatric, tidy
from ..ledger import Ledger
from ..record import Text, Triple
from ..sources import CAREGPT, CHINESEBLUE, ICD, KG, THUOCL
from .kg import FOLDER, RELATIONS

ICD_PATH, THUOCL_PATH = "diseases.json", "data/THUOCL_medical.txt"
GUIDE = "data/Hospital Guide/导诊指导.json"
ENTITIES = tuple(f"data/cMedQANER/{part}.json" for part in ("train", "dev", "test"))
# Kinds of the annotated entities that name something a text can invent.
KINDS = {"disease": "disease", "drug": "drug", "treatment": "treatment", "test": "test"}
# Two labels that the source has exchanged, and two slips of the keyboard.
CORRECTED = {
    "H65-H75": "中耳和乳突疾病",
    "H65": "非化脓性中耳炎",
    "F90-F98": "通常在童年和青少年期发病的行为和情绪障碍",
    "T29-T32": "身体多个部位和未特指部位的烧伤和腐蚀伤",
}
_NAME = re.compile(r"[一-鿿A-Za-z0-9·β-]{2,20}")


@dataclass
class Lexicon:
    """Known medical names by kind, found in a text by longest match."""

    kinds: dict[str, str] = field(default_factory=dict)
    longest: int = 0

    def add(self, names: Iterable[str], kind: str) -> None:
        """Remember names (2 to 20 letters or characters); a name keeps its first kind."""
        for name in names:
            if _NAME.fullmatch(name) and not name.isdigit():
                self.kinds.setdefault(name, kind)
                self.longest = max(self.longest, len(name))

    def find(self, text: str) -> dict[str, str]:
        """Name -> kind of all names in the text, longer names first, without overlap."""
        found: dict[str, str] = {}
        at = 0
        while at < len(text):
            for size in range(min(self.longest, len(text) - at), 1, -1):
                name = text[at : at + size]
                if name in self.kinds:
                    found[name] = self.kinds[name]
                    at += size
                    break
            else:
                at += 1
        return found

    def invented(self, text: str, passage: str, kinds: Iterable[str] = ("drug",)) -> list[str]:
        """Names of these kinds that the text has and the passage does not."""
        wanted = set(kinds)
        return [n for n, k in self.find(text).items() if k in wanted and n not in passage]


def _label(node: dict) -> str:
    return CORRECTED.get(str(node["value"]), tidy(str(node["label"]))).replace(",", "，")


def _walk(node: dict, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict]]:
    yield path, node
    for child in node.get("children") or []:
        yield from _walk(child, (*path, str(node.get("label", ""))))


def classification(library: Library, ledger: Ledger) -> list[dict]:
    """The chapters of ICD-10; [] when absent. Raises ValueError when it is not a tree."""
    chapters = library.records(ICD, ICD_PATH, ledger)
    if not all(isinstance(c, dict) and "label" in c and "value" in c for c in chapters):
        raise ValueError(f"{ICD}/{ICD_PATH}: expected a list of {{value, label, children}}")
    return chapters


def glossary(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Text]:
    """One text per section of ICD-10: what belongs to it, with the codes."""
    done = 0
    for chapter in classification(library, ledger):
        for path, node in _walk(chapter, ()):
            members = [c for c in node.get("children") or [] if not c.get("children")]
            if not path or len(members) < 2:
                continue
            ledger.saw(ICD)
            if limit and done >= limit:
                return
            done += 1
            names = [f"{_label(m)}（{m['value']}）" for m in members]
            text = (
                f"在国际疾病分类（ICD-10）中，{_label(node)}（{node['value']}）属于"
                f"“{tidy(path[-1])}”，包括：{'；'.join(names)}。"
            )
            pediatric = is_pediatric(text) or "围生期" in text
            yield Text(
                f"icd-{node['value']}",
                ICD,
                pediatric,
                text,
                provenance=f"{ICD_PATH}#{node['value']}",
            )


def words(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Text]:
    """A word list holds no sentences: counted here, used by `lexicon`."""
    for i, line in enumerate(library.read(THUOCL, THUOCL_PATH).get(THUOCL_PATH, "").splitlines()):
        if limit and i >= limit:
            return
        if line.strip():
            ledger.saw(THUOCL)
            ledger.drop(THUOCL, "word list: used as a lexicon, holds no text", line)
    yield from ()


def guide(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Text]:
    """What each department of a hospital does."""
    for i, record in enumerate(library.records(CAREGPT, GUIDE, ledger)[: limit or None]):
        ledger.saw(CAREGPT)
        text = tidy(str(record.get("content", "")))
        if len(text) < 40:
            ledger.drop(CAREGPT, "broken record: no content", str(record))
            continue
        found = re.match(r"(?:该科室[^，。]{0,8})?([^，。是]{1,10}?[科学])是", text)
        yield Text(
            f"guide-{i}",
            CAREGPT,
            CHILD.search(text[:60]) is not None,
            text,
            department=found.group(1) if found else "",
            provenance=f"{GUIDE}#{i + 1}",
        )


def triples(library: Library, ledger: Ledger, limit: int = 0) -> Iterator[Triple]:
    """The disease graph as it stands, its useful relations only."""
    wanted = {FOLDER + relation + ".txt" for relation in RELATIONS}
    done = 0
    for path, text in library.files(KG, lambda p: p in wanted):
        for number, line in enumerate(text.splitlines(), 1):
            ledger.saw(KG)
            parts = line.split(" ", 4)
            if len(parts) != 5 or parts[0] != "疾病" or parts[2] not in RELATIONS:
                ledger.drop(KG, "broken line", f"{path}:{number}: {line}")
                continue
            if limit and done >= limit:
                return
            done += 1
            yield Triple(KG, parts[1], parts[2], parts[4].strip())


def lexicon(library: Library, ledger: Ledger) -> Lexicon:
    """Names from every source that is here: the classification, the graph, drug monographs,
    annotated entities and the word list."""
    found = Lexicon()
    if library.has(CAREGPT):
        for raw in library.records(CAREGPT, "data/drug.json"):
            found.add([re.sub(r"[（(].*", "", str(raw).split("\n")[0]).strip()], "drug")
    if library.has(CHINESEBLUE):
        for _, text in library.files(CHINESEBLUE, lambda p: p in ENTITIES):
            for line in text.splitlines():
                record = json.loads(line) if line.strip() else {}
                for mention in record.get("mention_data", []):
                    kind = KINDS.get(mention.get("type", ""))
                    if kind:
                        found.add([mention["mention"]], kind)
    if library.has(KG):
        found.add({t.head for t in triples(library, Ledger())}, "disease")
    if library.has(ICD):
        for chapter in classification(library, ledger):
            for _, node in _walk(chapter, ()):
                bare = re.sub(r"[\[(（].*|,.*", "", str(node["label"]))
                found.add([bare], "disease")
    if library.has(THUOCL):
        text = library.read(THUOCL, THUOCL_PATH).get(THUOCL_PATH, "")
        found.add((line.split("\t")[0].strip() for line in text.splitlines()), "term")
    return found
