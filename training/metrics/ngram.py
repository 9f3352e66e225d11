"""ROUGE, BLEU, GLEU and Distinct of answers against one reference each, twice.

`released` gives the numbers that the published PediatricsGPT code gives, quirks included: jieba
words; nltk's sentence BLEU with smoothing method 3, averaged over pairs, BLEU-3 with weights that sum
to 0.99; nltk's sentence GLEU; the PyPI package `rouge`, which counts different n-grams once and cuts
texts at every "."; Distinct inside every answer, averaged. Pairs without words, on either side, leave
the mean of ROUGE but not the others.

`corrected` is on characters (white space left out), so that no segmenter and no version of it can move
it: ROUGE-N on multisets and ROUGE-L by the longest common subsequence, F1 averaged over pairs with an
empty answer as 0; BLEU and GLEU of the corpus, unsmoothed, weights 1/n; Distinct over all answers.
sacreBLEU's own Chinese score stands beside it as a cross-check.

All numbers are times 100. Numbers of different modes, and of other papers, are not comparable.
"""

import functools
import logging
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from importlib.metadata import version
from typing import Any

Pair = tuple[str, str]  # answer, reference
BLEU_NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
ROUGE_NAMES = ("rouge_1", "rouge_2", "rouge_l")
RELEASED_WEIGHTS = ((1, 0, 0, 0), (0.5, 0.5, 0, 0), (0.33, 0.33, 0.33, 0), (0.25,) * 4)
NAMES = (*ROUGE_NAMES, *BLEU_NAMES, "gleu", "distinct_1", "distinct_2")


def characters(text: str) -> list[str]:
    """Characters without white space."""
    return list("".join(text.split()))


@functools.cache
def _cutter() -> Callable[[str], Iterable[str]]:
    import jieba

    jieba.setLogLevel(logging.WARNING)
    return jieba.cut


def words(text: str) -> list[str]:
    """jieba's words (precise mode), spaces and punctuation among them."""
    return list(_cutter()(text))


def signature(mode: str) -> str:
    """What the numbers of a mode stand on, in one line that belongs beside them."""
    if mode == "released":
        used = ",".join(f"{name}-{version(name)}" for name in ("jieba", "nltk", "rouge"))
        return (
            f"mode:released|seg:jieba|{used}|bleu:sentence,method3|distinct:answer|empty:no-rouge"
        )
    if mode == "corrected":
        return (
            "mode:corrected|seg:char|rouge:multiset,f1|bleu:corpus|gleu:corpus|distinct:corpus|v:1"
        )
    raise ValueError(f"no such mode of n-gram measures: {mode!r}")


def grams(tokens: Sequence[Hashable], n: int) -> Counter:
    """How often every n-gram occurs."""
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def f1(common: float, mine: float, theirs: float) -> float:
    """Harmonic mean of common/mine and common/theirs, 0 where nothing is common."""
    return 2 * common / (mine + theirs) if common else 0.0


