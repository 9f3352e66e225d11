"""The command of a whole run: what it hands to the builder, and how it says no."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training import run as command
from training.pedcorpus.options import Options
from training.runfolder import Refused
from training.tests.testing import make_run, preset

ROOT = Path(__file__).parents[2]


def started(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of the command, in this process."""
    monkeypatch.setattr("sys.argv", ["training.run", "--preset", "ci", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--data", "nowhere"], "--data nowhere: no such folder of raw sources; training/README"),
        (["--data", ".", "--set", "device=cuda"], "there is none: --set device=cpu"),
        (["--data", "empty"], "training.pedcorpus.build failed (code 1)"),
        (["--data", ".", "--extra", "nowhere"], "--extra nowhere: no such folder of your own"),
        (["--data", ".", "--engine", "endpoint"], "needs --endpoint URL and --model NAME"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(tmp_path, monkeypatch, capfd, arguments, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "empty").mkdir()
    assert started(monkeypatch, *arguments, "--out", tmp_path / "out") == 2
    *_, last = capfd.readouterr().err.splitlines()
    assert said in last and "Traceback" not in last


def test_a_fault_of_the_code_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(run, data, more=()):
        raise ValueError("a fault")

    monkeypatch.setattr(command, "corpus", broken)
    monkeypatch.setattr(
        "sys.argv", ["run", "--preset", "ci", "--data", "x", "--out", str(tmp_path)]
    )
    with pytest.raises(ValueError, match="a fault"):
        command.main()


def test_own_books_and_the_engine_reach_the_builder(tmp_path, monkeypatch):
    seen: list[list[str]] = []
    monkeypatch.setattr(command, "tool", lambda run, module, *given: seen.append([module, *given]))
    for name in ("data", "books", "more"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    engine = ["--engine", "endpoint", "--endpoint", "http://x/v1", "--model", "m", "--yes"]
    where = ["--data", "data", "--out", "out", "--from", "corpus", "--to", "corpus"]
    given = [*where, "--extra", "books", "more", "--cache", "c", "--limit", "7", *engine]
    monkeypatch.setattr("sys.argv", ["training.run", "--preset", "ci", *given])
    command.main()
    ((module, *told),) = seen
    assert module == "training.pedcorpus.build"
    assert told[told.index("--extra") + 1 :][:2] == [str(tmp_path / n) for n in ("books", "more")]
    assert told[told.index("--cache") + 1] == str(tmp_path / "c")
    assert told[told.index("--limit") + 1] == "7" and "--yes" in told
    for flag, value in zip(engine[:6:2], engine[1:6:2], strict=True):
        assert told[told.index(flag) + 1] == value
    assert command.builder_arguments([], Options()) == []


def test_books_that_a_corpus_was_built_without_are_refused(tmp_path):
    run = make_run(tmp_path / "run", preset())
    for name in ("books", "more"):
        (tmp_path / name).mkdir()
    report = run.out / "corpus" / "report.json"
    about = json.loads(report.read_text())
    report.write_text(json.dumps(about | {"own": [{"source": "user__books"}]}))
    command.check_extra(run, [tmp_path / "books"])
    with pytest.raises(Refused, match="more: the corpus in .* was built without it"):
        command.check_extra(run, [tmp_path / "books", tmp_path / "more"])


def test_the_script_names_folders_from_where_it_was_called(tmp_path):
    shown = tmp_path / "python"
    shown.write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done\n')
    shown.chmod(0o755)
    given = ["--extra", "books", "/more", "--data", "d", "--cache", "c", "--yes"]
    done = subprocess.run(
        [ROOT / "training" / "runs" / "nano.sh", *given],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": str(shown)},
        capture_output=True,
        text=True,
    )
    told = done.stdout.splitlines()[2:]
    here = str(tmp_path)
    assert told == [
        *("--extra", f"{here}/books", "/more", "--data", f"{here}/d", "--cache", f"{here}/c"),
        "--yes",
    ]


def test_a_stage_says_no_in_a_line_too(tmp_path):
    where = ["--preset", "ci", "--out", str(tmp_path), "--set", "device=cuda"]
    done = subprocess.run(
        [sys.executable, "-m", "training.stages.sft", *where],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--set device=cpu" in done.stderr
