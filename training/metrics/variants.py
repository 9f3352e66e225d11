"""The exported adapter in its variants: losses, divergences, and each task under all gates.

Losses are nats per answer token on packed held-out rows. KL(p || q) is the mean over the same positions
of sum p log(p / q); top-1 is how often both put the same token first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.base import Base
from training.batches import TASKS, Batch, fixed_batches
from training.experts import set_mode
from training.metrics.likelihood import divergence
from training.stages.common import Run

BATCH_ROWS = 2


@dataclass
class Sums:
    """Running means over answer tokens."""

    tokens: int = 0
    totals: dict[str, float] = field(default_factory=dict)

    def add(self, count: int, **values: Tensor | float) -> None:
        self.tokens += count
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + float(value)

    def means(self) -> dict[str, float]:
        return {name: total / max(1, self.tokens) for name, total in self.totals.items()}


def log_probs(model: Base, batch: Batch, mode: str, task: int) -> Tensor:
    """(N, V) at the answer tokens, with the adapter in a mode and under the gates of a task."""
    set_mode(model, mode)
    tasks = torch.full((len(batch.tokens),), task, device=batch.tokens.device)
    hidden = model.hidden(batch.tokens, batch.segments, tasks)[batch.answers]
    return model.lm_head(hidden).float().log_softmax(-1)


def _loss(p: Tensor, batch: Batch) -> Tensor:
    return F.nll_loss(p, batch.targets[batch.answers], reduction="sum")


def _over(run: Run, name: str, work: Callable[[Batch, int], None]) -> None:
    """Calls work(batch, answer tokens) for the first rows of a packed set."""
    for batch in fixed_batches(run.packed, name, BATCH_ROWS, run.preset.test_rows, run.device):
        run.deadline.check()
        count = int(batch.answers.sum())
        if count:
            work(batch, count)


def measured_set(run: Run, task: int, split: str) -> str:
    """The packed held-out rows that people wrote, or all of them where there are none."""
    human = f"human-{TASKS[task]}.{split}"
    path = run.packed / f"{human}.tokens.npy"
    if path.exists() and len(np.load(path, mmap_mode="r")):
        return human
    return f"sft-{TASKS[task]}.{split}"


@torch.no_grad()
def gate_losses(run: Run, merged: Base, task: int, split: str) -> dict[str, float]:
    """Loss of one task's held-out rows under the gates of every task."""
    sums = Sums()

    def work(batch: Batch, count: int) -> None:
        under = {
            name: _loss(log_probs(merged, batch, "task", i), batch) for i, name in enumerate(TASKS)
        }
        sums.add(count, **under)

    _over(run, measured_set(run, task, split), work)
    set_mode(merged, "task")
    return sums.means()


@torch.no_grad()
def compare(run: Run, models: dict[str, Base], task: int) -> dict:
    """Every variant on the test rows of one task: losses, KL and agreement, gates of other tasks.

    Rows that people wrote, where there are some: what is templated says little about gates.

    models: `merged` and `device` with gates per task, `routed` with a token router.
    """
    losses, against = Sums(), Sums()

    def work(batch: Batch, count: int) -> None:
        merged = log_probs(models["merged"], batch, "task", task)
        others = {
            "routed": log_probs(models["routed"], batch, "token", task),
            "universal": log_probs(models["merged"], batch, "universal", task),
            "none": log_probs(models["merged"], batch, "none", task),
            "device": log_probs(models["device"], batch, "task", task),
        }
        losses.add(count, merged=_loss(merged, batch))
        losses.add(0, **{name: _loss(other, batch) for name, other in others.items()})
        numbers = {}
        for name, other in others.items():
            # the reference comes first: the router that merging replaces, else the merged model
            pair = (other, merged) if name == "routed" else (merged, other)
            numbers[f"{name}_kl"], numbers[f"{name}_top1"] = divergence(*pair)
        found = divergence(others["routed"], others["device"])
        numbers["device_routed_kl"], numbers["device_routed_top1"] = found
        against.add(count, **numbers)

    _over(run, measured_set(run, task, "test"), work)
    for model in models.values():
        set_mode(model, "token" if model is models["routed"] else "task")
    return {
        "answer_tokens": losses.tokens,
        "loss": losses.means(),
        "against": against.means(),
        "gates": gate_losses(run, models["merged"], task, "test"),
        "gates_valid": gate_losses(run, models["merged"], task, "valid"),
    }


def verdict(tasks: dict[str, dict]) -> list[str]:
    """What the numbers say against the adapter, in plain words. Empty: nothing."""
    found = []
    for task, numbers in tasks.items():
        loss, gates = numbers["loss"], numbers["gates"]
        if loss["merged"] >= loss["none"]:
            found.append(f"{task}: the adapter changes nothing for the better")
        elif loss["merged"] >= loss["universal"]:
            found.append(f"{task}: the universal expert alone does as well")
        for other, value in gates.items():
            if other != task and value <= gates[task]:
                found.append(f"{task}: the gates of {other} do as well or better")
    return found
