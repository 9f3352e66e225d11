"""Ablations: tables that do not claim what is inside the noise, and lines that share what they should."""

import json

import pytest

from training.ablation.__main__ import LINES, ROWS, STAGES, open_line
from training.ablation.table import difference, table
from training.ablation.withhold import base_of, withhold
from training.loop import Deadline
from training.prepare import read_lines
from training.presets import load_preset

LINES_OF_ADAPTER = [line.name for line in LINES if line.since == "adapter"]


def test_a_difference_is_clear_only_when_seeds_agree():
    assert difference([1.1, 1.2, 1.3], [1.0, 1.1, 1.2]).clear
    assert not difference([1.1, 0.9, 1.3], [1.0, 1.0, 1.0]).clear  # one seed says the opposite
    assert not difference([1.01, 1.02, 1.5], [1.0, 1.0, 1.0]).clear  # one seed says it all
    assert not difference([2.0], [1.0]).clear  # one seed says nothing
    with pytest.raises(ValueError):
        difference([1.0, 2.0], [1.0])


def test_difference_by_hand():
    found = difference([1.0, 2.0, 3.0], [0.5, 1.0, 1.5])
    assert found.mean == pytest.approx(1.0)
    assert found.deviation == pytest.approx(0.5)


def test_table_says_what_is_noise():
    seeds = {"human": 2.0, "medkqa": 2.0, "loops": 10.0}
    rows = {
        "first": [seeds, seeds, seeds],
        "clear": [{**seeds, "human": 2.1}, {**seeds, "human": 2.11}, {**seeds, "human": 2.09}],
        "noise": [{**seeds, "human": 2.1}, {**seeds, "human": 1.9}, {**seeds, "human": 2.05}],
    }
    text = table("Group", rows)
    assert "inside the noise" not in next(t for t in text.split("\n") if "clear" in t)
    assert "inside the noise" in next(t for t in text.split("\n") if "| noise" in t)
    assert "parameters" not in text


def test_every_row_is_measured_on_a_stage_of_its_line():
    lines = {line.name: line for line in LINES}
    for row in ROWS:
        line = lines[row.line]
        before = STAGES[: STAGES.index(line.since)]
        assert row.stage in (*line.stages, *before, "means"), row


def test_no_two_lines_of_the_adapter_are_the_same():
    settings = [line.settings for line in LINES if line.since == "adapter"]
    presets = [load_preset("ablation", list(changes)) for changes in settings]
    for i, preset in enumerate(presets):
        twins = [j for j, other in enumerate(presets) if other == preset and j != i]
        # the uniform gates are a way of training, not a setting
        assert all("uniform" in (LINES_OF_ADAPTER[i], LINES_OF_ADAPTER[j]) for j in twins)


def test_a_line_takes_over_the_stages_before_its_own(tmp_path):
    (tmp_path / "seed-2" / "main" / "stages" / "sft").mkdir(parents=True)
    (tmp_path / "seed-2" / "main" / "stages" / "sft" / "DONE.json").write_text("{}")
    line = next(line for line in LINES if line.name == "no-mu")
    run = open_line(line, 2, tmp_path, "ablation", Deadline())
    assert (run.folder("sft") / "DONE.json").read_text() == "{}"
    assert not run.folder("dfpo").exists()
    assert run.preset.seed == 2 and run.preset.mu == 0


def test_withheld_dialogues_are_nowhere_in_training(tmp_path):
    def write(name, rows):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")

    chats = [
        {"id": f"cmdd-{i}{end}", "task": task, "split": split, "templated": built}
        for i in range(200)
        for end, task, split, built in (
            ("-n", "evidiag", "train", False),
            ("-n-w1", "evidiag", "train", False),
            ("-t", "trerecom", "train", True),
        )
    ] + [{"id": "huatuo-5", "task": "medkqa", "split": "test", "templated": False}]
    write("chat.jsonl", chats)
    write("text.jsonl", [{"id": f"cmdd-{i}"} for i in range(200)])
    write("pairs.jsonl", [{"id": f"pair-cmdd-{i}-n"} for i in range(200)])
    count = withhold(tmp_path, 0.2)
    assert 20 < count < 60 and withhold(tmp_path, 0.2) == count
    after = {
        name: list(read_lines(tmp_path / f"{name}.jsonl")) for name in ("chat", "text", "pairs")
    }
    valid = {base_of(row["id"]) for row in after["chat"] if row["split"] == "valid"}
    trained = [row["id"] for row in after["chat"] if row["split"] == "train"]
    trained += [row["id"] for row in (*after["text"], *after["pairs"])]
    assert len(valid) == count and not valid & {base_of(name) for name in trained}
    assert sum(row["split"] == "valid" for row in after["chat"]) == 2 * count  # both windows
    assert [row["id"] for row in after["chat"] if row["split"] == "test"] == ["huatuo-5"]


def test_the_base_of_an_id():
    assert base_of("cmdd-10000894-n-w0") == "cmdd-10000894"
    assert base_of("pair-cmdd-10000894-t") == "cmdd-10000894"
    assert base_of("huatuo-15") == "huatuo-15"
    assert base_of("alpaca_zh_demo-3") == "alpaca_zh_demo-3"
