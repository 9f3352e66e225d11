"""The loop: schedules, budgets, and a resumed stage that equals one that was never stopped."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from training import loop
from training.loop import Clock, Deadline, StoppedByTime, rate_factor
from training.presets import CI, StagePreset
from training.stages import adapter, cpt, sft
from training.stages.common import done, summary_of
from training.tests.testing import make_run, preset


class StopsAfter(Deadline):
    """Passes for so many questions, then never again."""

    def __init__(self, questions: int):
        super().__init__()
        self.questions = questions

    def passed(self) -> bool:
        self.questions -= 1
        return self.questions < 0


def losses(run, name: str) -> list[float]:
    rows = (run.folder(name) / "metrics.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, rows) if "loss" in row]


def test_schedule_warms_up_holds_and_warms_down():
    stage = StagePreset(8, 1, 1.0, 1.0, steps=100, warmup=0.1, warmdown=0.5, floor=0.2)
    assert rate_factor(stage, 0.0) == 0
    assert rate_factor(stage, 0.05) == pytest.approx(0.5)
    assert rate_factor(stage, 0.3) == 1
    assert rate_factor(stage, 0.75) == pytest.approx(0.6)
    assert rate_factor(stage, 1.0) == pytest.approx(0.2)
    straight = replace(stage, warmup=0.0, warmdown=1.0, start=1.0)
    assert rate_factor(straight, 0.0) == 1


def test_progress_follows_the_clock_where_there_is_a_budget(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    clock = Clock(StagePreset(8, 1, 1.0, 1.0, seconds=40.0))
    now[0] = 110.0
    assert clock.progress == pytest.approx(0.25)
    clock.before = 20.0  # of an earlier session
    assert clock.progress == pytest.approx(0.75)
    now[0] = 200.0
    assert clock.progress == 1.0
    with pytest.raises(ValueError, match="either"):
        Clock(StagePreset(8, 1, 1.0, 1.0))


@pytest.mark.parametrize("stage", ["cpt", "adapter"])
def test_a_resumed_stage_equals_an_uninterrupted_one(tmp_path, stage):
    """The adapter stage draws noise, so this holds its random state too."""
    work = {"cpt": cpt.cpt, "adapter": adapter.routed}[stage]

    def before(run) -> None:
        if stage == "adapter":
            torch.manual_seed(5)
            model = run.new_model()
            run.folder("dfpo").mkdir(parents=True)
            from training.stages.common import save_model

            save_model(model, run.folder("dfpo") / "model.safetensors")
        torch.manual_seed(7)

    whole = make_run(tmp_path / "whole", preset())
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    before(whole)
    work(whole)
    parts = make_run(tmp_path / "parts", preset())
    before(parts)
    for questions in (3, 2):
        parts.deadline = StopsAfter(questions)
        with pytest.raises(StoppedByTime):
            work(parts)
        assert done(parts, stage) is None
        torch.manual_seed(999)
    parts.deadline = Deadline()
    work(parts)
    a, b = losses(whole, stage), losses(parts, stage)
    assert len(a) == 8
    assert a == pytest.approx(b, abs=1e-6)
    assert summary_of(whole, stage)["valid"] == summary_of(parts, stage)["valid"]
    assert not (parts.folder(stage) / "resume.pt").exists()


def test_a_finished_stage_is_not_run_again(tmp_path):
    run = make_run(tmp_path, preset())
    cpt.cpt(run)
    before = (run.folder("cpt") / "model.safetensors").stat().st_mtime_ns
    cpt.cpt(run)
    assert (run.folder("cpt") / "model.safetensors").stat().st_mtime_ns == before


def test_training_lowers_the_held_out_loss_and_a_budget_ends_it(tmp_path):
    longer = replace(CI.cpt, context=64, rows=8, steps=60, valid_times=2)
    run = make_run(tmp_path, preset(cpt=longer, log_every=10))
    cpt.cpt(run)
    rows = (run.folder("cpt") / "metrics.jsonl").read_text().splitlines()
    valid = [row["valid"] for row in map(json.loads, rows) if "valid" in row]
    assert valid[-1]["medkqa"] < 0.7 * valid[0]["medkqa"] or valid[-1]["medkqa"] < 1.0
    assert losses(run, "cpt")[-1] < 0.5 * losses(run, "cpt")[0]
    timed = replace(longer, steps=None, seconds=2.0)
    run.preset = preset(sft=timed)
    sft.sft(run)
    summary = summary_of(run, "sft")
    assert 2.0 <= summary["seconds"] < 30 and summary["steps"] > 1


def test_a_loss_that_is_no_number_stops_the_stage(tmp_path, monkeypatch):
    run = make_run(tmp_path, preset())
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr("training.stages.common.cross_entropy", lambda *_: nan * 1)
    with pytest.raises(FloatingPointError, match="cpt"):
        cpt.cpt(run)
