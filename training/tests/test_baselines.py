"""BM25 and random training answers, and what is counted in an answer without a reference."""

import pytest

from training.metrics.answers import Answer, answer_items, loops, text_counts
from training.metrics.baselines import TrainingAnswers, search_words, training_answers
from training.metrics.items import Item, choose, read_items
from training.package import load_package
from training.tests.testing import FIXTURES, TASKS, write_chats


def item(name: str, question: str, answer: str) -> Item:
    turns = ({"role": "user", "text": question}, {"role": "assistant", "text": answer})
    return Item(name, "medkqa", False, turns)


POOL = TrainingAnswers(
    [
        item("1", "宝宝腹泻怎么办？", "补液。"),
        item("2", "孩子得了手足口病，怎么护理？", "隔离。"),
        item("3", "新生儿黄疸需要治疗吗？", "看数值。"),
    ]
)


def test_bm25_finds_the_answer_of_the_nearest_question():
    asked = [item("a", "手足口病要隔离吗？", ""), item("b", "黄疸高吗？新生儿。", "")]
    assert POOL.nearest(asked) == ["隔离。", "看数值。"]
    assert POOL.nearest([]) == []
    assert len(POOL.nearest([item("c", "？", "")])) == 1


def test_random_answers_depend_on_the_item_only():
    drawn = [POOL.drawn(item(str(i), "问", ""), 5) for i in range(40)]
    assert drawn[0] == POOL.drawn(item("0", "别的", ""), 5)
    assert {answer for row in drawn for answer in row} == {"补液。", "隔离。", "看数值。"}


def test_search_words_are_words():
    assert search_words("宝宝，发热 3 天！") == ["宝宝", "发热", "3", "天"]


def test_training_answers_come_from_training_only(tmp_path):
    write_chats(tmp_path)
    pools = training_answers(tmp_path, TASKS)
    assert set(pools) == set(TASKS)
    for task, pool in pools.items():
        assert len(pool.items) == 8
        assert all(i.task == task and "-train-" in i.id for i in pool.items)
    with pytest.raises(ValueError, match="no training answers"):
        training_answers(tmp_path, ["other"])


def test_loops_are_eight_characters_three_times():
    assert loops("注意多喝水多休息。" * 3) and not loops("注意多喝水多休息。" * 2)
    assert loops("注意 多喝水\n多休息。" * 3)
    assert not loops("多喝水。" * 2 + "按时复诊。") and not loops("")
    assert loops("啊" * 10) and not loops("啊" * 9)


def test_counts_of_answers():
    one = Answer(item("1", "问", "参考答案"), "好的。", True)
    two = Answer(item("2", "问", "参考答案" * 2), "每次服用布洛芬 5 ml，一日三次。", False)
    found = text_counts([one, two])
    assert found["end_rate"] == 0.5 and found["loop_rate"] == 0
    assert found["length"] == (3 + len(two.text)) / 2 and found["reference_length"] == 6
    assert found["length_ratio"] == pytest.approx(found["length"] / 6)
    assert found["doses"] >= 1 and found["answers_with_doses"] == 1
    assert text_counts([])["answers"] == 0


def test_answers_are_those_of_the_model_alone(tmp_path):
    write_chats(tmp_path)
    package = load_package(FIXTURES / "tiny")
    items = choose(read_items(tmp_path, TASKS, "test"), "medkqa", False)
    made = answer_items(package.model, package.tokenizer, items, 0, 24, 1.0)
    assert [answer.item for answer in made] == items
    for answer in made:
        prompt = package.tokenizer.encode_turns(answer.item.prompt)[0]
        tokens, _ = package.model.generate(prompt, 24, 0)
        assert answer.text == package.tokenizer.decode(tokens).replace("\ufffd", "")
        assert answer.ended is (tokens[-1] == package.tokenizer.eos)
    penalised = answer_items(package.model, package.tokenizer, items, 0, 24, 1.5)
    assert [a.text for a in penalised] != [a.text for a in made]
    assert answer_items(package.model, package.tokenizer, items, 0, 509, 1.0) == []
