"""Likelihood of answers and options, against the plain sums over one sequence at a time."""

import math

import numpy as np
import pytest
import torch

from training.metrics.choice import Question, measure_exam, option_scores, read_exam
from training.metrics.items import choose, fitting_prompt, read_items, to_item, windows
from training.metrics.likelihood import divergence, score_items
from training.package import load_package
from training.tests.testing import FIXTURES, TASKS, write_chats


@pytest.fixture(scope="module")
def package():
    return load_package(FIXTURES / "tiny")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_chats(folder)
    return folder


@torch.no_grad()
def plain_nats(package, ids: list[int], mask: list[int], task: int) -> float:
    logits = package.model(torch.tensor([ids[:-1]]), tasks=torch.tensor([task]))[0].double()
    logs = logits.log_softmax(-1)
    return -sum(float(logs[i, ids[i + 1]]) for i in range(len(ids) - 1) if mask[i + 1])


def test_bits_per_character_are_nats_over_characters(package, corpus):
    items = read_items(corpus, TASKS, "test")
    human = choose(items, "evidiag", False)
    assert len(human) == 4 and {len(item.turns) for item in human} == {2, 4}
    scores = score_items(package.model, package.tokenizer, human, 1)
    for i, item in enumerate(human):
        ids, mask = package.tokenizer.encode_turns(item.turns)
        assert scores.nats[i] == pytest.approx(plain_nats(package, ids, mask, 1), abs=1e-3)
        assert scores.tokens[i] == sum(mask)
        said = [turn["text"] for turn in item.turns if turn["role"] == "assistant"]
        assert scores.characters[i] == len("".join(said))
    bits = scores.nats.sum() / math.log(2) / scores.characters.sum()
    assert scores.bits_per_character == pytest.approx(bits)
    other = score_items(package.model, package.tokenizer, human, 0)
    assert not np.allclose(other.nats, scores.nats, atol=1e-3)


def test_long_dialogues_are_cut_into_windows_that_count_every_answer_once(package):
    turns = []
    for i in range(6):
        turns.append({"role": "user", "text": f"第{i}个问题" * (i + 1)})
        turns.append({"role": "assistant", "text": f"回答{i}号"})
    words = package.tokenizer
    whole = words.encode_turns(turns)
    assert windows(words, turns, 1000) == [whole]
    capacity = len(whole[0]) // 2
    cut = windows(words, turns, capacity)
    assert len(cut) > 1 and all(len(ids) <= capacity + 1 for ids, _ in cut)
    counted = [ids[i] for ids, mask in cut for i in range(len(ids)) if mask[i]]
    assert counted == [token for token, answer in zip(*whole, strict=True) if answer]
    assert windows(words, turns, 5) == []


def test_prompts_lose_their_oldest_exchanges_first(package, corpus):
    item = next(i for i in read_items(corpus, TASKS, "test") if len(i.turns) == 4)
    words = package.tokenizer
    whole = words.encode_turns(item.prompt)[0]
    assert fitting_prompt(words, item, len(whole)) == whole
    last = words.encode_turns(item.prompt[2:])[0]
    assert fitting_prompt(words, item, len(whole) - 1) == last
    assert fitting_prompt(words, item, 3) is None


def test_a_dialogue_without_an_answered_question_is_no_item():
    question, answer = {"role": "user", "text": "问"}, {"role": "assistant", "text": "答"}
    chat = {"id": "1", "task": "medkqa", "templated": False}
    assert to_item(chat | {"turns": [question]}) is None
    assert to_item(chat | {"turns": [answer]}) is None
    assert to_item(chat | {"turns": [question, {"role": "assistant", "text": " "}]}) is None
    item = to_item(chat | {"turns": [question, answer, question]})
    assert item is not None and item.reference == "答" and item.asked == "问"


def test_order_of_items_does_not_depend_on_the_file(corpus, tmp_path):
    lines = (corpus / "chat.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "chat.jsonl").write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")
    assert read_items(tmp_path, TASKS, "test") == read_items(corpus, TASKS, "test")


def test_option_scores_are_log_likelihood_per_character(package, corpus):
    questions = read_exam(corpus)
    assert len(questions) == 6
    scores = option_scores(package.model, package.tokenizer, questions, 0)
    words = package.tokenizer
    for question, found in zip(questions[:2], scores, strict=False):
        prompt = words.encode_turns([{"role": "user", "text": question.question}])[0]
        for option, score in zip(question.options, found, strict=True):
            ids = words.encode(option)
            mask = [0] * len(prompt) + [1] * len(ids)
            nats = plain_nats(package, prompt + ids, mask, 0)
            assert score == pytest.approx(-nats / len(option), abs=1e-4)


def test_exam_is_measured_per_department(package, corpus):
    questions = read_exam(corpus)
    found = measure_exam(package.model, package.tokenizer, questions, 0)
    scores = option_scores(package.model, package.tokenizer, questions, 0)
    right = sum(int(np.argmax(s)) == q.answer for q, s in zip(questions, scores, strict=True))
    assert found["accuracy"]["value"] == pytest.approx(right / 6)
    assert found["chance"] == pytest.approx((1 / 4 + 1 / 3) / 2, abs=1e-6)
    assert set(found["departments"]) == {"儿科", "内科"}
    assert sum(d["questions"] for d in found["departments"].values()) == 6
    assert found["sources"]["made"]["accuracy"] == found["accuracy"]
    assert found["departments"]["内科"]["chance"] == pytest.approx(1 / 3, abs=1e-6)


def test_exams_that_are_not_there_or_do_not_fit(package, tmp_path):
    assert read_exam(tmp_path) == []
    assert measure_exam(package.model, package.tokenizer, [], 0)["questions"] == 0
    long = Question("q", "儿科", "发热" * 2000, ("是", "否"), 0)
    found = measure_exam(package.model, package.tokenizer, [long], 0)
    assert found == {"questions": 0, "left_out": 1}


def test_questions_that_cannot_be_scored_are_refused():
    with pytest.raises(ValueError, match="answer 2 of 2"):
        Question("q", "", "?", ("是", "否"), 2)
    with pytest.raises(ValueError, match="empty"):
        Question("q", "", "?", ("是", " "), 0)


def test_divergence_is_that_of_the_formula():
    p = torch.tensor([[0.7, 0.3], [0.2, 0.8]]).log()
    q = torch.tensor([[0.4, 0.6], [0.2, 0.8]]).log()
    kl, same = divergence(p, q)
    assert float(kl) == pytest.approx(0.7 * math.log(0.7 / 0.4) + 0.3 * math.log(0.3 / 0.6))
    assert int(same) == 1
