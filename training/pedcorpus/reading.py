"""Which sources are read, in which order, and how much of each: the presets of the corpus."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .archive import Library
from .ledger import Ledger
from .readers import (
    authored,
    cmdd,
    consult,
    dialmed,
    drugs,
    general,
    kg,
    kg_talks,
    papers,
    questioning,
    symptoms,
)
from .readers.more import READERS
from .sources import (
    BABY,
    BENTSAO,
    CAREGPT,
    CHINAXIV,
    CHINESEBLUE,
    CMRC,
    DIALMED,
    DXFORMER,
    KDCONV,
    KG,
    LLAMAFACTORY,
    MEDICALGPT,
    OWN,
    SMILE,
    TOYHOM,
    WIKI,
    ZHONGJING,
)
from .store import Record


@dataclass(frozen=True)
class Preset:
    """How much of the large sources to take: records, or characters for documents."""

    diseases: int  # of the graph, children's first
    drugs: int
    preprint_chars: int
    wiki_chars: int
    cmrc_chars: int
    smile_chars: int
    smile: int
    kdconv: int
    cases: int  # symptom records told as a dialogue
    adults: int  # human questions of adults, per source
    toyhom: int  # Toyhom's, paraphrased by machine before it was published; see DATA_CARD
    more: int  # most records of each further source, 0 for all
    constructed: int  # most records made by the construction rules
    templated: int  # most templated training records per task
    pairs: int


PRESETS = {
    "ci": Preset(300, 80, 200_000, 60_000, 20_000, 20_000, 30, 10, 400, 60, 0, 50, 60, 3_000, 300),
    "nano": Preset(
        9_000,
        2_441,
        30_000_000,
        900_000,
        600_000,
        2_500_000,
        250,
        60,
        4_000,
        99_999,
        0,
        0,
        1_500,
        6_000,
        4_500,
    ),
    "nano-gpu": Preset(
        99_999,
        2_441,
        40_000_000,
        2_000_000,
        2_000_000,
        16_000_000,
        1_500,
        300,
        9_999,
        99_999,
        0,
        0,
        9_999,
        99_999,
        9_000,
    ),
}


class Reading:
    """The sources of a library as one stream of records."""

    def __init__(
        self, library: Library, preset: Preset, ledger: Ledger, extra: Iterable[Record] = ()
    ) -> None:
        self.library, self.preset, self.ledger, self.extra = library, preset, ledger, extra

    def records(self) -> Iterator[Record]:
        """All records; a source that is not there is noted in the ledger and left out."""
        for source, make in self._sources():
            if source != OWN and not self.library.has(source):
                if source not in self.ledger.absent:
                    self.ledger.absent.append(source)
                continue
            print(f"  {source}", file=sys.stderr)
            yield from make()
        yield from self.extra

    def _sources(self) -> Iterator[tuple[str, Callable[[], Iterable[Record]]]]:
        library, ledger, p = self.library, self.ledger, self.preset
        yield OWN, self._authored
        yield DXFORMER, self._cases
        yield KG, self._graph
        yield ZHONGJING, lambda: consult.huatuo(library, ledger, p.adults)
        yield ZHONGJING, lambda: consult.cmtmedqa(library, ledger, p.adults)
        yield BENTSAO, lambda: consult.bentsao(library, ledger)
        yield MEDICALGPT, lambda: consult.medical_sft(library, ledger, p.adults)
        yield BABY, lambda: consult.baby(library, ledger)
        yield DIALMED, lambda: dialmed.dialmed(library, ledger, p.adults)
        yield LLAMAFACTORY, lambda: general.instructions(library, ledger)
        yield SMILE, lambda: general.support(library, ledger, p.smile)
        yield SMILE, lambda: general.support_texts(library, ledger, p.smile_chars)
        yield KDCONV, lambda: general.smalltalk(library, ledger, p.kdconv)
        if p.toyhom:
            yield TOYHOM, lambda: consult.toyhom(library, ledger, p.toyhom)
        yield CAREGPT, lambda: drugs.monographs(library, ledger, p.drugs)
        yield WIKI, lambda: papers.wiki(library, ledger, p.wiki_chars)
        yield CHINAXIV, lambda: papers.preprints(library, ledger, p.preprint_chars)
        yield CMRC, lambda: papers.encyclopaedia(library, ledger, p.cmrc_chars)
        for source, reader in READERS:
            yield source, lambda reader=reader: reader(library, ledger, p.more)

    def _authored(self) -> Iterator[Record]:
        yield from authored.pages()
        yield from authored.knowledge()
        yield from authored.advice()
        yield from authored.talks(self.ledger)

    def _cases(self) -> Iterator[Record]:
        found = symptoms.cases(self.library, self.ledger)
        used: set[str] = set()
        if self.library.has(CHINESEBLUE):
            talks = cmdd.consultations(self.library, self.ledger, found)
            real = list(cmdd.evidence(talks))
            used = {c.group.removeprefix("cmdd/") for c in real}
            yield from real
            yield from cmdd.recommendations(talks, self.ledger)
            yield from cmdd.transcripts(talks)
        yield from questioning.questionings(found, self.ledger, used, self.preset.cases)

    def _graph(self) -> Iterator[Record]:
        found = kg.diseases(self.library, self.ledger)
        limit = self.preset.diseases
        yield from kg.pages(found, self.ledger, limit)
        yield from kg_talks.knowledge(found, limit)
        yield from kg_talks.advice(found, limit)
