"""Tokenizers of base models, with the methods of `PedTokenizer`.

Whatever a text says, its ids are those of plain text: special tokens come from `encode_turns` only.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from training.models.weights import BadCheckpoint
from training.tokenizer import SPECIAL, PedTokenizer


class HfTokenizer(PedTokenizer):
    """A byte-level or byte-fallback BPE of the Hugging Face format (Llama, Qwen)."""

    def __init__(self, tokenizer: Tokenizer, special: frozenset[int], eos: int) -> None:
        """special: ids that are left out of decoded text; text must not become one of them."""
        tokenizer.encode_special_tokens = True
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._special = special
        self.vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.eos = eos

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are left out."""
        kept = [i for i in ids if i not in self._special]
        return self._tokenizer.decode(kept, skip_special_tokens=False)


class PieceTokenizer(PedTokenizer):
    """A SentencePiece model with the end of a text, as Baichuan2's `tokenizer.model`."""

    def __init__(self, pieces: Any) -> None:
        """pieces: a sentencepiece.SentencePieceProcessor."""
        self._pieces = pieces
        self.vocab_size = pieces.vocab_size()
        self.eos = pieces.eos_id()
        self._special = frozenset(
            i for i in range(self.vocab_size) if pieces.is_control(i) or pieces.is_unknown(i)
        )

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without any that begin or end it."""
        return self._pieces.encode(text)

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, in parallel."""
        return self._pieces.encode(list(texts)) if texts else []

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are left out."""
        return self._pieces.decode([i for i in ids if i not in self._special])


def load_tokenizer(folder: Path | str) -> PedTokenizer:
    """The tokenizer of a checkpoint folder: tokenizer.json, or a SentencePiece tokenizer.model.

    Raises FileNotFoundError when there is neither, BadCheckpoint for one that is not supported, and
    ImportError when a tokenizer.model is there but sentencepiece is not installed.
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        return _from_json(folder)
    if (folder / "tokenizer.model").is_file():
        return _from_pieces(folder / "tokenizer.model")
    raise FileNotFoundError(f"{folder}: neither tokenizer.json nor tokenizer.model")


def _from_json(folder: Path) -> PedTokenizer:
    path = folder / "tokenizer.json"
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        model, added = made["model"], made.get("added_tokens") or []
    except (ValueError, KeyError, TypeError) as error:
        raise BadCheckpoint(f"{path}: not a tokenizer ({error!r})") from error
    if [(token["id"], token["content"]) for token in added] == list(enumerate(SPECIAL)) and (
        (made.get("normalizer") or {}).get("type") == "Replace"
    ):
        return PedTokenizer.load(folder)
    if model.get("type") != "BPE":
        raise BadCheckpoint(f"{path}: a {model.get('type')} model, BPE is supported")
    if model.get("ignore_merges") and any(token["content"] in model["vocab"] for token in added):
        raise BadCheckpoint(f"{path}: its special tokens can be spelt by text")
    # only those marked special can be kept out of text; the file marks some of them so
    for token in added:
        token["special"] = True
    special = frozenset(token["id"] for token in added)
    tokenizer = Tokenizer.from_str(json.dumps(made))
    return HfTokenizer(tokenizer, special, _end_of(folder, tokenizer))


def _end_of(folder: Path, tokenizer: Tokenizer) -> int:
    """The id that ends an answer: by name in tokenizer_config.json, else by id in config.json."""
    path = folder / "tokenizer_config.json"
    named = (
        json.loads(path.read_text(encoding="utf-8")).get("eos_token") if path.is_file() else None
    )
    if isinstance(named, dict):
        named = named.get("content")
    if named is not None:
        number = tokenizer.token_to_id(named)
        if number is None:
            raise BadCheckpoint(f"{path}: eos_token {named!r} is not in tokenizer.json")
        return number
    path = folder / "config.json"
    said = (
        json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    )
    if isinstance(said, list) and said:
        said = said[0]
    if not isinstance(said, int):
        raise BadCheckpoint(
            f"{folder}: neither tokenizer_config.json nor config.json has an eos token"
        )
    return said


def _from_pieces(path: Path) -> PieceTokenizer:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ImportError(f"{path} needs the package sentencepiece: pip install it") from error
    pieces = SentencePieceProcessor()
    try:
        pieces.Load(str(path))
    except (OSError, RuntimeError) as error:
        hint = "cut short, or a pointer of Git LFS?"
        raise BadCheckpoint(f"{path}: not a SentencePiece model ({error}): {hint}") from error
    ids = (pieces.unk_id(), pieces.bos_id(), pieces.eos_id())
    if ids != (0, 1, 2):
        raise BadCheckpoint(f"{path}: <unk>, <s>, </s> are {ids}, expected (0, 1, 2)")
    return PieceTokenizer(pieces)
