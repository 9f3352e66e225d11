"""Writes cases.json: what the `tokenizers` library makes of tricky texts with tokenizer.json.

Run it with the training environment: .venv/bin/python src/text/testdata/make_cases.py
"""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).parent

TEXTS = [
    "",
    " ",
    "   a",
    "\n\n \t\r\n",
    "宝宝发烧38.5度，精神还好，需要去医院吗？",
    "体温 39.2℃，体重12kg",
    "𠮷野家的𠮷",
    "㐀䶵龘靐齉爩",
    "👨‍👩‍👧‍👦👶🏽❤️🇨🇳",
    "1234567890",
    "Human: 你好\nAssistant: ",
    "</s>",
    "<s>x</s><unk>",
    "<0x41><0xE4>",
    "The child has a fever",
    "thechild  has   a fever ",
    "▁▁the ▁a",
    "é ü ñ Ä café naïve",
    "ＡＢＣ１２３，。！？（）０９ａｚ",
    "\u3000全角空格\u3000",
    "\x00\x01\x1f\x7f\u0080\u009f",
    "\u200b\u200d\ufeff\u2028\u2029",
    "e\u0301a\u0308",
    "한국어 テスト ひらがな العربية עברית",
    "constructor prototype __proto__ toString",
    "\U0010ffff\ue000",
    "mg/kg 10-15 3.5～4.0mmol/L",
    "\"quoted\" 'it''s' \\n {json: [1,2]}",
    "一鿿㿿ꀀ",
    "x" * 300,
    "宝宝" * 300,
    "发烧咳嗽" * 64 + "\n" + "🤒" * 20,
]


def mixed(rng: random.Random, pieces: list[str]) -> str:
    """A text of random pieces and characters from all over Unicode."""
    ranges = [(32, 126), (0x4E00, 0x9FFF), (0x3000, 0x30FF), (0x1F300, 0x1F6FF), (0x20000, 0x2A6DF)]
    words = [" ", "  ", "\n", "▁", "the", "fever", "</s>", "<0x41>"]
    parts: list[str] = []
    for _ in range(rng.randint(1, 50)):
        kind = rng.random()
        if kind < 0.6:
            parts.append(rng.choice(pieces))
        elif kind < 0.85:
            parts.append(chr(rng.randint(*rng.choice(ranges))))
        else:
            parts.append(rng.choice(words))
    return "".join(parts)


def main() -> None:
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # text never becomes a special token
    rng = random.Random(7)
    vocab = tokenizer.get_vocab(with_added_tokens=False)
    pieces = sorted((text for text, token in vocab.items() if token >= 259), key=vocab.__getitem__)
    texts = TEXTS + [mixed(rng, pieces) for _ in range(30)]
    encode = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        encode.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids)})
    decode = []
    for _ in range(20):  # ids that no text gives, with special tokens among them
        ids = [rng.randrange(259, len(vocab)) for _ in range(12)]
        ids.insert(4, 2)
        ids.insert(0, 1)
        decode.append({"ids": ids, "decoded": tokenizer.decode(ids)})
    cases = json.dumps({"encode": encode, "decode": decode}, ensure_ascii=False, separators=(",", ":"))
    (HERE / "cases.json").write_text(cases + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
