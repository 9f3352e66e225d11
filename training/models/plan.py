"""Memory plan of full training on GPUs: `python -m training.models.plan --preset NAME --gpus N`.

Parameters are counted on the model itself, built without memory; activations are measured by running
its code on tensors without memory. What is computed from these counts, per GPU:

    weights      f32, sharded over the GPUs (FSDP2); embedding, last norm and head are gathered in f32
                 while a step runs, two layers at a time in bf16
    gradients    f32 shards, beside them those of one layer (bf16 and f32) and of embedding and head
    optimiser    AdamW 8 bytes a parameter, Muon 4 for the hidden matrices; an average of the weights 4
    loss         logits and their gradients in f32, as if every position's loss counted
    reference    of DFPO: f32 shards and gathered parts while its log-probabilities are made, without
                 gradients: 16 answers at a time, or as many as have logits of 4 GiB
    gates        of a router are measured on the whole adapted model, before it is sharded

A step, the reference and the measuring of gates never come together: the largest counts. One GPU
holds everything unsharded. Nothing of this was measured on a GPU: an allowance for the CUDA context,
NCCL and fragmentation is added.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.config import Config
from training.experts import AdapterConfig, attach
from training.models.memory import Activations, Build, Counts, activations, builder, count
from training.stages.reference import ROWS, pass_tokens

GIB = 1 << 30
ALLOWANCE, CONTEXT = 0.05, 2 * GIB  # of the sum, and for CUDA and NCCL
STAGES = ("cpt", "sft", "dfpo", "adapter")


@dataclass(frozen=True)
class Job:
    """One stage on so many GPUs. rows: per GPU and pass; DFPO's are answers, two for a pair."""

    stage: str
    gpus: int
    rows: int
    context: int
    checkpointing: bool
    optimizer: str = "adamw"
    ema: bool = False


@dataclass(frozen=True)
class Sizes:
    """What a job's memory follows from."""

    layers: int
    width: int
    mlp_width: int
    vocab: int


@dataclass(frozen=True)
class Moment:
    """Bytes per GPU at one time. beside: on top of what the stage always holds."""

    parts: dict[str, int]
    beside: bool = True


@dataclass(frozen=True)
class Plan:
    """Bytes per GPU, by what they are for: always held, and at each moment."""

    job: Job
    held: dict[str, int]
    moments: tuple[Moment, ...]

    @property
    def parts(self) -> dict[str, int]:
        """Everything by name; moments do not add up."""
        named = dict(self.held)
        for moment in self.moments:
            named |= moment.parts
        return named

    @property
    def total(self) -> int:
        """At the largest moment, with the allowance."""
        held = sum(self.held.values())
        most = max(sum(m.parts.values()) + held * m.beside for m in self.moments)
        return int(most * (1 + ALLOWANCE)) + CONTEXT

    def fits(self, memory: float) -> bool:
        """memory: GiB of one GPU."""
        return self.total <= memory * GIB


def gathered(counts: Counts, gpus: int) -> int:
    """Parameters in use: what is whole while a step runs, besides the shards."""
    return 0 if gpus == 1 else 4 * counts.root + 2 * 2 * counts.layer


def compute(job: Job, sizes: Sizes, counts: Counts, kept: Activations) -> Plan:
    """The plan of one job. counts: of the model as this stage trains it."""
    n, trains = job.gpus, counts.trained
    trained_root = counts.root if trains == counts.total else 0
    matrices = counts.matrices if job.optimizer == "muon" and job.stage != "adapter" else 0
    positions = job.rows * job.context
    flowing = positions * (3 * sizes.mlp_width * 2 + sizes.width * (3 * 2 + 2 * 4))
    one_layer = 0 if n == 1 else (2 + 4) * counts.trained_layer + 4 * trained_root
    step = {
        "step: activations": kept.kept(sizes.layers, job.checkpointing),
        "step: logits, their gradients": 8 * positions * sizes.vocab,
        "step: gradients in flight": flowing + one_layer,
    }
    if n == 1 and job.checkpointing and trains == counts.total:
        # autocast keeps its copies of trained weights until the forward pass is over
        step["step: bf16 copies of weights"] = 2 * counts.layers
    moments = [Moment(step)]
    if job.stage == "dfpo":
        moments.append(Moment(_reference(job, sizes, counts)))
    if job.stage == "adapter" and n > 1:
        moments.append(Moment({"gates: the whole f32 model": 4 * counts.total}, beside=False))
    held = {
        "weights, f32 shards": 4 * counts.total // n,
        "weights in use (bf16 layers, f32 head)": gathered(counts, n),
        "gradients, f32 shards": 4 * trains // n,
        f"optimiser ({job.optimizer})": (8 * trains - 4 * matrices) // n,
        "averaged weights": 4 * trains // n if job.ema else 0,
    }
    return Plan(job, held, tuple(moments))


