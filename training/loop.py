"""The one training loop: CPT, SFT, DFPO and the adapter stages differ in data, loss and parameters.

Progress runs from 0 to 1 by step or, where a stage has a budget of seconds, by the clock. A deadline
may stop it at any step, and so may `kill -9`: it goes on from resume.pt (weights, optimisers,
averaged weights, place in the data, random state, journal) as if nothing had happened.

A batch is cut into pieces, one or more for every process. The loss of a piece is a mean; it counts by
its weight, the tokens it is a mean of, over the weight of the whole batch. So neither the number of
pieces nor that of processes changes the sum. The random numbers of a piece depend on seed, stage,
step and its place in the batch alone.
"""

import math
import os
import time
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training import distributed
from training.batches import Batch, counted_tokens
from training.journal import Journal
from training.optim import Ema, rate_factor
from training.optim import make_optimizers as make_optimizers
from training.presets import StagePreset

SAVE_SECONDS = 300.0
RECENT = 50  # losses whose mean the summary tells


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

    batch(step, progress) draws the next whole batch, the same on every rank; loss(piece) gives (mean
    loss, numbers to log, tokens seen); weight(piece) says what it is the mean of; valid() gives
    held-out numbers. unit: rows that belong together and stay in one piece (2 for pairs).
    further(step) adds the gradients of this rank's part of a second loss, on rows of its own, and
    gives numbers to log.
    """

    name: str
    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    batch: Callable[[int, float], Batch]
    loss: Callable[[Batch], tuple[Tensor, dict[str, float], int]]
    valid: Callable[[], dict[str, float]]
    data_state: Callable[[], dict] = dict
    load_data_state: Callable[[dict], None] = lambda state: None
    weight: Callable[[Batch], float] = counted_tokens
    unit: int = 1
    further: Callable[[int], dict[str, float]] = lambda step: {}
    seed: int = 0
    rates: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rates = [[group["lr"] for group in o.param_groups] for o in self.optimizers]

    @property
    def trained(self) -> list[nn.Parameter]:
        return [p for o in self.optimizers for group in o.param_groups for p in group["params"]]


class Clock:
    """Steps, seconds and tokens of a stage over all its sessions."""

    def __init__(self, preset: StagePreset):
        if (preset.steps is None) == (preset.seconds is None):
            raise ValueError("a stage has either steps or seconds")
        self.preset = preset
        self.step = 0
        self.tokens = 0
        self.before = 0.0
        self.valids = 0  # how often it was evaluated
        self.recent: list[float] = []
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.began

    @property
    def progress(self) -> float:
        if self.preset.steps is not None:
            return self.step / self.preset.steps
        return min(1.0, self.seconds / (self.preset.seconds or math.inf))

    def forget(self) -> None:
        """The time since the process began does not count: its first step compiles the model, and
        a warm-up of a few seconds would be over before it began."""
        self.began = time.monotonic()

    def state(self) -> dict:
        names = ("step", "tokens", "seconds", "valids", "recent")
        return {name: getattr(self, name) for name in names}

    def load(self, state: dict) -> None:
        self.step, self.tokens, self.before = state["step"], state["tokens"], state["seconds"]
        self.valids, self.recent = state["valids"], list(state["recent"])
        self.began = time.monotonic()


def save_state(stage: Stage, clock: Clock, path: Path, ema: Ema | None = None) -> None:
    """Writes the state beside the old one and then puts it in its place. All ranks call it."""
    state = {
        "clock": clock.state(),
        "model": distributed.gather_weights(stage.model, frozen=False),
        "optimizers": distributed.gather_optimizers(stage.model, stage.optimizers),
        "ema": None if ema is None else ema.state(),
        "data": stage.data_state(),
        "random": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda_random"] = torch.cuda.get_rng_state()
    if distributed.is_main():
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    distributed.wait()


def load_state(stage: Stage, clock: Clock, path: Path, ema: Ema | None = None) -> None:
    """The inverse of `save_state`, in any number of processes."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    if (state["ema"] is None) != (ema is None):
        raise ValueError(
            f"{path}: averaged weights were {'off' if ema else 'on'} when it was saved"
        )
    distributed.scatter(stage.model, stage.optimizers, state["model"], state["optimizers"])
    if ema is not None:
        ema.load(state["ema"])
    stage.load_data_state(state["data"])
    torch.set_rng_state(state["random"])
    if "cuda_random" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda_random"])
    clock.load(state["clock"])


def check_pieces(stage: Stage, preset: StagePreset) -> int:
    """Pieces of a batch over all processes; ValueError where its rows do not divide into them."""
    pieces = preset.accumulate * distributed.world()
    if preset.rows % (pieces * stage.unit):
        raise ValueError(
            f"{stage.name}: {preset.rows} rows do not divide into {distributed.world()} processes "
            f"with {preset.accumulate} pieces each of whole {stage.unit}-row units"
        )
    return pieces


