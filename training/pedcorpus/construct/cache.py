"""Answers of the endpoint by the hash of their request, kept in one sqlite file."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock


@dataclass(frozen=True)
class Reply:
    """What came back: the text, and the tokens that were counted (0 when not told)."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0


def key_of_request(request: Mapping[str, object], attempt: int) -> str:
    """SHA-256 of everything that decides an answer: model, messages, sampling and attempt."""
    text = json.dumps([dict(request), attempt], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """Safe to use from several threads; every answer is on disk before `put` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        try:
            self._file = sqlite3.connect(path, check_same_thread=False)
            self._file.execute("pragma journal_mode=wal")
            self._file.execute(
                "create table if not exists replies"
                " (key text primary key, text text, tokens_in int, tokens_out int)"
            )
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path}: not a cache file ({error}); name another --cache") from error

    def get(self, key: str) -> Reply | None:
        """The answer kept under a key."""
        with self._lock:
            row = self._file.execute(
                "select text, tokens_in, tokens_out from replies where key = ?", (key,)
            ).fetchone()
        return Reply(*row) if row else None

    def put(self, key: str, reply: Reply) -> None:
        """Keep an answer."""
        with self._lock, self._file:
            self._file.execute(
                "insert or replace into replies values (?, ?, ?, ?)",
                (key, reply.text, reply.tokens_in, reply.tokens_out),
            )

    def __len__(self) -> int:
        with self._lock:
            return self._file.execute("select count(*) from replies").fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