def _reference(job: Job, sizes: Sizes, counts: Counts) -> dict[str, int]:
    """While the reference's log-probabilities are made, beside the policy."""
    positions = min(ROWS * job.context, max(job.context, pass_tokens(sizes.vocab)))
    return {
        "reference: f32 shards": 4 * counts.total // job.gpus,
        "reference: weights in use": gathered(counts, job.gpus),
        "reference: logits of one pass": (2 + 4 + 4) * positions * sizes.vocab,
        "reference: one layer": positions * (4 * 4 * sizes.width + 3 * 2 * sizes.mlp_width),
    }


class Planner:
    """Plans of one model; what was measured is kept."""

    def __init__(self, build: Build, adapter: AdapterConfig, sizes: Sizes):
        self.build, self.adapter, self.sizes = build, adapter, sizes
        self.base = count(build(None))
        model = build(None)
        attach(model, adapter)
        self.adapted = count(model)
        self._kept: dict[tuple, Activations] = {}

    def plan(self, job: Job) -> Plan:
        """Raises ValueError for a job that cannot be."""
        if job.gpus < 1 or job.rows < 1 or job.context < 1:
            raise ValueError("GPUs, rows and context must be at least 1")
        adapted = job.stage == "adapter"
        key = (adapted, job.gpus > 1, job.rows, job.context)
        if key not in self._kept:
            adapter = self.adapter if adapted else None
            self._kept[key] = activations(
                self.build, job.rows, job.context, adapter, sharded=job.gpus > 1
            )
        counts = self.adapted if adapted else self.base
        return compute(job, self.sizes, counts, self._kept[key])

    def remedies(self, job: Job, memory: float) -> Iterator[str]:
        """What makes a job fit that does not: the cheapest change first, both only together last."""
        least = 2 if job.stage == "dfpo" else 1
        lean = replace(job, checkpointing=True)
        again = "" if job.checkpointing else "--checkpointing "
        if again and self.plan(lean).fits(memory):
            yield again.strip()
            return
        if self.plan(replace(lean, rows=least)).fits(memory):
            yield f"{again}--rows {least} and more of accumulate"
            return
        lean = replace(lean, rows=least)
        muon = replace(lean, optimizer="muon")
        if lean != muon and job.stage != "adapter" and self.plan(muon).fits(memory):
            yield f"{again}--rows {least} and --set {job.stage}.optimizer=muon"
        contexts = [c for c in (4096, 2048, 1024, 512) if c < job.context]
        numbers = [n for n in (2, 4, 8, 16, 32, 64, 128) if n > job.gpus]
        found = False
        for context in contexts:
            if self.plan(replace(lean, context=context)).fits(memory):
                yield f"{again}--rows {least} --context {context}"
                found = True
                break
        for gpus in numbers:
            if self.plan(replace(lean, gpus=gpus)).fits(memory):
                yield f"{again}--rows {least} --gpus {gpus}"
                return
        if found:
            return
        for context, gpus in ((c, n) for c in contexts for n in numbers):
            if self.plan(replace(lean, context=context, gpus=gpus)).fits(memory):
                yield f"{again}--rows {least} --context {context} --gpus {gpus}"
                return


