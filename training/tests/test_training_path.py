"""The training path needs only what many GPU images have."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATH = (
    "training.run",
    "training.prepare",
    "training.stages.cpt",
    "training.stages.sft",
    "training.stages.own",
    "training.stages.dfpo",
    "training.stages.adapter",
    "training.export",
    "training.golden",
    "training.quant.methods",
    "training.models",
    "training.models.plan",
    "training.bench.work",
)
PROGRAM = """
import importlib, sys
blocked = set(sys.argv[1].split(","))
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Refuse())
for name in sys.argv[2].split(","):
    importlib.import_module(name)
print("imported")
"""


def packages(name: str) -> set[str]:
    """What a requirements file names itself, without what it includes."""
    lines = (ROOT / "training" / name).read_text().splitlines()
    found = (re.match(r"[A-Za-z0-9_-]+", line) for line in lines if not line.startswith("-"))
    return {match[0].replace("-", "_") for match in found if match}


def test_stages_import_without_the_data_libraries():
    blocked = packages("requirements-data.txt") | packages("requirements-dev.txt")
    assert {"pyarrow", "jieba", "nltk"} <= blocked and not {"torch", "numpy"} & blocked
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(blocked), ",".join(PATH)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "imported"
