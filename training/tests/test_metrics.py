"""Every n-gram measure against the library it stands on, and the bootstrap against what is known."""

import random
import sys
from typing import Any

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu, sentence_bleu
from nltk.translate.gleu_score import corpus_gleu, sentence_gleu
from rouge import Rouge
from sacrebleu.metrics.bleu import BLEU

from training.metrics import ngram
from training.metrics.bootstrap import mean_interval, ratio_interval

PAIRS = [
    ("宝宝发热三天，建议多喝水，注意观察。", "孩子发热三天，要多喝水，并观察精神。"),
    ("多喝水多喝水多喝水。", "多喝水。"),
    ("！！！？？，，，", "注意休息！"),
    ("血常规 CRP 12.5 mg/L, WBC 9.8", "查血常规和 CRP，WBC 是 9.8。"),
    ("a. b. c", "a b. c d"),
    ("一般不需要用药", "好"),
    ("好", "好"),
    ("完全两样", "相去甚远！"),
]


def long_pair(answer: int, reference: int) -> tuple[str, str]:
    rng = random.Random(3)
    letters = "发热咳嗽腹泻皮疹呕吐鼻塞，。多喝水休息观察就医宝宝孩子三天体温精神"
    made = ["".join(rng.choice(letters) for _ in range(n)) for n in (answer, reference)]
    return made[0], made[1]


def library_rouge(answer: str, reference: str) -> dict[str, float]:
    texts = [" ".join(ngram.words(text)) for text in (answer, reference)]
    found: Any = Rouge().get_scores(texts[0], texts[1])
    found = found[0]
    return {name.replace("-", "_"): value["f"] for name, value in found.items()}


@pytest.mark.parametrize(("answer", "reference"), PAIRS)
def test_released_rouge_is_the_packages(answer, reference):
    found = ngram.released_rouge(ngram.words(answer), ngram.words(reference))
    assert found == pytest.approx(library_rouge(answer, reference), abs=1e-12)


def test_released_rouge_needs_no_recursion():
    answer, reference = long_pair(3000, 400)
    with pytest.raises(RecursionError):
        library_rouge(answer, reference)
    found = ngram.released_rouge(ngram.words(answer), ngram.words(reference))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        assert found == pytest.approx(library_rouge(answer, reference), abs=1e-12)
    finally:
        sys.setrecursionlimit(limit)


def test_released_leaves_pairs_without_words_out_of_rouge_only():
    for answer, reference in (("", "好"), ("好", ""), (" \n", "好"), ("...", "好")):
        assert "rouge_l" not in ngram.released_pair(answer, reference)
    with pytest.raises(ValueError, match="empty"):
        library_rouge("...", "好")
    with_empty = ngram.released([PAIRS[0], ("", "好")])
    alone = ngram.released([PAIRS[0]])
    assert with_empty["rouge_l"] == alone["rouge_l"] > 0
    for name in ("bleu_1", "gleu", "distinct_1", "distinct_2"):
        assert with_empty[name] == pytest.approx(alone[name] / 2)


@pytest.mark.parametrize(("answer", "reference"), PAIRS)
def test_released_bleu_and_gleu_are_nltks(answer, reference):
    found = ngram.released_pair(answer, reference)
    a, b = ngram.words(answer), ngram.words(reference)
    smooth = SmoothingFunction().method3
    weights = [(1, 0, 0, 0), (0.5, 0.5, 0, 0), (0.33, 0.33, 0.33, 0), (0.25, 0.25, 0.25, 0.25)]
    for name, one in zip(ngram.BLEU_NAMES, weights, strict=True):
        wanted: Any = sentence_bleu([b], a, weights=one, smoothing_function=smooth)
        assert found[name] == round(100 * wanted, 4)
    assert found["gleu"] == round(100 * sentence_gleu([b], a), 4)


def test_the_weights_of_the_released_bleu_3_raise_it():
    answer, reference = PAIRS[0]
    a, b = ngram.words(answer), ngram.words(reference)
    smooth = SmoothingFunction().method3
    whole: Any = sentence_bleu([b], a, weights=(1 / 3,) * 3, smoothing_function=smooth)
    assert ngram.released_pair(answer, reference)["bleu_3"] > 100 * whole


def test_released_distinct_is_per_answer():
    found = ngram.released([("好 好", "好"), ("不好", "好")])
    # 好, space, 好: two of three words, both pairs different; one word of its own: no pair
    assert found["distinct_1"] == pytest.approx((66.6667 + 100) / 2)
    assert found["distinct_2"] == pytest.approx(50)


def test_corrected_bleu_is_sacrebleus_on_characters():
    pairs = [*PAIRS, long_pair(300, 280)]
    spaced = [tuple(" ".join(ngram.characters(text)) for text in pair) for pair in pairs]
    found = ngram.corrected(pairs)
    for n, name in enumerate(ngram.BLEU_NAMES, 1):
        library = BLEU(tokenize="none", smooth_method="none", max_ngram_order=n)
        score = library.corpus_score([a for a, _ in spaced], [[b for _, b in spaced]])
        assert found[name] == pytest.approx(score.score)


