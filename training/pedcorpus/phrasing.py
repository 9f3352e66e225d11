"""Choosing among phrasings by hash: varied, and the same on every run."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

Item = TypeVar("Item")


def number(*key: object) -> int:
    """A 64-bit number that depends on the key only."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def pick(options: Sequence[Item], *key: object) -> Item:
    """One of the options, chosen by the key."""
    return options[number(*key) % len(options)]


def some(options: Sequence[Item], count: int, *key: object) -> list[Item]:
    """`count` of the options (or all, if fewer) in the order the key gives."""
    ranked = sorted(range(len(options)), key=lambda i: number(i, *key))
    return [options[i] for i in ranked[:count]]


def listing(items: Sequence[str], last: str = "和") -> str:
    """A Chinese enumeration: 甲、乙和丙."""
    if len(items) < 2:
        return "".join(items)
    return "、".join(items[:-1]) + last + items[-1]
