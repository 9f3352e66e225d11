"""Held-out dialogues as items to measure on: the same ones, in the same order, for every model."""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.batches import read_lines

Turn = dict[str, str]

# Counted as written by people, but a model has polished the words (CMtMedQA), or the question was
# put together from what the patient had filled in (CMDD's treatment items).
_EDITED = re.compile(r"cmtmedqa-|cmdd-\d+-t")


@dataclass(frozen=True)
class Item:
    """A dialogue that ends with an answer. `templated`: put together by rule, not written by people."""

    id: str
    task: str
    templated: bool
    turns: tuple[Turn, ...]

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """Everything before the last answer."""
        return self.turns[:-1]

    @property
    def unedited(self) -> bool:
        """Written by people and left as they wrote it, as far as the source tells."""
        return not self.templated and _EDITED.match(self.id) is None

    @property
    def reference(self) -> str:
        return self.turns[-1]["text"]

    @property
    def key(self) -> tuple[str, str, str]:
        """Tells items apart also where a corpus has an id twice."""
        return self.id, self.asked, self.reference

    @property
    def asked(self) -> str:
        """All that was asked or told before the last answer."""
        return "\n".join(turn["text"] for turn in self.prompt if turn["role"] == "user")


def to_item(chat: dict) -> Item | None:
    """A record of chat.jsonl as an item; None where no answer follows a question."""
    turns = chat["turns"]
    ends = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not ends or ends[-1] == 0 or turns[ends[-1] - 1]["role"] != "user":
        return None
    if not turns[ends[-1]]["text"].strip():
        return None
    return Item(chat["id"], chat["task"], chat["templated"], tuple(turns[: ends[-1] + 1]))


def read_items(corpus: Path, tasks: Iterable[str], split: str) -> list[Item]:
    """Items of chat.jsonl, ordered by a hash of their id: any first n are a fair sample."""
    wanted = set(tasks)
    chats = read_lines(corpus / "chat.jsonl")
    found = [to_item(c) for c in chats if c["split"] == split and c["task"] in wanted]
    items = [item for item in found if item is not None]
    return sorted(items, key=lambda item: (zlib.crc32(item.id.encode()), item.id))


def choose(items: Sequence[Item], task: str, templated: bool, most: int = 0) -> list[Item]:
    """Items of one task and kind, at most so many (0: all)."""
    found = [item for item in items if item.task == task and item.templated is templated]
    return found[:most] if most else found


def fitting_prompt(tokenizer, item: Item, room: int) -> list[int] | None:
    """Ids of the item's prompt; the oldest exchanges go until it fits into `room` ids.

    None where the last question alone does not fit.
    """
    for start, turn in enumerate(item.prompt):
        if start and turn["role"] != "user":
            continue
        ids = tokenizer.encode_turns(item.prompt[start:])[0]
        if len(ids) <= room:
            return ids
    return None


def windows(tokenizer, turns: Sequence[Turn], capacity: int) -> list[tuple[list[int], list[int]]]:
    """Ids and answer masks that together count every answer of a dialogue once.

    One window where the dialogue fits into `capacity` + 1 ids. Else the first holds as many exchanges
    as fit, and every later answer gets a window of its own with as much before it as fits. Empty where
    some answer does not fit even with nothing but its question.
    """
    ends = [i + 1 for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    starts = [i for i, turn in enumerate(turns) if turn["role"] == "user"]
    made: list[tuple[list[int], list[int]]] = []
    for end in reversed(ends):
        ids, mask = tokenizer.encode_turns(turns[:end])
        if len(ids) <= capacity + 1:
            made.append((ids, mask))
            break
    first = end if made else 0
    for end in (e for e in ends if e > first):
        for start in (s for s in starts if s < end - 1):
            ids, mask = tokenizer.encode_turns(turns[start:end])
            if len(ids) <= capacity + 1:
                last = len(tokenizer.encode_turns(turns[start : end - 1])[0])
                made.append((ids, [0] * last + mask[last:]))
                break
        else:
            return []
    return made
