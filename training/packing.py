"""Rows of token ids: how documents, dialogues and pairs are laid into them, one at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

Chat = tuple[list[int], list[int]]  # tokens, 1 where a token is part of an answer
OPEN_ROWS = 16  # of chats, that a further chat may still go into


class Words(Protocol):
    """What packing needs of a tokenizer."""

    eos: int
    vocab_size: int

    def encode_many(self, texts: list[str]) -> list[list[int]]: ...
    def encode_turns(self, turns: list[dict[str, str]]) -> Chat: ...


class Growing:
    """A .npy file that rows of one width are appended to; its header is written again at the end."""

    def __init__(self, path: Path, width: int, dtype: type):
        self.path, self.width, self.dtype = path, width, np.dtype(dtype)
        self.rows = 0
        self.file = path.with_name(path.name + ".partial").open("wb")
        self._header()

    def _header(self) -> None:
        about = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, self.width),
        }
        # numpy leaves room in it for an array that grows along its first axis
        np.lib.format.write_array_header_1_0(self.file, about)

    def add(self, row: np.ndarray) -> None:
        assert row.shape == (self.width,) and row.dtype == self.dtype
        self.file.write(row.tobytes())
        self.rows += 1

    def close(self) -> None:
        self.file.seek(0)
        self._header()
        self.file.close()
        Path(self.file.name).replace(self.path)


class Packed:
    """A set being written: rows of `parts`, and what sizes.json tells of it."""

    def __init__(self, folder: Path, name: str, context: int, **parts: type):
        self.name = name
        self.files = {
            part: Growing(folder / f"{name}.{part}.npy", context + 1, dtype)
            for part, dtype in parts.items()
        }
        self.size = {"rows": 0, "tokens": 0, "answer_tokens": 0}

    def add(self, row: dict[str, np.ndarray]) -> None:
        for part, file in self.files.items():
            file.add(row[part])
        self.size["rows"] += 1
        self.size["tokens"] += int(np.count_nonzero(row["tokens"]))
        if "counted" in row:
            self.size["answer_tokens"] += int(row["counted"].sum())

    def add_all(self, rows: Iterable[dict[str, np.ndarray]]) -> None:
        for row in rows:
            self.add(row)

    def close(self) -> dict[str, int]:
        for file in self.files.values():
            file.close()
        return self.size


class StreamRows:
    """Concatenates documents and cuts them into rows of T + 1; neighbours share one token."""

    def __init__(self, context: int, dtype: type):
        self.context, self.dtype = context, dtype
        self.rest: list[int] = []

    def add(self, document: list[int]) -> Iterator[dict[str, np.ndarray]]:
        self.rest += document
        at = 0
        while len(self.rest) - at > self.context:
            yield {"tokens": np.asarray(self.rest[at : at + self.context + 1], self.dtype)}
            at += self.context
        del self.rest[:at]


@dataclass
class OpenRow:
    number: int
    room: int
    chats: list[Chat]


class ChatRows:
    """First-fit packing of whole chats into rows of T + 1; at most OPEN_ROWS rows stay open."""

    def __init__(self, context: int, dtype: type):
        self.width, self.dtype = context + 1, dtype
        self.open: list[OpenRow] = []
        self.rows = 0

    def add(self, chat: Chat) -> Iterator[dict[str, np.ndarray]]:
        """Yields a row when it is closed for another. ValueError for a chat longer than a row."""
        size = len(chat[0])
        if size > self.width:
            raise ValueError(f"a chat of {size} tokens does not fit into {self.width}")
        row = next((row for row in self.open if row.room >= size), None)
        if row is None:
            row = OpenRow(self.rows, self.width, [])
            self.rows += 1
            self.open.append(row)
        row.chats.append(chat)
        row.room -= size
        if len(self.open) > OPEN_ROWS:
            fullest = min(self.open, key=lambda row: row.room)
            self.open.remove(fullest)
            yield self.array(fullest)

    def close(self) -> Iterator[dict[str, np.ndarray]]:
        for row in self.open:
            yield self.array(row)
        self.open = []

    def array(self, row: OpenRow) -> dict[str, np.ndarray]:
        packed = {
            "tokens": np.zeros(self.width, self.dtype),
            "segments": np.zeros(self.width, np.uint16),
            "counted": np.zeros(self.width, np.bool_),
        }
        at = 0
        for number, (tokens, answer) in enumerate(row.chats, 1):
            end = at + len(tokens)
            packed["tokens"][at:end] = tokens
            packed["segments"][at:end] = number
            packed["counted"][at:end] = answer
            at = end
        return packed


def exchanges(turns: list[dict]) -> list[list[dict]]:
    """A dialogue cut after every answer; what follows the last answer is left out."""
    parts, part = [], []
    for turn in turns:
        part.append(turn)
        if turn["role"] == "assistant":
            parts.append(part)
            part = []
    return parts


def completion(words: Words, turns: list[dict]) -> list[int]:
    """A dialogue verbalised for CPT: its exchanges in the chat template, as text to be continued.

    Every token counts, questions too, and every answer ends with EOS.
    """
    return words.encode_turns([turn for part in exchanges(turns) for turn in part])[0]


def windows(words: Words, turns: list[dict], length: int) -> Iterator[Chat]:
    """A dialogue as chats of at most `length` tokens, each of as many whole exchanges as fit.

    An exchange that does not fit alone is cut, or left out where not even half of the length would be
    left for its answer.
    """
    window: list[dict] = []
    fitting: Chat | None = None
    for exchange in exchanges(turns):
        chat = words.encode_turns(window + exchange)
        if len(chat[0]) <= length:
            window, fitting = window + exchange, chat
            continue
        if fitting is not None:
            yield fitting
            chat = words.encode_turns(exchange)
        window, fitting = exchange, chat
        if len(chat[0]) > length:
            tokens, answer = chat
            if any(answer[: length // 2]):
                yield tokens[:length], answer[:length]
            window, fitting = [], None
    if fitting is not None:
        yield fitting


def pair_rows(
    words: Words, pair: dict, context: int, dtype: type
) -> list[dict[str, np.ndarray]] | None:
    """The rows of the chosen and the rejected answer, or None where one does not fit.

    Where the pair says `"ended": false`, the rejected answer never came to an end: its row has none.
    """
    rows = []
    for part in ("chosen", "rejected"):
        answer = {"role": "assistant", "text": pair[part]}
        tokens, counts = words.encode_turns([*pair["turns"], answer])
        if part == "rejected" and not pair.get("ended", True):
            tokens, counts = tokens[:-1], counts[:-1]
        if len(tokens) > context + 1:
            return None
        start = len(counts)
        while start > 0 and counts[start - 1]:
            start -= 1  # earlier answers of the dialogue are part of the question
        row = {"tokens": np.zeros(context + 1, dtype), "counted": np.zeros(context + 1, np.bool_)}
        row["tokens"][: len(tokens)] = tokens
        row["counted"][start : len(tokens)] = True
        rows.append(row)
    return rows


def token_type(words: Words) -> type:
    return np.uint16 if words.vocab_size <= 1 << 16 else np.uint32
