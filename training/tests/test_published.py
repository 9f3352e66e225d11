"""Bars of other weights are not published: the check, and the script that asks it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training.metrics import published
from training.metrics.published import OtherPackage, check, weights_digest
from training.tests.testing import FIXTURES

ROOT = Path(__file__).parents[2]
NEEDED = ("evaluation.json", "report.md", "MODEL_CARD.md", "run.json", "golden/nano.json")


def manifest_of(package: Path) -> dict:
    return json.loads((package / "manifest.json").read_text(encoding="utf-8"))


def write_bars(path: Path, package: Path) -> None:
    measured = {"package": "p", "label": "fifth", "weights": weights_digest(manifest_of(package))}
    path.write_text(json.dumps({"packages": [{"package": "first"}, measured]}))


def test_weights_are_what_answers_depend_on():
    manifest = manifest_of(FIXTURES / "tiny")
    digest = weights_digest(manifest)
    other = manifest | {"provenance": {"checkpointSha256": "0" * 64, "metrics": {"a": 1.0}}}
    assert weights_digest(other | {"name": {"zh": "", "en": ""}}) == digest
    gates = json.loads(json.dumps(manifest))
    next(iter(gates["adapter"]["gates"].values()))[0][0] += 0.01
    assert weights_digest(gates) != digest
    penalty = manifest | {"sampling": manifest["sampling"] | {"repetitionPenalty": 1.3}}
    assert weights_digest(penalty) != digest
    assert weights_digest(manifest_of(FIXTURES / "tiny-routed")) != digest


def test_bars_of_another_package_are_refused(tmp_path):
    bars = tmp_path / "bars.json"
    write_bars(bars, FIXTURES / "tiny")
    check(bars, FIXTURES / "tiny")
    with pytest.raises(OtherPackage, match="its last package, fifth, .*measure that package again"):
        check(bars, FIXTURES / "tiny-routed")
    bars.write_text('{"packages": [{"package": "old"}]}')
    with pytest.raises(OtherPackage, match="does not say which weights"):
        check(bars, FIXTURES / "tiny")


def test_command_line(tmp_path, monkeypatch, capsys):
    write_bars(tmp_path / "bars.json", FIXTURES / "tiny")
    for package, code in (("tiny", None), ("tiny-routed", 2), ("none", 2)):
        words = ["published", str(tmp_path / "bars.json"), str(FIXTURES / package)]
        monkeypatch.setattr("sys.argv", words)
        if code is None:
            published.main()
            continue
        with pytest.raises(SystemExit) as stopped:
            published.main()
        assert stopped.value.code == code and capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def place(tmp_path):
    """A checkout with the script, a package that ships, and a finished run; npm hands out `tiny`."""
    script = tmp_path / "training" / "runs" / "publish.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "training" / "runs" / "publish.sh", script)
    (tmp_path / "public" / "models" / "nano").mkdir(parents=True)
    (tmp_path / "public" / "models" / "nano" / "old").write_text("old")
    for name in ("checkpoint", "adapter", "golden", "metrics", "bin", "corpus"):
        (tmp_path / "run" / name).mkdir(parents=True)
    (tmp_path / "run" / "metrics" / "cpt.jsonl").write_text("")
    npm = tmp_path / "run" / "bin" / "npm"
    npm.write_text(f'#!/bin/sh\n[ "$5" = verify ] || cp -r "{FIXTURES / "tiny"}" "$9"\n')
    npm.chmod(0o755)
    write_bars(tmp_path / "run" / "bars.json", FIXTURES / "tiny")
    for name in NEEDED:
        (tmp_path / "run" / name).write_text("")
    card = "# data card\n\n| set | 3 |\n\n## Samples of what each step took\n\n- `13800138000`\n"
    (tmp_path / "run" / "corpus" / "DATA_CARD.md").write_text(card)
    os.utime(tmp_path / "run" / "bars.json", (1, 1))
    return tmp_path


def publish(place: Path) -> subprocess.CompletedProcess[str]:
    path = f"{place / 'run' / 'bin'}:{os.environ['PATH']}"
    here = os.environ | {"PATH": path, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    command = ["bash", str(place / "training" / "runs" / "publish.sh"), str(place / "run")]
    return subprocess.run(command, env=here, capture_output=True, text=True)


def test_publishing_takes_bars_of_the_package(place):
    made = publish(place)
    assert made.returncode == 0, made.stderr
    assert (place / "public" / "models" / "nano" / "manifest.json").is_file()
    assert (place / "training" / "runs" / "nano" / "bars.json").is_file()
    card = (place / "training" / "DATA_CARD.md").read_text()
    assert "| set | 3 |" in card and "13800138000" not in card
    assert card.endswith("the builder writes beside its records.\n")


def test_publishing_refuses_bars_of_other_weights_and_replaces_nothing(place):
    write_bars(place / "run" / "bars.json", FIXTURES / "tiny-routed")
    os.utime(place / "run" / "bars.json", (1, 1))
    made = publish(place)
    assert made.returncode == 1 and "bars.json is of other weights" in made.stderr
    assert (place / "public" / "models" / "nano" / "old").read_text() == "old"
    assert not (place / "training" / "report.md").exists()


def test_publishing_refuses_a_report_from_before_the_bars(place):
    os.utime(place / "run" / "report.md", (0, 0))
    made = publish(place)
    assert made.returncode == 1 and "report.md is older than bars.json" in made.stderr
    assert (place / "public" / "models" / "nano" / "old").is_file()
