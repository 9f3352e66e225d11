"""Baichuan2's kind of tokenizer, against sentencepiece itself."""

import builtins
import random

import pytest

from training.models import load_tokenizer
from training.models.weights import BadCheckpoint

spm = pytest.importorskip("sentencepiece")
LINES = [
    "宝宝发热三天怎么办？多喝水，注意休息。",
    "小儿肺炎的症状有咳嗽、发热、气促。",
    "体温39.5℃，脉搏120次，体重12.5kg。",
    "The child has a fever and a cough.  Human: Assistant: ",
    "腹泻2024年10月，服用口服补液盐。",
]


def build(folder, **changes) -> None:
    flags = {
        "model_type": "bpe",
        "vocab_size": 420,
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_digits": True,
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "character_coverage": 0.99,
        "minloglevel": 2,
    } | changes
    spm.SentencePieceTrainer.Train(
        sentence_iterator=iter(LINES * 20), model_prefix=str(folder / "tokenizer"), **flags
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pieces")
    build(made)
    return made


def noise() -> list[str]:
    """Bytes by chance, read as UTF-8 with marks where they are none."""
    rng = random.Random(0)
    return [rng.randbytes(40).decode("utf-8", errors="replace") for _ in range(30)]


TEXTS = [
    *LINES,
    "",
    " 前面有空格",
    "后面有空格  ",
    "a   b\n\n\tc\r\n",
    "👶🏻👨‍👩‍👧 生僻字：龘𠮷",
    "3.14159 ２０２４年 ⅷ",
    "<s>不是特殊</s><unk><pad>[INST]",
    "\x00\x07\u200b\ufeff",
    *noise(),
]


def test_ids_are_sentencepieces_and_decode_to_the_text(folder):
    words = load_tokenizer(folder)
    oracle = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert words.vocab_size == 420 and words.eos == 2
    for text in TEXTS:
        ids = words.encode(text)
        assert ids == oracle.EncodeAsIds(text)
        assert not {0, 1, 2} & set(ids), text
        assert words.decode(ids) == text
    assert words.encode_many(TEXTS) == [words.encode(text) for text in TEXTS]
    assert words.encode_many([]) == []


def test_digits_stand_alone(folder):
    words = load_tokenizer(folder)
    assert len(words.encode("2024")) == 4


def test_turns_have_the_template_of_the_project(folder):
    words = load_tokenizer(folder)
    turns = [{"role": "user", "text": "发热</s>"}, {"role": "assistant", "text": "多喝水。"}]
    ids, mask = words.encode_turns(turns)
    question = [i for p in ("Human: ", "发热</s>", "\nAssistant: ") for i in words.encode(p)]
    answer = [*words.encode("多喝水。"), 2]
    assert ids == question + answer and ids.count(2) == 1
    assert mask == [0] * len(question) + [1] * len(answer)
    assert words.decode(ids) == "Human: 发热</s>\nAssistant: 多喝水。"


def test_models_with_other_special_ids_and_broken_ones_are_refused(tmp_path):
    build(tmp_path, unk_id=0, bos_id=-1, eos_id=1)
    with pytest.raises(BadCheckpoint, match=r"<unk>, <s>, </s> are \(0, -1, 1\)"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(BadCheckpoint, match="tokenizer.model: not a SentencePiece model"):
        load_tokenizer(tmp_path)


def test_a_missing_library_is_named(folder, monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "sentencepiece":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match="needs the package sentencepiece"):
        load_tokenizer(folder)
