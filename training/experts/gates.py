"""Gates per task: measured from a router, started, written down, and compared between tasks."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.distributed import whole
from training.experts.attach import adapted, set_mode, watch
from training.experts.linear import AdapterConfig


@torch.no_grad()
def mean_gates(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor | None, Tensor, Tensor]],
    tasks: int,
) -> dict[str, Tensor]:
    """Mean of the router's gates per task: {linear: (tasks, S)}.

    batches: (tokens (B, T), segments (B, T) or None, tasks (B,), counted (B, T) bool). Raises
    ValueError when some task has no counted token.
    """
    was_training = model.training
    model.eval()
    sums = {name: torch.zeros(tasks, m.config.specific) for name, m in adapted(model)}
    counts = torch.zeros(tasks)
    watch(model, True)
    for tokens, segments, rows, counted in batches:
        model.hidden(tokens, segments, rows)  # type: ignore[operator]
        for name, module in adapted(model):
            g = module.seen.pop()
            g = g.expand(-1, tokens.shape[1], -1)
            for row, task in enumerate(rows.tolist()):
                sums[name][task] += g[row, counted[row]].sum(0).cpu()
        for row, task in enumerate(rows.tolist()):
            counts[task] += counted[row].sum().item()
    watch(model, False)
    model.train(was_training)
    if (counts == 0).any():
        raise ValueError("no tokens of some task to measure its gates on")
    return {name: total / counts[:, None] for name, total in sums.items()}


@torch.no_grad()
def start_finish(model: nn.Module, means: dict[str, Tensor], spread: float = 0.0) -> None:
    """Replaces the router by constant gates per task that start at the measured means.

    The means hardly differ between tasks. `spread` is added to one gate logit of every task, a
    different one for each while there are enough experts, so that the experts have a reason to part.
    """
    for name, module in adapted(model):
        logits = means[name].clamp_min(1e-6).log()
        module.gate_logits.copy_(_apart(logits, spread))
    set_mode(model, "task")


@torch.no_grad()
def spread_gates(model: nn.Module, spread: float) -> None:
    """Gates per task from the start: each task leans to an expert of its own, and no router is used.

    Without a spread all tasks would have the same gates, and so the same gradients for every expert
    but for the draw of A.
    """
    for _, module in adapted(model):
        module.gate_logits.copy_(_apart(torch.zeros_like(module.gate_logits), spread))
    set_mode(model, "task")


def _apart(logits: Tensor, spread: float) -> Tensor:
    """(tasks, S) -> the same with `spread` on the logit that each task leans to."""
    for task, row in enumerate(logits):
        if len(row):
            row[task % len(row)] += spread
    return logits


@torch.no_grad()
def task_gate_means(model: nn.Module) -> dict[str, Tensor]:
    """The gates per task themselves: {linear: (tasks, S)}, what `gate_statistics` takes."""
    return {
        name: whole(module.gate_logits.detach()).float().softmax(-1).cpu()
        for name, module in adapted(model)
    }


def task_gates(model: nn.Module, config: AdapterConfig) -> dict[str, dict[str, list[float]]]:
    """{task: {linear: [g_1 ..]}}, each list summing to 1."""
    logits = {name: whole(m.gate_logits.detach()).double().cpu() for name, m in adapted(model)}
    return {
        task: {name: rows[i].softmax(-1).tolist() for name, rows in logits.items()}
        for i, task in enumerate(config.tasks)
    }


@dataclass(frozen=True)
class GateStatistics:
    """Gates per task and layer, and how far tasks are apart.

    gates: (tasks, L, S), means over the adapted linears of a layer, for a heatmap.
    variation: (L, tasks, tasks), the total variation (half the sum of absolute differences) between
    the gates of two tasks, taken per linear and then averaged over the layer's linears: averaging
    the gates first would hide linears that differ in opposite ways.
    """

    gates: Tensor
    variation: Tensor

    def least(self) -> Tensor:
        """(L,) variation of the two tasks that are nearest to each other in a layer."""
        tasks = self.variation.shape[1]
        pairs = torch.triu_indices(tasks, tasks, 1)
        return self.variation[:, pairs[0], pairs[1]].amin(-1)

    def layers_apart(self, threshold: float = 0.1) -> float:
        """Share of the layers in which every two tasks differ by at least `threshold`."""
        return float((self.least() >= threshold).float().mean())


def gate_statistics(means: dict[str, Tensor]) -> GateStatistics:
    """Statistics of {`layers.0.mlp.gate_proj`: (tasks, S)}, by `mean_gates` or `task_gate_means`."""
    layers: dict[int, list[Tensor]] = {}
    for name, gates in means.items():
        layers.setdefault(int(name.split(".")[1]), []).append(gates.float())
    if not layers:
        raise ValueError("no adapted linears to take gate statistics of")
    stacked = [torch.stack(layers[number]) for number in sorted(layers)]  # each (linears, tasks, S)
    gates = torch.stack([layer.mean(0) for layer in stacked], 1)
    apart = [(t[:, :, None] - t[:, None]).abs().sum(-1).mean(0) / 2 for t in stacked]
    return GateStatistics(gates, torch.stack(apart))