def test_corrected_bleu_and_gleu_are_nltks_on_characters():
    # nltk counts one n-gram where a text is too short for any: here none is
    pairs = [pair for pair in PAIRS if min(map(len, pair)) > 3] + [long_pair(300, 280)]
    cut = [(ngram.characters(a), ngram.characters(b)) for a, b in pairs]
    found = ngram.corrected(pairs)
    for n, name in enumerate(ngram.BLEU_NAMES, 1):
        wanted: Any = corpus_bleu([[b] for _, b in cut], [a for a, _ in cut], weights=(1 / n,) * n)
        assert found[name] == pytest.approx(100 * float(wanted))
    assert found["gleu"] == pytest.approx(
        100 * float(corpus_gleu([[b] for _, b in cut], [a for a, _ in cut]))
    )


def test_corrected_is_near_sacrebleus_chinese_score_on_chinese():
    pairs = [PAIRS[0], long_pair(300, 280)]
    score, signature = ngram.sacrebleu_zh(pairs)
    assert ngram.corrected(pairs)["bleu_4"] == pytest.approx(score, rel=0.02)
    assert "tok:zh" in signature


def test_corrected_rouge_counts_repeats_and_the_package_does_not():
    answer, reference = PAIRS[1]
    found = ngram.corrected([PAIRS[1]])
    assert found["rouge_1"] == pytest.approx(100 * 2 * 4 / (10 + 4))
    assert found["rouge_l"] == pytest.approx(100 * 2 * 4 / (10 + 4))
    assert library_rouge(answer, reference)["rouge_1"] > 0.8
    spaced = [" ".join(ngram.characters(text)) for text in PAIRS[0]]
    multiset: Any = Rouge(exclusive=False).get_scores(spaced[0], spaced[1])
    multiset = multiset[0]
    mine = ngram.corrected([PAIRS[0]])
    for ours, theirs in (("rouge_1", "rouge-1"), ("rouge_2", "rouge-2"), ("rouge_l", "rouge-l")):
        assert mine[ours] == pytest.approx(100 * multiset[theirs]["f"], abs=1e-4)


def test_corrected_edges():
    assert ngram.corrected([("好的。", "好的。")])["rouge_l"] == 100
    nothing = ngram.corrected([("", "好")])
    assert all(nothing[name] == 0 for name in ngram.NAMES)
    with pytest.raises(ValueError, match="reference is empty"):
        ngram.corrected([("好", " ")])
    whole = ngram.corrected([long_pair(3000, 3000)])
    assert 0 < whole["rouge_l"] < 100
    assert ngram.corrected([("好 的", "好的")])["bleu_2"] == pytest.approx(100)


def test_lcs_is_that_of_the_plain_recurrence():
    rng = random.Random(5)
    for _ in range(200):
        a = [rng.choice("甲乙丙a1") for _ in range(rng.randrange(0, 90))]
        b = [rng.choice("甲乙丙a1") for _ in range(rng.randrange(0, 90))]
        row = [0] * (len(b) + 1)
        for x in a:
            last = row[:]
            for j, y in enumerate(b, 1):
                row[j] = last[j - 1] + 1 if x == y else max(last[j], row[j - 1])
        assert ngram.lcs_length(a, b) == row[-1]


def test_distinct_is_over_all_texts():
    assert ngram.distinct([list("甲乙"), list("甲乙")], 1) == 0.5
    assert ngram.distinct([list("aaaa")], 2) == pytest.approx(1 / 3)
    assert ngram.distinct([], 2) == 0


def test_signatures_name_segmenter_and_versions():
    assert "seg:jieba" in ngram.signature("released") and "rouge-1." in ngram.signature("released")
    assert "seg:char" in ngram.signature("corrected")
    with pytest.raises(ValueError, match="other"):
        ngram.signature("other")
    both = ngram.measure(PAIRS)
    assert set(both["released"]) == set(both["corrected"]) == set(ngram.NAMES)


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        values = random.normal(1.0, 2.0, 60)
        interval = mean_interval(values, seed, samples=300)
        hits += interval.low < 1.0 < interval.high
    assert 0.88 <= hits / 200 <= 0.99
    width = 2 * 1.96 * 2 / 60**0.5
    wide = mean_interval(random.normal(0, 2.0, 60))
    assert wide.high - wide.low == pytest.approx(width, rel=0.35)


def test_bootstrap_of_a_ratio():
    interval = ratio_interval([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)
    assert ratio_interval([3.0, 1.0], [1.0, 3.0]).value == 1
    assert mean_interval([0.5]).as_dict() == {"value": 0.5, "low": 0.5, "high": 0.5}
    for bad in (([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0])):
        with pytest.raises(ValueError):
            ratio_interval(*bad)
