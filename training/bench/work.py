"""Runs one stage of the real pipeline for a while and says what a step took. For a process of its own:
peak memory is the process's."""

import contextlib
import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from training.bench.flops import adapter_flops, full_flops
from training.bench.peak import best_of, matmul_peak
from training.bench.rows import rows_of, write_rows
from training.loop import Deadline, StoppedByTime
from training.presets import Preset
from training.stages.common import Run, save_model

STAGES = ("cpt", "sft", "dfpo", "adapter")
FIELD = {"cpt": "cpt", "sft": "sft", "dfpo": "dfpo", "adapter": "expert"}  # of the preset
WARM = 4  # steps that are not counted: compiling, first touches of memory


class Watch(Deadline):
    """A deadline that notes when every step began and comes `seconds` after the warm-up."""

    def __init__(self, seconds: float, device: torch.device):
        super().__init__()
        self.seconds, self.device = seconds, device
        self.began: list[float] = []
        self.processor: list[float] = []  # seconds of this process, all threads

    def passed(self) -> bool:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.began.append(time.perf_counter())
        self.processor.append(time.process_time())
        counted = self.began[WARM:]
        return len(counted) > 1 and counted[-1] - counted[0] >= self.seconds


@dataclass(frozen=True)
class Measured:
    """One stage on one machine."""

    stage: str
    rows: int
    compiled: bool
    dtype: str
    threads: int
    steps: int
    tokens_per_second: float
    flops_per_token: float
    flops_per_second: float
    peak: float  # FLOP/s of a large square matmul of the same dtype, measured around the steps
    utilisation: float  # flops_per_second / peak
    busy_utilisation: float | None  # the same per second of processor time: beside other programs
    seconds_per_step: float
    first_step_seconds: float  # with compiling
    memory_bytes: int  # CPU: most resident memory of the process; GPU: most allocated


def flops_of(preset: Preset, stage: str) -> int:
    """FLOPs of one step on the rows that `write_rows` makes."""
    rows = rows_of(preset, stage)
    if stage == "adapter":
        router = preset.gate_start == "router"
        return adapter_flops(preset.config, rows, preset.adapter, router)
    return full_flops(preset.config, rows)


def stage_function(stage: str) -> Callable[[Run], None]:
    from training.stages import adapter, cpt, dfpo, sft

    return {"cpt": cpt.cpt, "sft": sft.sft, "dfpo": dfpo.dfpo, "adapter": adapter.first}[stage]


def only_bench(preset: Preset, stage: str, rows: int | None) -> Preset:
    """The preset with endless stages, nothing but steps in them, and a line for every step.

    The adapter's steps are those of its likelihood: the preference term reads the model's own answers.
    """
    part = replace(getattr(preset, FIELD[stage]), steps=10**9, seconds=None, valid_times=0)
    if rows is not None:
        part = replace(part, rows=rows)
    quiet = {"valid_rows": 1, "log_every": 1, "save_seconds": 1e9}
    quiet |= {"own_rejected": 0, "preference": 0.0}
    return replace(preset, **quiet, **{FIELD[stage]: part})


def measure(
    preset: Preset,
    stage: str,
    seconds: float,
    rows: int | None = None,
    sizes: tuple[int, ...] | None = None,
) -> Measured:
    """Steps of one stage on made-up rows, for `seconds` after the warm-up. sizes: of the peak's
    matrices, None for those of the device.

    ValueError for a stage that does not exist; a stage's own errors come through.
    """
    if stage not in STAGES:
        raise ValueError(f"no stage {stage}: expected one of {', '.join(STAGES)}")
    preset = only_bench(preset, stage, rows)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        run = Run(preset, out, Deadline())
        watch = Watch(seconds, run.device)
        run.deadline = watch
        dtype = torch.bfloat16 if preset.bf16 else torch.float32
        before = matmul_peak(run.device, dtype, sizes=sizes)
        write_rows(preset, run.packed)
        start = run.new_model()
        for name in ("cpt", "sft", "dfpo"):
            if name != stage:
                save_model(start, run.folder(name) / "model.safetensors")
        del start
        if run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(run.device)
        began = time.perf_counter()
        # the stage's own lines are of no use here: every step writes one
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(StoppedByTime):
            stage_function(stage)(run)
        memory = memory_peak(run.device)
        peak = best_of(before, matmul_peak(run.device, dtype, sizes=sizes))
        tokens = journal_tokens(run.folder(stage) / "metrics.jsonl")
    steps = len(watch.began) - 1 - WARM
    if steps < 1:
        raise ValueError(f"{stage}: not one step in {seconds} s after the warm-up")
    took = watch.began[-1] - watch.began[WARM]
    read = tokens[WARM + steps - 1] - tokens[WARM - 1]
    flops = flops_of(preset, stage) * steps
    busy = watch.processor[-1] - watch.processor[WARM]
    return Measured(
        stage=stage,
        rows=getattr(preset, FIELD[stage]).rows,
        compiled=preset.compile,
        dtype=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        steps=steps,
        tokens_per_second=read / took,
        flops_per_token=flops / read,
        flops_per_second=flops / took,
        peak=peak.wall,
        utilisation=flops / took / peak.wall,
        busy_utilisation=flops / busy / peak.busy if run.device.type == "cpu" else None,
        seconds_per_step=took / steps,
        first_step_seconds=watch.began[1] - began,
        memory_bytes=memory,
    )


def journal_tokens(path: Path) -> list[int]:
    """Tokens that the stage had read after step 1, 2, ..."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["tokens"] for row in rows if "loss" in row]


def memory_peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
