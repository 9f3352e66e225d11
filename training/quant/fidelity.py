"""How near a model is to a reference on held-out answers: loss, KL divergence, same first token."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.base import Base
from training.batches import TASKS, Batch, fixed_batches
from training.stages.common import Run

ROWS = 2  # in a batch
NEEDED = 0.03  # nats: from this difference in loss on, a quantisation-aware finish follows


def held_out(run: Run, split: str, rows: int) -> dict[str, list[Batch]]:
    return {
        task: fixed_batches(run.packed, f"sft-{task}.{split}", ROWS, rows, run.device)
        for task in TASKS
    }


def answer_log_probs(run: Run, model: Base, batch: Batch) -> Tensor:
    """(n, V) log-probabilities at the answer tokens, f32."""
    hidden = model.hidden(batch.tokens, batch.segments, batch.tasks)[batch.answers]
    return model.lm_head(hidden).float().log_softmax(-1)


@dataclass
class Comparison:
    """Sums over a task's rows, and the difference in loss of each row for its error."""

    tokens: int = 0
    reference: float = 0.0
    loss: float = 0.0
    kl: float = 0.0
    top1: int = 0

    def add(self, p: Tensor, q: Tensor, targets: Tensor) -> None:
        """p: reference, q: quantised, both log-probabilities (n, V)."""
        self.tokens += len(targets)
        self.reference += float(F.nll_loss(p, targets, reduction="sum"))
        self.loss += float(F.nll_loss(q, targets, reduction="sum"))
        self.kl += float(F.kl_div(q, p, log_target=True, reduction="sum"))
        self.top1 += int((p.argmax(-1) == q.argmax(-1)).sum())

    def numbers(self) -> dict[str, float]:
        count = max(1, self.tokens)
        values = {
            "loss": self.loss / count,
            "delta_loss": (self.loss - self.reference) / count,
            "kl": self.kl / count,
            "top1": self.top1 / count,
        }
        return {"answer_tokens": self.tokens} | {k: round(v, 6) for k, v in values.items()}


@torch.no_grad()
def measure(
    run: Run, reference: Base, model: Base, rows: dict[str, list[Batch]]
) -> dict[str, dict[str, float]]:
    """{task: numbers} of a quantised model against the reference. ValueError without answers."""
    found = {}
    for task, batches in rows.items():
        sums = Comparison()
        for batch in batches:
            run.deadline.check()
            targets = batch.targets[batch.answers]
            if len(targets):
                p = answer_log_probs(run, reference, batch)
                sums.add(p, answer_log_probs(run, model, batch), targets)
        if sums.tokens == 0:
            raise ValueError(f"{task}: no held-out answers to measure the quantised model on")
        found[task] = sums.numbers()
    return found


def mean(numbers: dict[str, dict[str, float]], what: str) -> float:
    return sum(task[what] for task in numbers.values()) / len(numbers)


def choose(table: dict[str, dict[str, dict[str, float]]], slack: float = 5e-4) -> str:
    """The method with the least mean loss; of those within `slack` nats, the one with the least KL.

    The loss of a few thousand answer tokens is uncertain by about as much as good methods differ; KL,
    which compares whole distributions, is not.
    """
    least = min(mean(numbers, "delta_loss") for numbers in table.values())
    near = [name for name in table if mean(table[name], "delta_loss") <= least + slack]
    return min(near, key=lambda name: mean(table[name], "kl"))


def needed(numbers: dict[str, dict[str, float]]) -> bool:
    """Whether a quantisation-aware finish is called for: {task: numbers} as `measure` gives them."""
    worst = max(task["delta_loss"] for task in numbers.values())
    if math.isnan(worst):
        raise ValueError("the quantised model's loss is no number")
    return worst > NEEDED
