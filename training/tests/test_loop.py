"""The loop: schedules, budgets, and a resumed stage that equals one that was never stopped."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from training import loop
from training.batches import Batch
from training.loop import Clock, Deadline, Stage, StoppedByTime, one_step, train
from training.optim import rate_factor
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


def test_the_cosine_schedule_falls_from_the_warm_up_to_the_floor():
    stage = StagePreset(8, 1, 1.0, 1.0, steps=9, warmup=0.2, floor=0.1, schedule="cosine")
    assert rate_factor(stage, 0.1) == pytest.approx(0.5)
    assert rate_factor(stage, 0.2) == 1
    assert rate_factor(stage, 0.4) == pytest.approx(0.1 + 0.9 * (1 + 2**-0.5) / 2)  # cos(pi / 4)
    assert rate_factor(stage, 0.6) == pytest.approx(0.55)
    assert rate_factor(stage, 1.0) == pytest.approx(0.1)


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
    work = {"cpt": cpt.cpt, "adapter": adapter.first}[stage]

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


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_loss_that_is_no_number_stops_the_stage(tmp_path, monkeypatch, number):
    run = make_run(tmp_path, preset())
    calls = []

    def broken(logits, targets):
        calls.append(1)
        loss = torch.nn.functional.cross_entropy(logits, targets)
        return loss * float(number) if len(calls) == 3 else loss

    monkeypatch.setattr("training.stages.common.cross_entropy", broken)
    with pytest.raises(FloatingPointError, match=f"cpt, step 2: the loss is {number}"):
        cpt.cpt(run)


class Words(torch.nn.Module):
    """Predicts the next token from this one."""

    def __init__(self, vocab: int = 11):
        super().__init__()
        torch.manual_seed(3)
        self.table = torch.nn.Parameter(torch.randn(vocab, vocab))

    def loss(self, batch: Batch):
        logits = self.table[batch.tokens][batch.counted]
        loss = torch.nn.functional.cross_entropy(logits, batch.targets[batch.counted])
        return loss, {"rows": float(len(batch.tokens))}, batch.tokens.numel()


def words_stage(model: Words, optimizer: torch.optim.Optimizer | None = None) -> Stage:
    """Batches of 4 rows in which 1, 2, 3 and 4 tokens count."""

    def batch(step: int, progress: float) -> Batch:
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(0, 11, (4, 6), generator=generator)
        counted = torch.arange(5) < torch.arange(1, 5)[:, None]
        return Batch(tokens[:, :-1], tokens[:, 1:], counted, None, None)

    optimizer = optimizer or torch.optim.SGD([model.table], lr=1.0)
    return Stage("words", model, [optimizer], batch, model.loss, lambda: {"sum": float(model.table.sum())})  # fmt: skip


def test_pieces_add_up_to_the_whole_batch_and_not_to_a_mean_of_means():
    quick = StagePreset(5, 4, 1.0, 1.0, steps=1)
    found = []
    for accumulate in (1, 2, 4):
        model = Words()
        stage = words_stage(model)
        changed = replace(quick, accumulate=accumulate)
        made = one_step(stage, stage.batch(0, 0.0), 1.0, changed)
        found.append((made, model.table.detach()))
    (loss, numbers, tokens), table = found[0]
    for (other_loss, other_numbers, other_tokens), other_table in found[1:]:
        assert other_loss == pytest.approx(loss, abs=1e-6) and other_tokens == tokens == 20
        assert other_numbers["norm"] == pytest.approx(numbers["norm"], abs=1e-6)
        torch.testing.assert_close(other_table, table, atol=1e-6, rtol=0)
    model = Words()
    rows = words_stage(model).batch(0, 0.0).split(4)
    mean_of_means = sum(float(model.loss(row)[0].detach()) for row in rows) / 4
    assert abs(mean_of_means - loss) > 1e-3


def test_clipping_bounds_the_norm_of_the_whole_gradient():
    steps = {}
    for clip in (0.0, 0.05):
        model = Words()
        before = model.table.detach().clone()
        stage = words_stage(model)
        quick = StagePreset(5, 4, 1.0, 1.0, steps=1, accumulate=2, clip=clip)
        _, numbers, _ = one_step(stage, stage.batch(0, 0.0), 1.0, quick)
        steps[clip] = (numbers["norm"], float((model.table.detach() - before).norm()))
    assert steps[0.0][0] == pytest.approx(steps[0.0][1], rel=1e-5) and steps[0.0][0] > 0.05
    assert steps[0.05][0] == pytest.approx(steps[0.0][0])  # the norm that is logged is the full one
    assert steps[0.05][1] == pytest.approx(0.05, rel=1e-3)


def test_averaged_weights_follow_their_formula_and_are_evaluated_and_kept(tmp_path):
    model = Words()
    seen = []
    stage = words_stage(model)
    original = stage.loss

    def loss(batch):
        seen.append(model.table.detach().clone())
        return original(batch)

    stage.loss = loss
    quick = StagePreset(5, 4, 1.0, 1.0, steps=5, ema=0.25, valid_times=1, warmdown=0.0)
    summary = train(stage, quick, tmp_path, Deadline())
    # replayed: weights before each step, and those after the last one
    other = Words()
    train(words_stage(other), replace(quick, ema=0.0), tmp_path / "other", Deadline())
    weights = [*seen, other.table.detach()]
    mean = weights[0]
    for t, weight in enumerate(weights[1:], 1):
        decay = min(0.25, (1 + t) / (10 + t))
        mean = decay * mean + (1 - decay) * weight
    torch.testing.assert_close(model.table.detach(), mean, atol=1e-5, rtol=1e-5)
    assert summary["valid"]["sum"] == pytest.approx(float(mean.sum()), abs=1e-3)
    assert not torch.allclose(mean, weights[-1], atol=1e-4)


def test_a_batch_that_does_not_divide_and_one_without_answers_are_errors(tmp_path):
    stage = words_stage(Words())
    odd = StagePreset(5, 6, 1.0, 1.0, steps=1, accumulate=2)
    stage.unit = 2
    with pytest.raises(ValueError, match="words: 6 rows do not divide"):
        train(stage, odd, tmp_path, Deadline())
    batch = stage.batch(0, 0.0)
    with pytest.raises(ValueError, match="words, step 0: no token"):
        one_step(stage, batch._replace(counted=torch.zeros(4, 5, dtype=torch.bool)), 1.0)


def test_a_state_of_another_stage_is_refused(tmp_path):
    quick = StagePreset(5, 4, 1.0, 1.0, steps=3)
    with pytest.raises(StoppedByTime):
        train(words_stage(Words()), quick, tmp_path, StopsAfter(1))
    model = Words()
    model.extra = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="another model or stage: extra"):
        train(words_stage(model), quick, tmp_path, Deadline())
    with pytest.raises(ValueError, match="averaged weights were off"):
        train(words_stage(Words()), replace(quick, ema=0.5), tmp_path, Deadline())


def test_the_random_numbers_of_a_piece_depend_on_its_place_alone(tmp_path):
    """So noise in a stage is the same in pieces, in processes and after a stop."""
    drawn: dict[int, list[float]] = {}
    for accumulate in (1, 2):
        model = Words()
        stage = words_stage(model)

        def loss(batch, model=model, accumulate=accumulate):
            drawn.setdefault(accumulate, []).append(float(torch.rand(())))
            return model.loss(batch)

        stage.loss = loss
        quick = StagePreset(5, 4, 0.1, 0.1, steps=2, accumulate=accumulate)
        train(stage, quick, tmp_path / str(accumulate), Deadline())
    assert drawn[1] == drawn[2][::2]
    assert len(set(drawn[2])) == 4
