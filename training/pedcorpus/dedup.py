"""Exact and near duplicates without holding the texts: a hash and a MinHash signature each.

A text of 1 kB costs 264 bytes here, so 1 GB of text needs about 0.3 GB. Signatures come from
`rensa`; two texts are near duplicates when the share of equal signature places, which estimates the
Jaccard similarity of their shingle sets, reaches the threshold. Candidates are found by banded
locality-sensitive hashing (Broder 1997; Leskovec et al., Mining of Massive Datasets, ch. 3).
"""

from collections.abc import Sequence

import numpy as np
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue] (compiled)

from .grams import grams_of

SHINGLE = 5  # characters; shorter ones make unrelated Chinese medical sentences look alike
PLACES = 64
BANDS = 16  # of 4 places: a pair at Jaccard 0.8 is a candidate with probability 0.9998
NEAR = 0.8  # at least four fifths of the shingles agree: the same text with words exchanged
SHORTEST = 30  # shingles; shorter texts are compared exactly only
SEED = 7


def signatures(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """MinHash signatures (N, PLACES) uint32 and whether each text is long enough, (N,) bool."""
    grams = grams_of(texts, SHINGLE)
    if not len(grams.hashes):
        return np.zeros((len(texts), PLACES), np.uint32), np.zeros(len(texts), bool)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        grams.hashes, grams.offsets.astype(np.uint64), PLACES, SEED
    )
    digests = np.array(matrix.to_rows(), np.uint32).reshape(len(texts), PLACES)
    return digests, np.diff(grams.offsets) >= SHORTEST


def repeats(keys: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(N,) bool: rows whose key another row has that comes earlier in `order`; key 0 never."""
    by = np.lexsort((order, keys))
    again = np.zeros(len(keys), bool)
    again[by[1:]] = (keys[by[1:]] == keys[by[:-1]]) & (keys[by[1:]] != 0)
    return again


def near_repeats(signature: np.ndarray, order: np.ndarray, threshold: float = NEAR) -> np.ndarray:
    """(N,) bool: rows that nearly equal a row that comes earlier in `order` and stays.

    In every bucket each row is compared with the bucket's first and with the one before it, so a
    bucket of n rows costs n comparisons, not n^2.
    """
    count = len(signature)
    drop = np.zeros(count, bool)
    if count < 2:
        return drop
    by_order = np.argsort(order, kind="stable")
    ranked = signature[by_order]
    width = PLACES // BANDS
    pairs: list[np.ndarray] = []
    for band in range(BANDS):
        part = np.ascontiguousarray(ranked[:, band * width : (band + 1) * width])
        keys = part.view(np.uint64).astype(np.uint64)
        keys = (keys[:, 0] * np.uint64(0x9E3779B97F4A7C15)) ^ keys[:, 1]
        at = np.argsort(keys, kind="stable")
        same = keys[at[1:]] == keys[at[:-1]]
        if not same.any():
            continue
        first = at[np.maximum.accumulate(np.where(np.r_[True, ~same], np.arange(count), 0))]
        later = np.flatnonzero(same) + 1
        pairs.append(np.stack([at[later - 1], at[later]], 1))
        pairs.append(np.stack([first[later], at[later]], 1))
    if not pairs:
        return drop
    found = np.unique(np.concatenate(pairs), axis=0)
    alike = np.concatenate(
        [
            (ranked[part[:, 0]] == ranked[part[:, 1]]).mean(1) >= threshold
            for part in np.array_split(found, len(found) // 200_000 + 1)
        ]
    )
    gone = np.zeros(count, bool)
    for earlier, later in found[alike][np.lexsort(found[alike].T[::-1])]:
        if not gone[earlier]:
            gone[later] = True
    drop[by_order] = gone
    return drop
