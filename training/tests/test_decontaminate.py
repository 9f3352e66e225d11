"""N-grams, and that no evaluation item is found in what trains."""

import random

import numpy as np
import pytest

from training.pedcorpus.decontaminate import COMMON, RUN, SHARE, Index, N, index_of
from training.pedcorpus.grams import grams_of, hash_text, normalised

HAN = [chr(c) for c in range(0x4E00, 0x4E00 + 2000)]


def prose(seed: int, size: int) -> str:
    return "".join(random.Random(seed).choices(HAN, k=size))


def test_grams_are_those_of_a_plain_loop() -> None:
    texts = ["今天，孩子发烧３９度。", "", "AbC", "，。！", "孩子发烧39度了，怎么办？"]
    grams = grams_of(texts, 4)
    words = []
    for text, start, end in zip(texts, grams.offsets, grams.offsets[1:], strict=False):
        plain = "".join(map(chr, normalised(text)))
        expected = [plain[i : i + 4] for i in range(len(plain) - 3)] or ([plain] if plain else [])
        assert end - start == len(expected)
        words += zip(expected, grams.hashes[start:end].tolist(), strict=True)
    # equal grams have equal hashes, others different ones
    assert len(dict(words)) == len({h for _, h in words}) == len(set(words))
    assert dict(words)["发烧39"] == int(grams_of(["发烧３９"], 4).hashes[0])


def test_grams_do_not_cross_texts() -> None:
    parts = grams_of(["一二三四五", "六七八九十"], 3)
    whole = grams_of(["一二三四五六七八九十"], 3)
    assert set(parts.hashes) < set(whole.hashes)
    assert len(parts.hashes) == 6


def test_whole_text_hash_ignores_punctuation_and_width() -> None:
    assert hash_text("孩子，发烧 ３９ 度！") == hash_text("孩子发烧39度")
    assert hash_text("孩子发烧39度") != hash_text("孩子发烧38度")
    assert hash_text("，。") == 0


def test_a_planted_item_is_found_and_its_neighbours_are_not() -> None:
    question, answer = prose(1, 60), prose(2, 150)
    index = index_of([((question, answer), 7)])
    clean = prose(3, 900)
    texts = [
        clean,
        clean[:400] + question + clean[400:],  # the question inside a page
        clean[:400] + "，".join(answer[i : i + 9] for i in range(0, 150, 9)) + clean[400:],
        clean[:100] + answer[:70] + clean[100:],  # a long run of an answer, less than half of it
        clean + answer[:30],  # a short quotation
    ]
    assert index.contaminated(texts).tolist() == [False, True, True, True, False]
    shares = index.overlaps(texts)
    assert shares[0] == 0.0 and shares[1] == 1.0 and 0 < shares[4] < SHARE


def test_share_is_of_the_distinct_grams_of_the_unit() -> None:
    unit = prose(4, N - 1 + 40)  # forty grams
    index = index_of([((unit,), 1)])
    for kept, expected in ((19, 19 / 40), (20, 0.5), (25, 25 / 40)):
        assert index.overlaps([unit[: N - 1 + kept]])[0] == pytest.approx(expected)
    assert index.contaminated([unit[: N - 1 + 19]]).tolist() == [False]
    assert index.contaminated([unit[: N - 1 + 20]]).tolist() == [True]


def test_phrases_of_many_evaluation_items_do_not_count() -> None:
    phrase = prose(5, 40)
    few = index_of([((prose(10 + i, 30) + phrase,), i) for i in range(COMMON - 1)])
    many = index_of([((prose(10 + i, 30) + phrase,), i) for i in range(COMMON)])
    same_group = index_of([((prose(10 + i, 30) + phrase,), 1) for i in range(COMMON)])
    assert few.overlaps([phrase])[0] > 0.4
    assert many.overlaps([phrase])[0] == 0.0
    assert same_group.overlaps([phrase])[0] > 0.4
    # copies in training do not make an item common
    assert many.contaminated([prose(10, 30) + phrase] * 50).all()


def test_short_units_are_left_to_the_equality_of_questions() -> None:
    index = Index()
    index.add(["宝宝发烧怎么办"], 1)
    index.freeze()
    assert len(index.sizes) == 0
    assert index.overlaps(["宝宝发烧怎么办", ""]).tolist() == [0.0, 0.0]


def test_a_long_run_counts_in_a_long_dialogue() -> None:
    unit = prose(6, 700)
    index = index_of([((unit,), 1)])
    inside = prose(7, 300)
    assert index.contaminated([inside + unit[100 : 100 + N - 1 + RUN]]).all()
    assert not index.contaminated([inside + unit[100 : 100 + N - 2 + RUN]]).any()


def test_batches_do_not_matter() -> None:
    units = [prose(s, 120) for s in range(20, 30)]
    index = index_of([((u,), i) for i, u in enumerate(units)])
    texts = [prose(s, 80) + units[s % 10][: s % 100] for s in range(40, 90)]
    together = index.overlaps(texts)
    apart = np.array([index.overlaps([t])[0] for t in texts])
    assert np.array_equal(together, apart) and 0 < together.max() <= 1
