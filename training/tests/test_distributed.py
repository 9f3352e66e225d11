"""Two processes with gloo compute what one does, and each goes on from the other's state."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.batches import Batch
from training.journal import read_journal
from training.loop import Stage, StoppedByTime, check_pieces
from training.presets import load_preset
from training.stages import adapter, cpt, dfpo, sft
from training.stages.common import Run, done, save_model, summary_of
from training.tests.ranks import StopsAfter
from training.tests.testing import make_run

ROOT = Path(__file__).parents[2]
# one process takes two pieces, so that noise falls the same way as on two processes with one each
SETTINGS = [
    *("config.vocab=400", "config.width=32", "config.mlp_width=64", "config.capacity=128"),
    *("adapter.rank=2", "sft.context=64", "dfpo.context=64", "valid_rows=4", "log_every=1"),
    *("cpt.context=64", "cpt.rows=4", "cpt.steps=8", "cpt.optimizer=adamw", "cpt.ema=0.5"),
    *("expert.context=64", "expert.rows=4", "expert.steps=6", "gate_start=router"),
    *("finish.context=64", "finish.rows=4", "finish_share=0.5"),
    *("sft.rows=4", "sft.steps=6", "sft.optimizer=muon"),
    *("dfpo.rows=4", "dfpo.steps=6"),
]
# Muon makes matrices orthogonal in bf16, which turns an order of sums into a thousandth of an update;
# one process with other pieces differs as much (weights by up to 7e-4, of the 1.5e-2 that 6 steps move them).
MUON = 200
PIECES = ["cpt.accumulate=2", "sft.accumulate=2", "dfpo.accumulate=2"]
PIECES += ["expert.accumulate=2", "finish.accumulate=2"]


def torchrun(module: str, *arguments: str) -> str:
    """Standard error of a module on two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", module, *arguments]
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    made = subprocess.run(
        command, cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True, timeout=90
    )
    assert made.returncode == 0, made.stderr
    return made.stderr


def single(out: Path, *more: str) -> Run:
    return make_run(out, load_preset("ci", [*SETTINGS, *PIECES, *more]))


def numbers(run: Run, stage: str) -> list[tuple[int, str, float]]:
    """Losses, norms and held-out losses by step."""
    found = []
    for row in read_journal(run.folder(stage) / "metrics.jsonl"):
        for key in ("loss", "norm"):
            if key in row:
                found.append((row["step"], key, row[key]))
        found += [(row["step"], key, value) for key, value in row.get("valid", {}).items()]
    return found


def assert_same(one: Run, other: Run, stage: str, factor: float = 1) -> None:
    """factor: on the tolerances."""
    first, second = numbers(one, stage), numbers(other, stage)
    assert [n[:2] for n in first] == [n[:2] for n in second] != []
    for (step, key, a), (_, _, b) in zip(first, second, strict=True):
        # held-out losses are rounded to 1e-5; a norm is the root of a sum of many squares
        tolerance = {"loss": 1e-5, "norm": 1e-4}.get(key, 2.1e-5)
        assert abs(a - b) < factor * tolerance, (stage, step, key, a, b)
    assert done(one, stage) is not None
    assert summary_of(one, stage)["tokens"] == summary_of(other, stage)["tokens"]


def same_tensors(one: Path, other: Path, factor: float = 1) -> None:
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=factor * 1e-5, rtol=0)


def test_cpt_on_two_processes_and_then_on_one_equals_one(tmp_path):
    whole = single(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    cpt.cpt(whole)
    said = torchrun("training.tests.ranks", str(tmp_path / "parts"), "cpt", "5", *SETTINGS)
    assert said.count("stopped on 2 ranks") == 1
    parts = single(tmp_path / "parts")
    assert len([n for n in numbers(parts, "cpt") if n[1] == "loss"]) == 5
    cpt.cpt(parts)
    assert_same(whole, parts, "cpt")
    one, other = (run.folder("cpt") / "model.safetensors" for run in (whole, parts))
    same_tensors(one, other)


def test_dfpo_and_sft_with_muon_on_two_processes_equal_one(tmp_path):
    """Pieces of the whole run are the ranks' shares: pairs of answers are never torn apart."""
    whole = single(tmp_path / "whole")
    torch.manual_seed(5)
    for before in ("cpt", "sft"):
        save_model(whole.new_model(), whole.folder(before) / "model.safetensors")
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    dfpo.dfpo(whole)  # before SFT, whose model it would else take: Muon's is not the same to 1e-5
    sft.sft(whole)
    torchrun("training.tests.ranks", str(tmp_path / "parts"), "dfpo,sft", "99", *SETTINGS)
    parts = single(tmp_path / "parts")
    for stage, factor in (("dfpo", 1), ("sft", MUON)):
        assert_same(whole, parts, stage, factor)
        one, other = (run.folder(stage) / "model.safetensors" for run in (whole, parts))
        same_tensors(one, other, factor)


def test_the_adapter_stage_on_one_process_and_then_on_two_equals_one(tmp_path):
    """With the token router's noise, whose draw must not depend on the number of processes."""
    whole = single(tmp_path / "whole")
    torch.manual_seed(5)
    save_model(whole.new_model(), whole.folder("dfpo") / "model.safetensors")
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    parts = single(tmp_path / "parts")
    parts.deadline = StopsAfter(3)
    with pytest.raises(StoppedByTime):
        adapter.first(parts)
    adapter.adapter(whole)
    where = ["--preset", "ci", "--out", str(tmp_path / "parts")]
    changes = [part for setting in SETTINGS for part in ("--set", setting)]
    said = torchrun("training.stages.adapter", *where, *changes)
    assert "adapter: resumes at step 3" in said
    for stage in ("adapter", "finish", "twin"):
        assert_same(whole, parts, stage)
        one, other = (run.folder(stage) / "adapter" for run in (whole, parts))
        same_tensors(one / "adapter_model.safetensors", other / "adapter_model.safetensors")
        about = "adapter_config.json"
        assert (one / about).read_text() == (other / about).read_text()


def test_rows_that_do_not_divide_into_the_processes_are_refused(tmp_path, monkeypatch):
    run = single(tmp_path)
    run.preset = replace(run.preset, cpt=replace(run.preset.cpt, rows=4, accumulate=4))
    monkeypatch.setattr("training.distributed.world", lambda: 2)
    batch = Batch(torch.zeros(4, 2), torch.zeros(4, 2), None, None, None)
    loss = torch.zeros(())
    stage = Stage("cpt", torch.nn.Linear(1, 1), [], lambda *_: batch, lambda _: (loss, {}, 8), dict)
    with pytest.raises(ValueError, match="cpt: 4 rows do not divide into 2 processes with 4"):
        check_pieces(stage, run.preset.cpt)
    assert check_pieces(stage, replace(run.preset.cpt, rows=8)) == 8