def table(plans: list[Plan], memory: float) -> list[str]:
    """Lines of GiB per GPU, one column for a stage."""
    names = list(dict.fromkeys(name for plan in plans for name in plan.parts))
    names = [name for name in names if any(plan.parts.get(name) for plan in plans)]
    wide = max(map(len, names)) + 2
    lines = [" " * wide + "".join(f"{plan.job.stage:>10}" for plan in plans)]

    def row(name: str, values: list[str]) -> str:
        return f"{name:<{wide}}" + "".join(f"{value:>10}" for value in values)

    lines.append(row("rows x context", [f"{p.job.rows} x {p.job.context}" for p in plans]))
    for name in names:
        values = [plan.parts.get(name, 0) / GIB for plan in plans]
        lines.append(row(name, [f"{value:.2f}" if value else "-" for value in values]))
    lines.append(row("most at once, with allowance", [f"{plan.total / GIB:.2f}" for plan in plans]))
    fits = ["fits" if plan.fits(memory) else "TOO MUCH" for plan in plans]
    lines.append(row(f"of {memory:g} GiB", fits))
    return lines


def source_of(config: Config, base: str | None) -> tuple[Config | dict[str, Any], str]:
    """The model to plan: of a checkpoint's config.json where it is there, else of the preset."""
    if base is not None and (Path(base) / "config.json").is_file():
        from training.models.load import read_config

        return read_config(base), f"{base}/config.json"
    return config, "the preset's config"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="How much memory of each GPU the four stages take, and whether that is there."
    )
    parser.add_argument("--preset", required=True, help="such as baichuan2-7b, or a .toml file")
    parser.add_argument("--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[])
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--memory", type=float, default=80, help="GiB of one GPU (default 80)")
    parser.add_argument("--context", type=int, help="tokens of a row, instead of the preset's")
    parser.add_argument("--rows", type=int, help="rows per GPU and pass, instead of the preset's")
    parser.add_argument(
        "--checkpointing",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compute layers again in the backward pass, instead of what the preset says",
    )
    options = parser.parse_args()
    if options.gpus < 1 or options.memory <= 0:
        parser.error("--gpus and --memory must be positive")
    return options


def jobs(preset: Any, options: argparse.Namespace) -> list[Job]:
    """The stages of a preset, with what the command line changes of them."""
    again = preset.checkpointing if options.checkpointing is None else options.checkpointing
    made = []
    for name in STAGES:
        stage = preset.expert if name == "adapter" else getattr(preset, name)
        rows = options.rows or max(1, stage.rows // (stage.accumulate * options.gpus))
        rows = max(rows, 2) if name == "dfpo" else rows  # whole pairs
        context = options.context or stage.context
        made.append(Job(name, options.gpus, rows, context, again, stage.optimizer, stage.ema > 0))
    return made


def main() -> None:
    from training.presets import load_preset

    options = parse()
    try:
        preset = load_preset(options.preset, options.overrides)
        source, where = source_of(preset.config, preset.base)
        build = builder(source)
        config = build(1).config
        sizes = Sizes(build(None).config.layers, config.width, config.mlp_width, config.vocab)
        planner = Planner(build, preset.adapter, sizes)
        plans = [planner.plan(job) for job in jobs(preset, options)]
    except ValueError as error:
        sys.exit(f"plan: {error}")
    again = plans[0].job.checkpointing
    experts = planner.adapted.trained
    print(
        f"{preset.name}, sizes of {where}: {planner.base.total:,} parameters, adapter {experts:,}"
    )
    gpus = f"{options.gpus} GPU{'s' if options.gpus > 1 else ''}"
    print(f"{gpus}, checkpointing {'on' if again else 'off'}, bf16; GiB per GPU:\n")
    print("\n".join(table(plans, options.memory)))
    if options.gpus > 1:
        host = 4 * planner.base.total * options.gpus / GIB
        print(f"\nWhile loading, all processes of one machine of {options.gpus} GPUs together take")
        print(f"{host:.0f} GiB of its main memory: each holds the f32 model until it is sharded.")
    other = [planner.plan(replace(p.job, checkpointing=not again)) for p in plans]
    each = ", ".join(f"{p.job.stage} {p.total / GIB:.1f}" for p in other)
    print(f"\nWith checkpointing {'off' if again else 'on'}: {each}.")
    for plan in plans:
        if not plan.fits(options.memory):
            ways = list(planner.remedies(plan.job, options.memory))
            print(
                f"{plan.job.stage} would fit with: {'; or '.join(ways) or 'no change known here'}"
            )
    sys.exit(0 if all(plan.fits(options.memory) for plan in plans) else 1)


if __name__ == "__main__":
    main()