def one_step(
    stage: Stage,
    batch: Batch,
    factor: float,
    preset: StagePreset | None = None,
    step: int = 0,
) -> tuple[float, dict[str, float], int]:
    """Forward, backward, clip, update -> (loss of the whole batch, numbers, tokens).

    Raises FloatingPointError, before anything is updated, on a loss or gradient that is no number.
    """
    clip, accumulate = (preset.clip, preset.accumulate) if preset is not None else (1.0, 1)
    for optimizer, rates in zip(stage.optimizers, stage.rates, strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
    ranks = distributed.world()
    pieces = batch.split(accumulate * ranks)
    weights = [stage.weight(piece) for piece in pieces]
    whole = sum(weights)
    if whole == 0:
        raise ValueError(f"{stage.name}, step {step}: no token of the batch counts")
    sums: dict[str, float] = {"loss": 0.0, "tokens": 0.0}
    first = distributed.rank() * accumulate
    for place in range(first, first + accumulate):
        seeds = (stage.seed, zlib.crc32(stage.name.encode()), step, place)
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> 1))
        share = weights[place] / whole
        loss, numbers, tokens = stage.loss(pieces[place])
        # gradients are averaged over the ranks, but this loss is its share of a sum
        (loss if share * ranks == 1 else loss * (share * ranks)).backward()
        sums["loss"] += share * float(loss.detach())
        sums["tokens"] += tokens
        for key, value in numbers.items():
            sums[key] = sums.get(key, 0.0) + share * value
    for key, value in stage.further(step).items():
        sums[key] = value / ranks
    sums = dict(zip(sums, distributed.total(list(sums.values())), strict=True))
    norm = nn.utils.clip_grad_norm_(stage.trained, clip if clip > 0 else math.inf)
    sums["norm"] = float(distributed.whole(norm))
    value, tokens = sums.pop("loss"), int(sums.pop("tokens"))
    for what, number in (("loss", value), ("norm of the gradient", sums["norm"])):
        if not math.isfinite(number):
            raise FloatingPointError(
                f"{stage.name}, step {step}: the {what} is {number}; try a lower learning rate, "
                "or bf16 = false"
            )
    for optimizer in stage.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return value, sums, tokens


def train(
    stage: Stage,
    preset: StagePreset,
    folder: Path,
    deadline: Deadline,
    log_every: int = 10,
    save_seconds: float = SAVE_SECONDS,
) -> dict:
    """Runs a stage to its end -> {name, steps, tokens, seconds, loss, valid}; raises StoppedByTime.

    With averaged weights (`preset.ema`) those are evaluated and, at the end, left in the model.
    """
    check_pieces(stage, preset)
    if distributed.world() > 1 and not distributed.is_sharded(stage.trained):
        raise ValueError(f"{stage.name}: its model was not sharded before its optimisers were made")
    folder.mkdir(parents=True, exist_ok=True)
    resume = folder / "resume.pt"
    clock = Clock(preset)
    ema = Ema(stage.model, preset.ema) if preset.ema > 0 else None
    if resume.exists():
        load_state(stage, clock, resume, ema)
        distributed.say(f"{stage.name}: resumes at step {clock.step}")
    journal = Journal(folder, stage.name, clock.step)
    stage.model.train()
    saved = last = time.monotonic()
    logged, valid, warm = clock.tokens, None, False
    try:
        while True:
            now = clock.progress
            stopping = now < 1 and deadline.passed()
            due = clock.step > 0 and time.monotonic() - saved >= save_seconds
            now, stop, save = distributed.agree([now, float(stopping), float(due)])
            if int(now * preset.valid_times) > clock.valids:
                clock.valids = int(now * preset.valid_times)
                valid = evaluate(stage, ema)
                row = {"step": clock.step, "tokens": clock.tokens}
                journal.write(row | {"seconds": round(clock.seconds, 1), "valid": valid})
                logged, last = clock.tokens, time.monotonic()
            if now >= 1:
                break
            if stop or save:
                save_state(stage, clock, resume, ema)
                saved = time.monotonic()
            if stop:
                raise StoppedByTime
            factor = rate_factor(preset, now)
            batch = stage.batch(clock.step, now)
            loss, numbers, tokens = one_step(stage, batch, factor, preset, clock.step)
            if ema is not None:
                ema.update()
            valid = None
            clock.step += 1
            if not warm:
                clock.forget()
                warm = True
            clock.tokens += tokens
            clock.recent = [*clock.recent[1 - RECENT :], loss]
            if clock.step % log_every == 0 or clock.step == 1:
                speed = (clock.tokens - logged) / max(1e-9, time.monotonic() - last)
                logged, last = clock.tokens, time.monotonic()
                row = {"step": clock.step, "progress": round(now, 4), "tokens": clock.tokens}
                row |= {"seconds": round(clock.seconds, 1), "loss": loss, **numbers}
                journal.write(row | {"rate": factor, "tokens_per_second": round(speed)})
    finally:
        journal.close()
    if valid is None:
        valid = evaluate(stage, ema)
    if ema is not None:
        ema.keep()
    return {
        "name": stage.name,
        "steps": clock.step,
        "tokens": clock.tokens,
        "seconds": round(clock.seconds, 1),
        "loss": sum(clock.recent) / max(1, len(clock.recent)),
        "valid": valid,
    }


def evaluate(stage: Stage, ema: Ema | None = None) -> dict[str, float]:
    """Held-out numbers, of the averaged weights where there are some."""
    stage.model.eval()
    with torch.no_grad(), nullcontext() if ema is None else ema.applied():
        numbers = stage.valid()
    stage.model.train()
    return {key: round(value, 5) for key, value in numbers.items()}
