"""Own answers as rejected ones: which questions, what is wrong with an answer, and the packed rows."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from training.batches import TASKS, Pool
from training.loop import StoppedByTime
from training.metrics.items import Item
from training.prepare import read_lines, reserved
from training.stages import own as stage
from training.stages.common import done, save_model
from training.stages.own import OWN_FILE, Own, choose_items, kind_of, own, own_pair
from training.tests.testing import make_run, preset

LONG = replace(preset().dfpo, context=120)
ASKED = ({"role": "user", "text": "宝宝发热怎么办？"},)
REFERENCE = "注意休息，多喝温水，饮食清淡，必要时到医院就诊。"


def answer(text: str, ended: bool = True, reference: str = REFERENCE) -> Own:
    turns = (*ASKED, {"role": "assistant", "text": reference})
    return Own(Item("c1", "trerecom", False, turns), ASKED, text, ended)


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (answer("孩子发热可以先观察体温的变化情况。" * 4, ended=False), "own-loop"),
        (answer("发热多由病毒感染引起，家长不用太过着急", ended=False), "own-endless"),
        (answer("发热时可以给孩子吃布洛芬，每次5毫升，每日3次。" * 4), "own-dose"),
        (answer("不要紧的。"), "own-short"),
        (answer("发热多由病毒感染引起，家长不用太过着急，先观察。"), "own"),
    ],
)
def test_the_worst_fault_names_the_kind(made, kind):
    assert kind_of(made) == kind


def test_a_pair_prefers_the_reference_to_the_own_answer():
    pair = own_pair(answer("不要紧的。"))
    assert pair == {
        "id": "own-c1",
        "source": "own",
        "task": "trerecom",
        "turns": list(ASKED),
        "chosen": REFERENCE,
        "rejected": "不要紧的。",
        "kind": "own-short",
        "ended": True,
    }


@pytest.mark.parametrize(
    "made",
    [
        answer("注意休息，多喝温水，饮食清淡，必要时去医院就诊。"),  # as good as the reference
        answer("  "),
        answer("发热多由病毒感染引起", ended=False),  # it may have ended in time
        answer("不要紧的。", reference="布洛芬每次5毫升，每日3次。"),
    ],
)
def test_good_and_empty_answers_and_dosed_references_make_no_pair(made):
    assert own_pair(made) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run"), preset(own_rejected=15, dfpo=LONG))
    torch.manual_seed(5)
    save_model(made.new_model(), made.folder("sft") / "model.safetensors")
    return made


def test_questions_are_training_ones_of_all_tasks_people_first(run, tmp_path):
    chosen = choose_items(run)
    assert [sum(i.task == task for i in chosen) for task in TASKS] == [5, 5, 5]
    rows = list(read_lines(run.out / "corpus" / "chat.jsonl"))
    split = {row["id"]: row["split"] for row in rows}
    assert {split[item.id] for item in chosen} == {"train"}
    assert choose_items(run) == chosen
    people = {row["id"] for row in rows if row["split"] == "train"}
    people = set(sorted(people)[::9])
    other = make_run(tmp_path, run.preset)
    with (tmp_path / "corpus" / "chat.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            row["templated"] = row["id"] not in people
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    first = {item.id for item in choose_items(other)}
    for task in TASKS:
        there = {row["id"] for row in rows if row["id"] in people and row["task"] == task}
        assert len(there & first) == min(5, len(there))


def test_reserved_dialogues_stay_unseen_and_a_small_task_leaves_room_to_others(run):
    run = make_run(run.out, replace(run.preset, reserve=0.5, own_rejected=90))
    chosen = choose_items(run)
    records = {row["id"]: row for row in read_lines(run.out / "corpus" / "chat.jsonl")}
    assert chosen and not any(reserved(run.preset, records[item.id]) for item in chosen)
    free = [
        row
        for row in records.values()
        if row["split"] == "train" and row["task"] in TASKS and not reserved(run.preset, row)
    ]
    assert len(chosen) == min(90, len(free))


def test_pairs_are_packed_behind_the_others_and_endless_answers_have_no_end(run):
    before = len(Pool(run.packed, "pairs.train", 1))
    own(run)
    summary = done(run, "own")
    assert summary is not None and summary["pairs"] > 0
    assert sum(summary["kinds"].values()) == summary["pairs"] <= summary["answers"] <= 15
    pairs = list(read_lines(run.packed / OWN_FILE))
    assert {pair["id"].removeprefix("own-") for pair in pairs} <= {i.id for i in choose_items(run)}
    pool = Pool(run.packed, "pairs.train", 1)
    assert before < len(pool) <= before + 2 * len(pairs)
    words = run.tokenizer()
    ends = []
    for row in range(before, len(pool)):
        tokens = np.asarray(pool.arrays["tokens"][row])[np.asarray(pool.arrays["counted"][row])]
        ends.append(int(tokens[-1]) == words.eos)
    assert all(ends[::2])  # the chosen ones end
    ended = {pair["rejected"]: pair["ended"] for pair in pairs}
    assert not all(ended.values())  # an untrained model does not stop
    assert ends[1::2].count(False) > 0


def test_a_stopped_stage_goes_on_with_the_answers_it_has(tmp_path, monkeypatch):
    run = make_run(tmp_path, preset(own_rejected=12, dfpo=LONG))
    torch.manual_seed(5)
    save_model(run.new_model(), run.folder("sft") / "model.safetensors")
    monkeypatch.setattr(stage, "AT_ONCE", 5)
    made = []
    generate = stage.generate_many

    def counting(model, prompts, *rest, **named):
        made.append(len(prompts))
        return generate(model, prompts, *rest, **named)

    monkeypatch.setattr(stage, "generate_many", counting)
    checks = iter([False, False, True])

    def check():
        if next(checks, False):
            raise StoppedByTime

    monkeypatch.setattr(run.deadline, "check", check)
    with pytest.raises(StoppedByTime):
        own(run)
    assert made == [5, 5] and done(run, "own") is None
    answers = run.folder("own") / "answers.jsonl"
    with answers.open("a", encoding="utf-8") as file:
        file.write('{"id": "cut of')  # as kill -9 may leave it
    own(run)
    assert made == [5, 5, 2] and done(run, "own") is not None
    one = (run.packed / OWN_FILE).read_text(encoding="utf-8")
    answers.unlink()
    (run.folder("own") / "DONE.json").unlink()
    own(run)
    assert (run.packed / OWN_FILE).read_text(encoding="utf-8") == one


def test_nothing_happens_where_the_preset_wants_none(tmp_path):
    run = make_run(tmp_path, preset())
    own(run)
    assert done(run, "own") is None and not (run.packed / OWN_FILE).exists()
