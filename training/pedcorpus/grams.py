"""Character n-grams of many texts at once, as 64-bit hashes: what dedup and decontamination share.

A text is normalised first: only Chinese characters, letters and digits stay, lower-cased, so that
punctuation, spaces and full-width forms make no difference. The hash is polynomial,
h = sum c[i + j] * B^(n - 1 - j) mod 2^64, mixed at the end; two different n-grams out of 10^9 share
one with a chance below 0.03.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)


def _table() -> np.ndarray:
    """Code point -> normalised code point, 0 where the character is dropped; (65536,) uint16."""
    table = np.zeros(65536, np.uint16)
    for first, last in ((0x4E00, 0x9FFF), (0x30, 0x39), (0x61, 0x7A), (0x3400, 0x4DBF)):
        table[first : last + 1] = np.arange(first, last + 1)
    table[0x41:0x5B] = np.arange(0x61, 0x7B)
    for first, last, to in ((0xFF10, 0xFF19, 0x30), (0xFF21, 0xFF3A, 0x61), (0xFF41, 0xFF5A, 0x61)):
        table[first : last + 1] = np.arange(to, to + last - first + 1)
    return table


_NORMAL = _table()


def normalised(text: str) -> np.ndarray:
    """The characters that count, as uint16 code points. Lone surrogates are dropped."""
    points = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    points = _NORMAL[np.where(points < 65536, points, 0)]
    return points[points > 0]


class Grams(NamedTuple):
    """Hashes of the n-grams of several texts, one after the other."""

    hashes: np.ndarray  # uint64 (G,)
    offsets: np.ndarray  # int64 (N + 1,): text i has hashes[offsets[i] : offsets[i + 1]]


def _mixed(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(32))) * _MIX
    return value ^ (value >> np.uint64(29))


def grams_of(texts: Sequence[str], n: int) -> Grams:
    """All overlapping n-grams of every text; a text shorter than n has one gram, the whole of it."""
    chars = [normalised(text) for text in texts]
    sizes = np.array([len(c) for c in chars], np.int64)
    counts = np.where(sizes >= n, sizes - n + 1, np.minimum(sizes, 1))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    if not offsets[-1]:
        return Grams(np.zeros(0, np.uint64), offsets)
    # every text is padded with n - 1 zeros, so that no gram crosses into the next text
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes + n - 1)])
    flat = np.zeros(int(starts[-1]) + 1, np.uint64)
    for start, char in zip(starts[:-1], chars, strict=True):
        flat[start : start + len(char)] = char
    values = np.zeros(len(flat) - n, np.uint64) if len(flat) > n else np.zeros(1, np.uint64)
    with np.errstate(over="ignore"):
        for j in range(n):
            values = values * _BASE + flat[j : j + len(values)]
        where = np.repeat(starts[:-1] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Grams(_mixed(values[where]), offsets)


def hash_text(text: str) -> int:
    """One 64-bit hash of the whole normalised text, 0 for a text without counted characters."""
    chars = normalised(text)
    if not len(chars):
        return 0
    return int.from_bytes(blake2b(chars.tobytes(), digest_size=8).digest(), "little") or 1
