"""The one training loop: CPT, SFT, DFPO and the adapter stages differ in data, loss and parameters.

Progress runs from 0 to 1 by step or, where a stage has a budget of seconds, by the clock. A deadline
may stop it at any step: it writes resume.pt, and a later call goes on as if nothing had happened
(weights, optimiser, random state, place in the data).
"""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.presets import StagePreset

CLIP = 1.0
SAVE_SECONDS = 300.0


class StoppedByTime(Exception):
    """The deadline came; what is on disk can be resumed."""


class Deadline:
    """A moment after which work stops cleanly; without seconds it never comes."""

    def __init__(self, seconds: float | None = None):
        self.end = None if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        if self.passed():
            raise StoppedByTime

    def passed(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end

    def left(self) -> float | None:
        return None if self.end is None else max(0.0, self.end - time.monotonic())


@dataclass
class Stage:
    """What the loop needs to know of a stage.

    batch(step, progress) draws the next batch, loss(batch) gives (loss, numbers to log, tokens
    seen), valid() gives held-out numbers.
    """

    name: str
    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    batch: Callable[[int, float], Any]
    loss: Callable[[Any], tuple[Tensor, dict[str, float], int]]
    valid: Callable[[], dict[str, float]]
    data_state: Callable[[], dict] = dict
    load_data_state: Callable[[dict], None] = lambda state: None
    rates: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rates = [[group["lr"] for group in o.param_groups] for o in self.optimizers]


def rate_factor(preset: StagePreset, progress: float) -> float:
    """Linear warm-up from `start`, plateau at 1, linear warm-down to `floor`."""
    if progress < preset.warmup:
        return preset.start + (1 - preset.start) * (progress / preset.warmup)
    if progress > 1 - preset.warmdown:
        left = max(0.0, 1 - progress) / preset.warmdown
        return preset.floor + (1 - preset.floor) * left
    return 1.0


def make_optimizers(
    matrices: list[nn.Parameter], others: list[nn.Parameter], preset: StagePreset, muon: bool
) -> list[torch.optim.Optimizer]:
    """Muon (or AdamW) for the hidden matrices, AdamW without decay for all other parameters."""
    betas = (0.9, 0.95)
    made: list[torch.optim.Optimizer] = []
    if muon:
        made.append(
            torch.optim.Muon(
                matrices,
                lr=preset.lr,
                weight_decay=preset.weight_decay,
                momentum=0.95,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    elif matrices:
        made.append(
            torch.optim.AdamW(
                matrices, lr=preset.lr, betas=betas, weight_decay=preset.weight_decay, fused=True
            )
        )
    if others:
        made.append(
            torch.optim.AdamW(others, lr=preset.lr_other, betas=betas, weight_decay=0.0, fused=True)
        )
    return made


class Clock:
    """Steps, seconds and tokens of a stage over all its sessions."""

    def __init__(self, preset: StagePreset):
        if (preset.steps is None) == (preset.seconds is None):
            raise ValueError("a stage has either steps or seconds")
        self.preset = preset
        self.step = 0
        self.tokens = 0
        self.before = 0.0
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.began

    @property
    def progress(self) -> float:
        if self.preset.steps is not None:
            return self.step / self.preset.steps
        return min(1.0, self.seconds / (self.preset.seconds or math.inf))


class Journal:
    """metrics.jsonl and one line on standard error. A resumed stage forgets what it will redo."""

    def __init__(self, folder: Path, name: str, from_step: int):
        self.path = folder / "metrics.jsonl"
        self.name = name
        kept = []
        if from_step > 0 and self.path.exists():
            lines = self.path.read_text().splitlines()
            kept = [line for line in lines if json.loads(line)["step"] <= from_step]
        self.path.write_text("".join(line + "\n" for line in kept))

    def write(self, row: dict) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = " ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in row.items()
        )
        line = f"{self.name}: {shown}"
        live = sys.stderr.isatty() and "valid" not in row
        sys.stderr.write(f"\r\033[K{line[:160]}" if live else f"{line}\n")
        sys.stderr.flush()


def save_state(stage: Stage, clock: Clock, path: Path) -> None:
    state = {
        "step": clock.step,
        "tokens": clock.tokens,
        "seconds": clock.seconds,
        "model": stage.model.state_dict(),
        "optimizers": [o.state_dict() for o in stage.optimizers],
        "data": stage.data_state(),
        "random": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda_random"] = torch.cuda.get_rng_state()
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_state(stage: Stage, clock: Clock, path: Path) -> None:
    state = torch.load(path, weights_only=True, map_location="cpu")
    stage.model.load_state_dict(state["model"])
    for optimizer, saved in zip(stage.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    stage.load_data_state(state["data"])
    torch.set_rng_state(state["random"])
    if "cuda_random" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda_random"])
    clock.step, clock.tokens, clock.before = state["step"], state["tokens"], state["seconds"]
    clock.began = time.monotonic()


def one_step(stage: Stage, batch: Any, factor: float) -> tuple[float, dict[str, float], int]:
    """Forward, backward, clip, update. Raises FloatingPointError on a loss that is no number."""
    for optimizer, rates in zip(stage.optimizers, stage.rates, strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
    loss, numbers, tokens = stage.loss(batch)
    loss.backward()
    trained = [p for o in stage.optimizers for g in o.param_groups for p in g["params"]]
    numbers["norm"] = float(nn.utils.clip_grad_norm_(trained, CLIP))
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FloatingPointError(f"{stage.name}: the loss is {value}")
    for optimizer in stage.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return value, numbers, tokens


def train(
    stage: Stage, preset: StagePreset, folder: Path, deadline: Deadline, log_every: int = 10
) -> dict:
    """Runs a stage to its end -> {steps, tokens, seconds, loss, valid}; raises StoppedByTime."""
    folder.mkdir(parents=True, exist_ok=True)
    resume = folder / "resume.pt"
    clock = Clock(preset)
    if resume.exists():
        load_state(stage, clock, resume)
        print(f"{stage.name}: resumes at step {clock.step}", file=sys.stderr)
    journal = Journal(folder, stage.name, clock.step)
    stage.model.train()
    saved, last = time.monotonic(), time.monotonic()
    recent: list[float] = []
    counted = clock.tokens
    while (before := clock.progress) < 1:
        if deadline.passed():
            save_state(stage, clock, resume)
            raise StoppedByTime
        factor = rate_factor(preset, before)
        batch = stage.batch(clock.step, before)
        loss, numbers, tokens = one_step(stage, batch, factor)
        clock.step += 1
        clock.tokens += tokens
        recent = [*recent[-49:], loss]
        now = time.monotonic()
        if clock.step % log_every == 0 or clock.step == 1:
            speed = (clock.tokens - counted) / max(1e-9, now - last)
            counted, last = clock.tokens, now
            row = {"step": clock.step, "progress": round(before, 4), "tokens": clock.tokens}
            row |= {"seconds": round(clock.seconds, 1), "loss": loss, **numbers}
            journal.write(row | {"rate": factor, "tokens_per_second": round(speed)})
        after = clock.progress
        if int(after * preset.valid_times) > int(before * preset.valid_times):
            valid = evaluate(stage)
            row = {"step": clock.step, "tokens": clock.tokens, "seconds": round(clock.seconds, 1)}
            journal.write(row | {"valid": valid})
            counted, last = clock.tokens, time.monotonic()
        if now - saved > SAVE_SECONDS:
            save_state(stage, clock, resume)
            saved = time.monotonic()
    return {
        "name": stage.name,
        "steps": clock.step,
        "tokens": clock.tokens,
        "seconds": round(clock.seconds, 1),
        "loss": sum(recent) / max(1, len(recent)),
        "valid": evaluate(stage),
    }


def evaluate(stage: Stage) -> dict[str, float]:
    stage.model.eval()
    with torch.no_grad():
        numbers = stage.valid()
    stage.model.train()
    return {key: round(value, 5) for key, value in numbers.items()}
