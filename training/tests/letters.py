"""A tokenizer of one token per character, dialogues for it, and packed sets as arrays."""

import numpy as np


class Letters:
    """A tokenizer of one token per character."""

    eos = 2
    vocab_size = 70_000

    def encode_many(self, texts):
        return [[ord(c) for c in text] for text in texts]

    def encode_turns(self, turns):
        tokens, counts = [], []
        for turn in turns:
            answer = turn["role"] == "assistant"
            new = [ord(c) for c in turn["text"]] + ([2] if answer else [])
            tokens += new
            counts += [int(answer)] * len(new)
        return tokens, counts


def talk(*texts: str) -> list[dict]:
    return [{"role": ("user", "assistant")[i % 2], "text": text} for i, text in enumerate(texts)]


def set_of(folder, name: str, part: str = "tokens") -> np.ndarray:
    return np.load(folder / f"{name}.{part}.npy")
