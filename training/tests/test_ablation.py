"""Ablations: tables that do not claim what is inside the noise, and lines that share what they should."""

import pytest

from training.ablation.__main__ import LINES, ROWS, STAGES, open_line
from training.ablation.table import difference, table
from training.loop import Deadline
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
