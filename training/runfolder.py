"""run.json: what it takes to repeat a run, and to know what a number came from.

The settings, and of every session the command, git revision, versions, machine, hashes of the data,
and when it started and how it ended.
"""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from training.journal import replace_text
from training.presets import Preset
from training.settings import as_table

ROOT = Path(__file__).parent.parent
PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "transformers")


class Refused(ValueError):
    """What was asked for cannot be done here; the message says what to do. No fault of the code."""


class ChangedSettings(Refused):
    """The folder holds a run with other settings."""


def git_state(root: Path = ROOT) -> dict:
    """{revision, dirty}: of the checkout that this code is in; both None outside of git."""
    try:
        revision = _git(root, "rev-parse", "HEAD").strip()
        changed = _git(root, "status", "--porcelain", "--untracked-files=no").strip()
    except (OSError, subprocess.CalledProcessError):
        return {"revision": None, "dirty": None}
    return {"revision": revision, "dirty": bool(changed)}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def versions() -> dict[str, str | None]:
    """Of Python and of what training needs; None for a package that is not there."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def machine() -> dict:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "gpus": gpus,
    }


def data_hashes(run: Path) -> dict[str, str] | None:
    """corpus/hashes.json of a run: sha-256 of every file of the corpus; None before there is one."""
    path = run / "corpus" / "hashes.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def differences(old: dict, new: dict, path: str = "") -> list[str]:
    """`key: old -> new` for every setting that differs."""
    found = []
    for key in old.keys() | new.keys():
        name, a, b = f"{path}{key}", old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{name}.")
        elif a != b:
            found.append(f"{name}: {a!r} -> {b!r}")
    return sorted(found)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunFolder:
    """run.json of a folder. Its last session is this one."""

    def __init__(self, out: Path, preset: Preset, allow_changes: bool = False):
        """Raises ChangedSettings where the folder's run had others and that is not allowed."""
        self.out, self.path = out, out / "run.json"
        out.mkdir(parents=True, exist_ok=True)
        settings = json.loads(json.dumps(as_table(preset)))
        self.about: dict = {"settings": settings, "sessions": []}
        changed: list[str] = []
        if self.path.exists():
            before = json.loads(self.path.read_text(encoding="utf-8"))
            changed = differences(before["settings"], settings)
            if changed and not allow_changes:
                raise ChangedSettings(
                    f"{self.path}: this run was begun with other settings ({'; '.join(changed)}). "
                    "Give another --out, or --allow-changes to go on with the new ones."
                )
            self.about["sessions"] = before["sessions"]
        self.session: dict = {
            "command": [sys.executable, *sys.orig_argv[1:]],
            "folder": os.getcwd(),
            "started": now(),
            "stopped": None,
            "outcome": "running",  # what stays here where it was killed
            "changed_settings": changed,
            "git": git_state(),
            "versions": versions(),
            "machine": machine(),
            "data": data_hashes(out),
        }
        self.about["sessions"].append(self.session)
        self._write()

    def _write(self) -> None:
        replace_text(self.path, json.dumps(self.about, ensure_ascii=False, indent=1) + "\n")

    def stop(self, outcome: str) -> None:
        """outcome: done, stopped by time, or an error in a line."""
        self.session |= {"stopped": now(), "outcome": outcome, "data": data_hashes(self.out)}
        self._write()
