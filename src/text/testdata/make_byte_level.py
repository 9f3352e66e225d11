"""Writes byte-qwen2.json and byte-llama3.json, small tokenizers with the settings of the published
ones, and byte-cases.json: what the `tokenizers` library makes of texts with them.

Run it with the training environment: .venv/bin/python src/text/testdata/make_byte_level.py
"""

import base64
import json
import random
import zlib
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

HERE = Path(__file__).parent
SAMPLE = HERE.parents[2] / "training" / "sample"
FILES = [
    "SupritYoung__Zhongjing/data/huatuo26M.json",
    "SCIR-HI__Huatuo-Llama-Med-Chinese/data/llama_data.json",
    "DreamBlooms__ChinaXiv/md/ChinaXiv-201712.00490V1.md",
    "lemuria-wchen__DxFormer/data/mz10/train_set.json",
    "hiyouga__LLaMA-Factory/data/alpaca_zh_demo.json",
    "f-window__DialMed/data/dataset/dev.txt",
]
CHUNK = 32  # characters of a line
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    *["", " ", "   a", "\n\n \t\r\n", "a  \n\n  b \n", "  \n", "x   ", "\r\r\n x", "  中  文  "],
    "宝宝发烧38.5度，精神还好，需要去医院吗？",
    "1234567890 12 345 6 ٣٤٥ ⅷ½ 一二三 １２３４",
    "I'm you're HE'LL they've it's 'D 'ſ 'ſt don'T 'rE 'lL 'L'L' ''s",
    "don't 's's 'S! x's\n'm",
    "𠮷野家的𠮷 㐀䶵龘靐齉爩",
    "👨‍👩‍👧‍👦👶🏽❤️🇨🇳 🤒🤒",
    "<|im_start|>user\n<|endoftext|><|im_end|>",
    "<think>x</think> < think> <think><think>",
    "a\u0085b\u00a0c\u1680d\u2003e\u2028f\u202fg\u205fh\u3000i\ufeffj\u200bk\u180el",
    "\u0085 \u0085\n\ufeff \ufeffx \u200d\u200d",
    "e\u0301a\u0308 \u212b \u1e9b\u0323 가 \uf900 \u2126",
    "\x00\x01\x1c\x1d\x1e\x1f\x7f\u0080\u009f\x0b\x0c",
    "\ufffd\ufffd \U0010ffff\ue000\ufdd0",
    "한국어 テスト ひらがな العربية עברית हिन्दी ไทย",
    "Ġ Ċ ĉ Ā ¡ÿ Ã¤½",
    "!!??..\n\n,,\r\n -- \n",
    "x" * 300 + " " * 130 + "y",
    "宝宝" * 200,
]


def published(digits: str, *, nfc: bool, whole: bool, trim: bool) -> Tokenizer:
    """An untrained tokenizer as Llama 3 or Qwen2 has it."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT.replace("DIGITS", digits)), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    if whole:
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.decoder = decoders.ByteLevel(
            add_prefix_space=False, trim_offsets=False, use_regex=False
        )
    return tokenizer


def train(tokenizer: Tokenizer, lines: list[str], special: list[str], plain: list[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in plain])


def sample_lines() -> list[str]:
    """Chinese medical text, cut into lines of CHUNK characters whatever stands there."""
    lines = []
    for name in FILES:
        text = (SAMPLE / name).read_text(encoding="utf-8")
        lines += [text[at : at + CHUNK] for at in range(0, len(text), CHUNK)]
    return lines


def mixed(rng: random.Random) -> str:
    """Characters from all over Unicode, assigned by version 14, and pieces that meet badly."""
    ranges = [(0, 127), (32, 126), (128, 0x2FF), (0x370, 0x3FF), (0x600, 0x6FF), (0x2000, 0x206F)]
    ranges += [(0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xFF00, 0xFFEF), (0x1F300, 0x1F6FF)]
    ranges += [(0x20000, 0x2A6DF), (0xAC00, 0xD7A3), (0x300, 0x36F)]
    words = [
        " ",
        "  ",
        "\n",
        " \n",
        "'s",
        "'LL",
        "fever",
        "发烧",
        "<think>",
        "<|im_end|>",
        "\r\n",
        "12",
    ]
    parts = []
    for _ in range(rng.randint(1, 30)):
        if rng.random() < 0.4:
            parts.append(rng.choice(words))
        else:
            parts.append(chr(rng.randint(*rng.choice(ranges))))
    return "".join(parts)


def noise(rng: random.Random) -> str:
    """Random bytes, and text with a byte changed, as a lenient reader sees them."""
    data = bytearray(rng.randbytes(rng.randint(1, 40)))
    if rng.random() < 0.5:
        data = bytearray("宝宝发烧38.5度👶".encode())
        for _ in range(2):
            data[rng.randrange(len(data))] = rng.randrange(256)
    return data.decode("utf-8", errors="replace")


def checksum(ids: list[int]) -> bytes:
    """Of ids as little-endian numbers of two bytes."""
    return zlib.crc32(b"".join(i.to_bytes(2, "little") for i in ids)).to_bytes(4, "little")


def main() -> None:
    lines = sample_lines()
    rng = random.Random(11)
    texts = TEXTS + [mixed(rng) for _ in range(300)] + [noise(rng) for _ in range(200)]
    cases = {"files": FILES, "chunk": CHUNK, "lines": len(lines), "texts": texts, "tokenizers": {}}
    qwen = published(r"\p{N}", nfc=True, whole=False, trim=False)
    train(qwen, lines, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ["<think>", "</think>"])
    qwen.post_processor = processors.ByteLevel(
        add_prefix_space=False, trim_offsets=False, use_regex=False
    )
    llama = published(r"\p{N}{1,3}", nfc=False, whole=True, trim=True)
    train(llama, lines, ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], [])
    begin = llama.token_to_id("<|begin_of_text|>")
    template = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
        special_tokens=[("<|begin_of_text|>", begin)],
    )
    llama.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    for name, tokenizer in (("qwen2", qwen), ("llama3", llama)):
        tokenizer.save(str(HERE / f"byte-{name}.json"), pretty=False)
        tokenizer.encode_special_tokens = True  # text never becomes a special token
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        sums = b"".join(
            checksum(encoding.ids)
            for encoding in tokenizer.encode_batch(lines, add_special_tokens=False)
        )
        tokenizer.encode_special_tokens = False
        turn = "<|im_start|>user\n宝宝" if name == "qwen2" else "<|begin_of_text|>user\n宝宝"
        cases["tokenizers"][name] = {
            "ids": ids,
            "decoded": [tokenizer.decode(one) for one in ids],
            "sums": base64.b64encode(sums).decode(),
            "turn": turn,
            "turnIds": tokenizer.encode(turn, add_special_tokens=False).ids,
        }
    text = json.dumps(cases, ensure_ascii=False, separators=(",", ":"))
    (HERE / "byte-cases.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
