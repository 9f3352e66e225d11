"""What each part of the recipe is worth: small models, several seeds, one change at a time.

    python -m training.ablation --data DIR --out DIR [--seeds 1 2 3] [--only GROUP ...]

A line goes the way of the main line up to a stage, whose folders it takes over, and its own way from
there with changed settings; so all lines of a seed see the same rows. Every line's numbers are
written when it is done, and the command goes on where it was stopped.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from training.ablation.measure import measure
from training.ablation.table import table
from training.ablation.withhold import withhold
from training.journal import replace_text
from training.loop import Deadline, StoppedByTime
from training.presets import load_preset
from training.run import STEPS, work
from training.stages.common import STOPPED, Run, mark_done

STAGES = ("cpt", "sft", "dfpo", "adapter", "finish", "twin")
PREPARED = ("corpus", "tokenizer", "packed")
AFTER_CORPUS = ("tokenizer", "pack")


@dataclass(frozen=True)
class Line:
    """A way through the stages. since: the first that is not the main line's; stages: its own."""

    name: str
    since: str
    stages: tuple[str, ...]
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of a table: what a stage of a line left, by a name that readers understand."""

    group: str
    label: str
    line: str
    stage: str


ROUTER = ("gate_start=router", "adapter.gate=token")
# One schedule of as many steps as the adapter and the finish of the merged line have together.
STEPS_80 = "expert.steps=80"
TASK = ("gate_start=task", "adapter.gate=task", STEPS_80)
TOKEN = (*ROUTER, STEPS_80)
# As many parameters as four experts of rank 8, and the same factor alpha / r.
PLAIN = ("adapter.experts=1", "adapter.rank=32", "adapter.alpha=64.0")

LINES = (
    Line("main", "cpt", ("cpt", "sft", "dfpo")),
    Line("plain-cpt", "cpt", ("cpt", "sft"), ("ablation.hybrid=false",)),
    Line("no-mu", "dfpo", ("dfpo",), ("mu=0.0",)),
    Line("router", "adapter", ("adapter", "finish", "twin"), ROUTER),
    Line("task", "adapter", ("adapter",), TASK),
    Line("token", "adapter", ("adapter",), TOKEN),
    Line("plain-lora", "adapter", ("adapter",), (*TOKEN, *PLAIN)),
    Line("uniform", "adapter", ("uniform",), TOKEN),
    Line("no-universal", "adapter", ("adapter",), (*TASK, "adapter.universal=false", "adapter.experts=3")),
    Line("one", "adapter", ("adapter",), (*TASK, "adapter.experts=2")),
    Line("five", "adapter", ("adapter",), (*TASK, "adapter.experts=6")),
    Line("no-noise", "adapter", ("adapter",), (*TOKEN, 'adapter.noise="none"')),
    Line("released-noise", "adapter", ("adapter",), (*TOKEN, "adapter.noise=released")),
)  # fmt: skip

ROWS = (
    Row("Hybrid instructions in CPT (after SFT)", "hybrid", "main", "sft"),
    Row("Hybrid instructions in CPT (after SFT)", "plain text only", "plain-cpt", "sft"),
    Row("DFPO", "DFPO", "main", "dfpo"),
    Row("DFPO", "none", "main", "sft"),
    Row("DFPO", "mu = 0 (plain DPO)", "no-mu", "dfpo"),
    Row("Universal expert", "universal + 3 specific", "task", "adapter"),
    Row("Universal expert", "3 specific, no universal", "no-universal", "adapter"),
    Row("Number of specific experts", "3", "task", "adapter"),
    Row("Number of specific experts", "1", "one", "adapter"),
    Row("Number of specific experts", "5", "five", "adapter"),
    Row("Gates", "per task", "task", "adapter"),
    Row("Gates", "token router", "token", "adapter"),
    Row("Gates", "one plain LoRA of the same size", "plain-lora", "adapter"),
    Row("Gates", "uniform", "uniform", "uniform"),
    Row("Gates", "no adapter", "main", "dfpo"),
    Row("Noise of the router", "scaled, in training", "token", "adapter"),
    Row("Noise of the router", "none", "no-noise", "adapter"),
    Row("Noise of the router", "as released", "released-noise", "adapter"),
    Row("Merging the router", "merge-aware finish", "router", "finish"),
    Row("Merging the router", "mean of the gates", "router", "means"),
    Row("Merging the router", "not merged, same steps", "router", "twin"),
)


def uniform(run: Run) -> None:
    """Experts trained under gates of 1 / S."""
    from training.experts import save_adapter, set_mode
    from training.stages.adapter import expert_stage, fresh

    model = fresh(run, lambda model: set_mode(model, "uniform"))
    summary = expert_stage(run, "uniform", model, run.preset.expert)
    # gates per task that are all equal are what this is; the file says so
    set_mode(model, "task")
    save_adapter(model, replace(run.preset.adapter, gate="task"), run.folder("uniform") / "adapter", "merged")  # fmt: skip
    mark_done(run, "uniform", summary)


def mean_merged(run: Run) -> None:
    """The router replaced by its mean gates per task, and nothing trained after it."""
    from training.experts import save_adapter, start_finish
    from training.stages.adapter import adapter_config, measured_gates, with_router

    model = with_router(run)
    start_finish(model, measured_gates(run, model))
    save_adapter(model, adapter_config(run), run.folder("means") / "adapter", "merged")


OWN: dict[str, Callable[[Run], None]] = {"uniform": uniform, "means": mean_merged}


def link(target: Path, place: Path) -> None:
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(target, place.parent))


def open_line(line: Line, seed: int, out: Path, preset: str, deadline: Deadline) -> Run:
    """The line's run: prepared rows of all lines, and the main line's stages before its own."""
    folder = out / f"seed-{seed}" / line.name
    folder.mkdir(parents=True, exist_ok=True)
    for name in PREPARED:
        link(out / "prepared" / name, folder / name)
    for stage in STAGES[: STAGES.index(line.since)]:
        link(out / f"seed-{seed}" / "main" / "stages" / stage, folder / "stages" / stage)
    settings = [*line.settings, f"seed={seed}"]
    return Run(load_preset(preset, settings), folder, deadline)


def train_line(run: Run, line: Line) -> None:
    for stage in line.stages:
        if (run.folder(stage) / "DONE.json").exists():
            continue
        run.deadline.check()
        torch.manual_seed(run.preset.seed)
        if stage in OWN:
            OWN[stage](run)
        else:
            STEPS[stage](run, Path())


def numbers_of(run: Run, line: Line, stage: str) -> dict[str, float]:
    """What `measure` says of a stage of a line, kept beside it."""
    path = run.out / f"{stage}.json"
    if not path.exists():
        if stage == "means":
            mean_merged(run)
        replace_text(path, json.dumps(measure(run, stage), indent=1) + "\n")
    return json.loads(path.read_text())


def run_all(options: argparse.Namespace, deadline: Deadline) -> None:
    out: Path = options.out.absolute()
    prepared = Run(load_preset(options.preset), out / "prepared", deadline)
    work(prepared, options.data.absolute(), ["corpus"])
    count = withhold(prepared.out / "corpus")
    print(f"== {count} human-written dialogues are withheld to compare on", file=sys.stderr)
    work(prepared, options.data.absolute(), list(AFTER_CORPUS))
    rows = [row for row in ROWS if not options.only or row.group in options.only]
    wanted = {"main", *(row.line for row in rows)}
    found: dict[Row, list[dict[str, float]]] = {row: [] for row in rows}
    for seed in options.seeds:
        for line in LINES:
            if line.name not in wanted:
                continue
            print(f"== seed {seed}, {line.name}", file=sys.stderr, flush=True)
            run = open_line(line, seed, out, options.preset, deadline)
            train_line(run, line)
            for row in rows:
                if row.line == line.name:
                    found[row].append(numbers_of(run, line, row.stage))
    said = []
    for group in dict.fromkeys(row.group for row in rows):
        said.append(table(group, {row.label: found[row] for row in rows if row.group == group}))
    replace_text(out / "ablations.md", "\n\n".join(said) + "\n")
    named = [{"group": r.group, "label": r.label, "seeds": n} for r, n in found.items()]
    replace_text(out / "ablations.json", json.dumps(named, indent=1) + "\n")
    print("\n\n".join(said))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.ablation",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the raw sources")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="ablation", help="name, or a .toml file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", metavar="GROUP", choices={row.group for row in ROWS})
    parser.add_argument("--max-seconds", type=float, help="stop cleanly after so long")
    options = parser.parse_args()
    try:
        run_all(options, Deadline(options.max_seconds))
    except StoppedByTime:
        print("stopped by time; the same command resumes", file=sys.stderr)
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
