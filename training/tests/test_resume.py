"""`kill -9` in the middle of a stage: the same command goes on with the same numbers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.journal import Journal, read_journal
from training.prepare import prepare_pairs
from training.presets import load_preset
from training.runfolder import ChangedSettings, RunFolder, differences
from training.tests.testing import make_run, preset

ROOT = Path(__file__).parents[2]
# averaged weights, pieces and Muon, so that all of the state counts; a state after every step
SETTINGS = [
    *("config.vocab=400", "config.width=32", "config.mlp_width=64", "config.capacity=128"),
    *("cpt.context=64", "cpt.rows=4", "cpt.steps=24", "cpt.accumulate=2", "cpt.ema=0.9"),
    *("sft.context=64", "sft.rows=4", "sft.steps=16", "sft.accumulate=2", "sft.ema=0.9"),
    *("dfpo.context=64", "dfpo.rows=4", "dfpo.steps=16", "dfpo.accumulate=2"),
    *("expert.context=64", "expert.rows=4", "expert.steps=16", "expert.accumulate=2"),
    *("adapter.rank=2", "adapter.dropout=0.1", "gate_start=task", "adapter_base=sft"),
    *("preference=0.5", "preference_pairs=2", "finish.context=64", "finish.rows=4"),
    *("save_seconds=0", "log_every=1"),
]
# Where the run is killed: the stages of one command, and the steps of each, some twice.
KILLS = (("cpt", 5), ("cpt", 13), ("sft", 5), ("dfpo", 5), ("adapter", 5))
STEPS = {"cpt": 24, "sft": 16, "dfpo": 16, "adapter": 16}


def start(out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "training.run", "--preset", "ci", "--data", "training/sample"]
    command += ["--from", "cpt", "--to", "adapter", "--out", str(out)]
    for setting in SETTINGS:
        command += ["--set", setting]
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | quiet, stderr=subprocess.PIPE, text=True
    )


def rows(out: Path, stage: str) -> list[dict]:
    path = out / "stages" / stage / "metrics.jsonl"
    return read_journal(path) if path.exists() else []


def kill_at(out: Path, stage: str, step: int) -> None:
    """Starts the command and kills it with SIGKILL as soon as a step stands in the journal."""
    process = start(out)
    deadline = time.monotonic() + 60
    while not any(row["step"] >= step for row in rows(out, stage)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "stages" / stage / "DONE.json").exists()


def numbers(out: Path, stage: str) -> list[dict]:
    """The journal without what depends on the clock."""
    clocks = ("seconds", "tokens_per_second")
    return [{k: v for k, v in row.items() if k not in clocks} for row in rows(out, stage)]


def prepared(out: Path) -> None:
    """A run before CPT, with the packed pairs of answers that the preference term wants."""
    run = make_run(out, load_preset("ci", SETTINGS))
    pairs = []
    for line in (out / "corpus" / "pairs.jsonl").read_text("utf-8").splitlines():
        pairs.append(json.dumps(json.loads(line) | {"kind": "own-short"}) + "\n")
    own = run.packed / "own_pairs.jsonl"
    own.write_text("".join(pairs), encoding="utf-8")
    prepare_pairs(out / "corpus", run.tokenizer(), run.preset, run.packed, own)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path, str]:
    """(a run without a break, one that was killed in every stage, what its last session said)"""
    whole, killed = (tmp_path_factory.mktemp("runs") / name for name in ("whole", "killed"))
    prepared(whole)
    shutil.copytree(whole, killed)
    first = start(whole)
    for stage, step in KILLS:
        kill_at(killed, stage, step)
    # a state that was cut off in writing is no obstacle
    (killed / "stages" / "adapter" / "resume.partial").write_bytes(b"half")
    last = start(killed)
    said = last.communicate()[1]
    assert last.returncode == 0, said
    assert first.communicate() and first.returncode == 0
    return whole, killed, said


@pytest.mark.parametrize("stage", STEPS)
def test_killed_and_still_the_same_loss_curve_and_weights(runs, stage):
    whole, killed, _ = runs
    assert numbers(whole, stage) == numbers(killed, stage)
    losses = [row for row in rows(whole, stage) if "loss" in row]
    assert [row["step"] for row in losses] == [*range(1, STEPS[stage] + 1)]
    assert all(("preference" in row) == (stage in ("dfpo", "adapter")) for row in losses)
    name = "adapter/adapter_model.safetensors" if stage == "adapter" else "model.safetensors"
    one, other = (load_file(out / "stages" / stage / name) for out in (whole, killed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    summaries = [
        json.loads((out / "stages" / stage / "DONE.json").read_text()) for out in (whole, killed)
    ]
    assert summaries[0]["loss"] == summaries[1]["loss"]
    assert not (killed / "stages" / stage / "resume.pt").exists()


def test_a_killed_run_goes_on_where_it_was_and_keeps_account(runs):
    _, killed, said = runs
    assert 3 <= int(said.split("adapter: resumes at step ")[1].split()[0]) < STEPS["adapter"]
    assert said.count(": done before") == 4  # cpt, sft, own, dfpo
    about = json.loads((killed / "run.json").read_text())
    assert [s["outcome"] for s in about["sessions"]] == [*["running"] * len(KILLS), "done"]


def test_a_journal_cut_off_in_its_last_line_is_read_and_mended(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    assert [row["step"] for row in read_journal(path)] == [1, 2]
    journal = Journal(tmp_path, "cpt", 1)
    journal.write({"step": 2, "loss": 1.5, "valid": {"text": 3.0}})
    journal.close()
    assert [row["loss"] for row in read_journal(path)] == [2.0, 1.5]
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match="metrics.jsonl, line 2"):
        read_journal(path)


def test_the_journal_also_goes_to_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    journal = Journal(tmp_path, "cpt", 0)
    journal.write({"step": 3, "loss": 2.5})
    journal.write({"step": 3, "valid": {"text": 4.0}})
    journal.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {
        tag: (e[0].step, e[0].value)
        for tag in events.Tags()["scalars"]
        for e in [events.Scalars(tag)]
    } == {  # fmt: skip
        "loss": (3, 2.5),
        "valid/text": (3, 4.0),
    }


def test_the_run_folder_tells_what_it_takes_to_repeat_the_run(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "hashes.json").write_text('{"text.jsonl": "ab"}')
    RunFolder(tmp_path, preset()).stop("done")
    about = json.loads((tmp_path / "run.json").read_text())
    (session,) = about["sessions"]
    assert about["settings"]["cpt"]["lr"] == preset().cpt.lr
    assert session["data"] == {"text.jsonl": "ab"}
    assert session["versions"]["torch"] == torch.__version__.split("+")[0] or session["versions"]["torch"] == torch.__version__  # fmt: skip
    assert len(session["git"]["revision"]) == 40 and session["git"]["dirty"] in (True, False)
    assert session["started"] <= session["stopped"] and session["outcome"] == "done"
    assert session["machine"]["cores"] == os.cpu_count()


def test_other_settings_in_the_same_folder_are_refused_unless_allowed(tmp_path):
    RunFolder(tmp_path, preset(seed=1)).stop("done")
    with pytest.raises(ChangedSettings, match=r"seed: 1 -> 2\).*--allow-changes"):
        RunFolder(tmp_path, preset(seed=2))
    RunFolder(tmp_path, preset(seed=2), allow_changes=True).stop("done")
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["settings"]["seed"] == 2
    assert [s["changed_settings"] for s in about["sessions"]] == [[], ["seed: 1 -> 2"]]
    assert differences({"a": {"b": 1}}, {"a": {"b": 2}, "c": 3}) == ["a.b: 1 -> 2", "c: None -> 3"]
