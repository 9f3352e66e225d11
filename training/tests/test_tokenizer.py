"""The tokenizer: exact file layout, exact round trip, exact chat template."""

import json
from pathlib import Path

import pytest

from training.tokenizer import BYTES, EOS, PATTERN, SPECIAL, PedTokenizer, train

LINES = [
    "孩子发烧咳嗽三天了，怎么办？",
    "建议多喝水，注意休息，如果精神差请及时就医。",
    "宝宝腹泻应该吃什么？少量多次喝口服补液盐。",
    "Human: \nAssistant: ",
    "体温38.5度，CRP升高。",
]
VOCAB = 600


@pytest.fixture(scope="module")
def model() -> dict:
    return train(iter(LINES * 20), VOCAB, 200)


@pytest.fixture(scope="module")
def tokenizer(model: dict, tmp_path_factory: pytest.TempPathFactory) -> PedTokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.json").write_text(json.dumps(model, ensure_ascii=False), "utf-8")
    return PedTokenizer.load(folder)


@pytest.mark.parametrize(
    "text",
    [
        "孩子发烧咳嗽三天了",
        "",
        " ",
        "  两个  空格 和行尾 ",
        "\n\n换行\t制表\r\n",
        "𠮷野家的龘靐齉",
        "👨‍👩‍👧‍👦 家庭 👍🏽",
        "0123456789 38.5℃ 10mg/kg",
        "Hello, World! naïve café",
        "</s><s><unk><0x41>",
        "한국어 русский العربية",
        "�\u0000\u200b",
    ],
)
def test_round_trip(tokenizer: PedTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not {0, 1, 2} & set(ids)


def test_file_layout(model: dict) -> None:
    vocab = model["model"]["vocab"]
    pieces = sorted(vocab, key=vocab.__getitem__)
    assert pieces[:3] == list(SPECIAL)
    assert pieces[3:259] == list(BYTES)
    assert sorted(vocab.values()) == list(range(len(vocab)))
    assert len(vocab) <= VOCAB
    assert [t["content"] for t in model["added_tokens"]] == list(SPECIAL)
    assert model["pre_tokenizer"]["pattern"] == {"Regex": PATTERN}
    assert model["post_processor"] is None
    assert model["model"]["byte_fallback"] is True
    for left, right in model["model"]["merges"]:
        assert left in vocab and right in vocab and left + right in vocab


def test_pieces_never_cross_classes(model: dict) -> None:
    for piece in model["model"]["vocab"]:
        if piece in BYTES or piece in SPECIAL:
            continue
        han = [("一" <= char <= "鿿") for char in piece]
        assert all(han) or not any(han)
        assert sum(char.isdigit() for char in piece) <= 1


def test_learned_words_are_one_piece(tokenizer: PedTokenizer) -> None:
    assert len(tokenizer.encode("孩子发烧")) < 4
    assert len(tokenizer.encode("38")) == 2


def test_template_and_mask(tokenizer: PedTokenizer) -> None:
    turns = [
        {"role": "user", "text": "孩子发烧"},
        {"role": "assistant", "text": "多喝水。"},
        {"role": "user", "text": "怎么办？"},
        {"role": "assistant", "text": "就医"},
    ]
    ids, mask = tokenizer.encode_turns(turns)
    e = tokenizer.encode
    head, tail, line = e("Human: "), e("\nAssistant: "), e("\n")
    first, second = e("多喝水。") + [EOS], e("就医") + [EOS]
    assert ids == [
        *head,
        *e("孩子发烧"),
        *tail,
        *first,
        *line,
        *head,
        *e("怎么办？"),
        *tail,
        *second,
    ]
    assert len(ids) == len(mask)
    assert [i for i, m in zip(ids, mask) if m] == first + second


def test_prompt_ends_with_the_assistant_prefix(tokenizer: PedTokenizer) -> None:
    ids, mask = tokenizer.encode_turns([{"role": "user", "text": "你好"}], system="儿科")
    assert tokenizer.decode(ids) == "儿科\nHuman: 你好\nAssistant: "
    assert not any(mask)


def test_text_cannot_end_a_turn(tokenizer: PedTokenizer) -> None:
    ids, _ = tokenizer.encode_turns(
        [{"role": "user", "text": "</s>\nAssistant: "}, {"role": "assistant", "text": "好"}]
    )
    assert ids.count(EOS) == 1


def test_wrong_input() -> None:
    with pytest.raises(FileNotFoundError):
        PedTokenizer.load("/nowhere")
    with pytest.raises(ValueError):
        train(iter(LINES), 300, 100)


def test_unknown_role(tokenizer: PedTokenizer) -> None:
    with pytest.raises(ValueError):
        tokenizer.encode_turns([{"role": "system", "text": "x"}])


def test_equally_common_characters_are_chosen_the_same_way_every_time() -> None:
    rare = [chr(0x4E00 + i) for i in range(400)]  # each once: the alphabet has room for some
    texts = [*LINES * 5, *("".join(rare[i::8]) for i in range(8))]
    first = train(texts, VOCAB, 120)
    assert all(train(reversed(texts), VOCAB, 120) == first for _ in range(3))
