"""Tokenizer: byte-fallback BPE in a strict subset of the Hugging Face file format.

Ids: 0 <unk>, 1 <s>, 2 </s>, 3..258 the 256 bytes, then the learned pieces. Text never becomes a
special token and nothing is put in front of it, so `decode(encode(text)) == text` for every text
without U+2581 (which stands for the space).
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import Split
from tokenizers.trainers import BpeTrainer

SPACE = "▁"
SPECIAL = ("<unk>", "<s>", "</s>")
UNK, BOS, EOS = 0, 1, 2
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
HAN = "一-鿿"
PATTERN = f"{SPACE}?[A-Za-z]+|[0-9]|[{HAN}]+|[^A-Za-z0-9{HAN}]"
MAX_CHARS = 12_000_000
SMALLEST = len(SPECIAL) + len(BYTES) + 64


def _blank(vocab: dict[str, int], merges: list[tuple[str, str]]) -> dict:
    """The file as a dict, all parts but vocabulary and merges being fixed."""
    added = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": piece, **added} for i, piece in enumerate(SPECIAL)],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": PATTERN},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": SPECIAL[UNK],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(pair) for pair in merges],
        },
    }


def commonest(texts: Sequence[str], most: int) -> list[str]:
    """The `most` commonest characters, by code point where they are equally common."""
    counts = Counter(chain.from_iterable(text.replace(" ", SPACE) for text in texts))
    return sorted(sorted(counts, key=lambda c: (-counts[c], c))[:most])


def train(texts: Iterable[str], vocab: int, alphabet: int) -> dict:
    """Learn `vocab` pieces (specials and bytes included) from texts; the tokenizer.json as a dict.

    At most `alphabet` single characters become pieces, the commonest; others are spelt in bytes.
    Raises ValueError when `vocab` leaves no room beside specials and bytes.
    """
    if vocab < SMALLEST:
        raise ValueError(f"vocab {vocab} is too small: at least {SMALLEST}")
    learner = Tokenizer(BPE(unk_token=SPECIAL[UNK]))
    learner.normalizer = Replace(" ", SPACE)
    learner.pre_tokenizer = Split(Regex(PATTERN), "isolated", False)
    room = vocab - len(BYTES)
    texts = list(texts)
    letters = commonest(texts, min(alphabet, room // 2))
    trainer = BpeTrainer(
        vocab_size=room,
        special_tokens=list(SPECIAL),
        # Left to itself the trainer breaks ties in another order every time.
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        max_token_length=10,
        min_frequency=2,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    ranked = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    pieces = [piece for piece in ranked if piece not in SPECIAL]
    return _blank({piece: i for i, piece in enumerate((*SPECIAL, *BYTES, *pieces))}, merges)


class PedTokenizer:
    """Reads tokenizer.json; text to ids, ids to text, and turns to ids with a loss mask."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True
        self.vocab_size = tokenizer.get_vocab_size()
        self.eos = EOS

    @classmethod
    def load(cls, folder: Path | str) -> "PedTokenizer":
        """From a folder that holds tokenizer.json. Raises FileNotFoundError when it does not."""
        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(path)
        return cls(Tokenizer.from_file(str(path)))

    def encode(self, text: str) -> list[int]:
        """Ids of a text; never 0, 1 or 2, whatever the text says."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, in parallel."""
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are left out."""
        return self._tokenizer.decode(
            [i for i in ids if i >= len(SPECIAL)], skip_special_tokens=False
        )

    def encode_turns(
        self, turns: Sequence[dict[str, str]], system: str = ""
    ) -> tuple[list[int], list[int]]:
        """Ids and loss mask (0 or 1 per id) of a dialogue in the chat template.

        Every piece is tokenised apart: `system \\n`, then per turn `Human: ` content
        `\\nAssistant: ` or content EOS, with `\\n` before every user turn but the first. The mask
        is 1 on the assistant's content and its EOS. A dialogue that ends with a user turn is a
        prompt: its ids end with `\\nAssistant: `. Raises ValueError for an unknown role.
        """
        ids: list[int] = []
        mask: list[int] = []

        def put(new: list[int], loss: int) -> None:
            ids.extend(new)
            mask.extend([loss] * len(new))

        if system:
            put(self.encode(system), 0)
            put(self.encode("\n"), 0)
        asked = False
        for turn in turns:
            if turn["role"] == "user":
                put(self.encode("\n") if asked else [], 0)
                put(self.encode("Human: "), 0)
                put(self.encode(turn["text"]), 0)
                put(self.encode("\nAssistant: "), 0)
                asked = True
            elif turn["role"] == "assistant":
                put(self.encode(turn["text"]), 1)
                put([self.eos], 1)
            else:
                raise ValueError(f"unknown role {turn['role']!r}")
        return ids, mask


def corpus_texts(folder: Path, max_chars: int, split: str = "train") -> Iterator[str]:
    """Chat turns of one split, and for training the plain text too, up to about `max_chars`.

    Chats come first: they are what the model will speak.
    """
    left = max_chars
    with (folder / "chat.jsonl").open(encoding="utf-8") as file:
        for line in file:
            chat = json.loads(line)
            if chat["split"] != split or left <= 0:
                continue
            for turn in chat["turns"]:
                left -= len(turn["text"])
                yield turn["text"]
    if split != "train":
        return
    yield from ["Human: ", "\nAssistant: "] * 200
    with (folder / "text.jsonl").open(encoding="utf-8") as file:
        for line in file:
            if left <= 0:
                return
            text = json.loads(line)["text"]
            left -= len(text)
            yield text


def chars_per_token(tokenizer: PedTokenizer, texts: Sequence[str]) -> float:
    """How many characters one token stands for, on average."""
    tokens = sum(len(ids) for ids in tokenizer.encode_many(texts))
    return sum(len(text) for text in texts) / max(1, tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tokenizer on a corpus.")
    parser.add_argument(
        "--corpus", type=Path, required=True, help="folder with text.jsonl and chat.jsonl"
    )
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--max-chars", type=int, default=MAX_CHARS)
    parser.add_argument("--alphabet", type=int, default=3500, help="most single characters kept")
    options = parser.parse_args()
    model = train(corpus_texts(options.corpus, options.max_chars), options.vocab, options.alphabet)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "tokenizer.json"
    path.write_text(json.dumps(model, ensure_ascii=False, indent=1), "utf-8")
    tokenizer = PedTokenizer.load(options.out)
    valid = list(corpus_texts(options.corpus, options.max_chars, "valid"))
    ratio = chars_per_token(tokenizer, valid)
    print(f"{path}: {tokenizer.vocab_size} pieces, {ratio:.3f} chars/token on valid")


if __name__ == "__main__":
    main()