def lcs_length(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, one machine word at a time (Hyyro 2004).

    Bit i of `row` is 0 where the length grows at a[i]; Python's integers are the bit vectors.
    """
    where: dict[Hashable, int] = {}
    for i, token in enumerate(a):
        where[token] = where.get(token, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for token in b:
        matches = row & where.get(token, 0)
        row = (row + matches | row - matches) & full
    return len(a) - row.bit_count()


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence on characters, 0 to 1."""
    a, b = characters(answer), characters(reference)
    return f1(lcs_length(a, b), len(a), len(b))


def _lcs_members(reference: Sequence[str], answer: Sequence[str]) -> set[str]:
    """The tokens of the one longest common subsequence that `rouge` reconstructs, as a set.

    The package walks back by recursion, which ends in a RecursionError for texts of some hundred words;
    this walks the same way (on equal lengths it shortens the answer) in a loop.
    """
    table = [[0] * (len(answer) + 1)]
    for x in reference:
        above, row = table[-1], [0]
        for j, y in enumerate(answer, 1):
            row.append(above[j - 1] + 1 if x == y else max(above[j], row[j - 1]))
        table.append(row)
    members = set()
    i, j = len(reference), len(answer)
    while i > 0 and j > 0:
        if reference[i - 1] == answer[j - 1]:
            members.add(reference[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return members


def _sentences(tokens: Sequence[str]) -> list[list[str]]:
    """What `rouge` makes of space-joined tokens: cut at every ".", spaces collapsed."""
    parts = [part for part in " ".join(tokens).split(".") if part]
    return [" ".join(part.split()).split(" ") for part in parts]


def _set_f(mine: set, theirs: set, common: int) -> float:
    """F1 in the package's form: the small number in it shows in the sixth digit."""
    precision = common / len(mine) if mine else 0.0
    recall = common / len(theirs) if theirs else 0.0
    return 2 * (precision * recall / (precision + recall + 1e-8))


def released_rouge(answer: Sequence[str], reference: Sequence[str]) -> dict[str, float] | None:
    """ROUGE-1, -2 and -L of two lists of words as the PyPI package `rouge` counts, 0 to 1.

    None for a pair without words: the published code leaves it out (so is here a pair of nothing but
    full stops, for which the package raises an error).
    """
    if not "".join(answer).split() or not "".join(reference).split():
        return None
    mine, theirs = _sentences(answer), _sentences(reference)
    if not mine or not theirs:
        return None
    scores = {}
    for name, n in (("rouge_1", 1), ("rouge_2", 2)):
        a, b = (set(grams([w for part in side for w in part], n)) for side in (mine, theirs))
        scores[name] = _set_f(a, b, len(a & b))
    union: set[str] = set()
    for part in theirs:
        for other in mine:
            union |= _lcs_members(part, other)
    flat_mine = {w for part in mine for w in part}
    flat_theirs = {w for part in theirs for w in part}
    scores["rouge_l"] = _set_f(flat_mine, flat_theirs, len(union))
    return scores


def released_pair(answer: str, reference: str) -> dict[str, float]:
    """All measures of one pair, times 100 and rounded to four places; no ROUGE without words."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from nltk.translate.gleu_score import sentence_gleu

    mine, theirs = words(answer), words(reference)
    scores = released_rouge(mine, theirs) or {}
    smooth = SmoothingFunction().method3
    bleu: Any = sentence_bleu([theirs], mine, weights=RELEASED_WEIGHTS, smoothing_function=smooth)
    scores |= dict(zip(BLEU_NAMES, bleu, strict=True))
    scores["gleu"] = sentence_gleu([theirs], mine)
    scores["distinct_1"] = len(set(mine)) / max(1, len(mine))
    scores["distinct_2"] = len(grams(mine, 2)) / max(1, len(mine) - 1)
    return {name: round(100 * float(value), 4) for name, value in scores.items()}


def released(pairs: Sequence[Pair]) -> dict[str, float]:
    """Means over pairs of what the published code computes; 0 where no pair counts.

    Where its code divides by the length of an empty answer, Distinct is 0 here.
    """
    rows = [released_pair(*pair) for pair in pairs]
    found = {}
    for name in NAMES:
        values = [row[name] for row in rows if name in row]
        found[name] = math.fsum(values) / max(1, len(values))
    return found


class Matches:
    """n-gram matches of a corpus: what BLEU and GLEU are made of (n = 1 .. 4)."""

    def __init__(self, pairs: Sequence[tuple[Sequence[str], Sequence[str]]]):
        self.common, self.mine, self.theirs = [0] * 4, [0] * 4, [0] * 4
        self.length = sum(len(a) for a, _ in pairs)
        self.reference_length = sum(len(b) for _, b in pairs)
        self.gleu_common = self.gleu_total = 0
        for a, b in pairs:
            common = mine = theirs = 0
            for n in range(4):
                counts, others = grams(a, n + 1), grams(b, n + 1)
                shared = (counts & others).total()
                self.common[n] += shared
                self.mine[n] += counts.total()
                self.theirs[n] += others.total()
                common, mine, theirs = (
                    common + shared,
                    mine + counts.total(),
                    theirs + others.total(),
                )
            self.gleu_common += common
            self.gleu_total += max(mine, theirs)

    def bleu(self, n: int) -> float:
        """Geometric mean of the first n precisions times the brevity penalty, 0 to 1."""
        if 0 in self.common[:n]:
            return 0.0
        logs = [math.log(self.common[i] / self.mine[i]) for i in range(n)]
        short = 1 - self.reference_length / self.length
        return math.exp(min(0.0, short) + math.fsum(logs) / n)

    def gleu(self) -> float:
        """Common n-grams over the larger of both sides' counts, summed over the corpus."""
        return self.gleu_common / max(1, self.gleu_total)


def distinct(texts: Iterable[Sequence[Hashable]], n: int) -> float:
    """Different n-grams as a share of all n-grams of all texts (Li et al. 2016)."""
    counts: Counter = Counter()
    for tokens in texts:
        counts.update(grams(tokens, n))
    return len(counts) / max(1, counts.total())


def corrected(pairs: Sequence[Pair]) -> dict[str, float]:
    """The measures on characters. Raises ValueError for an empty reference: it measures nothing."""
    cut = [(characters(answer), characters(reference)) for answer, reference in pairs]
    if any(not reference for _, reference in cut):
        raise ValueError("a reference is empty: leave the pair out before measuring")
    totals: dict[str, float] = dict.fromkeys(ROUGE_NAMES, 0.0)
    for a, b in cut:
        for name, n in (("rouge_1", 1), ("rouge_2", 2)):
            mine, theirs = grams(a, n), grams(b, n)
            totals[name] += f1((mine & theirs).total(), mine.total(), theirs.total())
        totals["rouge_l"] += f1(lcs_length(a, b), len(a), len(b))
    found = {name: total / max(1, len(cut)) for name, total in totals.items()}
    matches = Matches(cut)
    found |= {name: matches.bleu(n) for n, name in enumerate(BLEU_NAMES, 1)}
    found["gleu"] = matches.gleu()
    for n in (1, 2):
        found[f"distinct_{n}"] = distinct((a for a, _ in cut), n)
    return {name: 100 * value for name, value in found.items()}


def sacrebleu_zh(pairs: Sequence[Pair]) -> tuple[float, str]:
    """sacreBLEU's corpus score with its Chinese tokenizer, and its own signature."""
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(tokenize="zh")
    score = bleu.corpus_score([a for a, _ in pairs], [[b for _, b in pairs]])
    return score.score, str(bleu.get_signature())


def measure(pairs: Sequence[Pair]) -> dict:
    """Both modes with their signatures, and the cross-check."""
    score, theirs = sacrebleu_zh(pairs)
    return {
        "released": released(pairs),
        "corrected": corrected(pairs),
        "sacrebleu_zh": score,
        "signatures": {
            "released": signature("released"),
            "corrected": signature("corrected"),
            "sacrebleu_zh": theirs,
        },
    }
