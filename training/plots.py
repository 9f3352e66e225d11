"""The report's pictures. Labels are English: not every machine has a font with Chinese characters.

Without matplotlib nothing is drawn, and that is said once.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

DPI = 110
SHARE, LEAST = 20, 5  # a running mean takes one of so many logged losses, and at least so many
RUNNING = f"training, mean of the last 1/{SHARE} of its logged steps, at least {LEAST} of them"
COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#7f7f7f")


@cache
def pyplot() -> Any:
    """matplotlib.pyplot without a screen, or None (said once) where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: the report has no pictures", file=sys.stderr)
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot as found

    return found


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    pyplot().close(figure)
    return path


def _legend_below(figure: Any, axes: Any) -> None:
    """One legend for all panels, where it covers nothing."""
    handles = {
        label: handle
        for ax in axes.flat
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)


def _legend_under(ax: Any) -> None:
    """A panel's own legend under its axis, where it covers nothing."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=7)


def smoothed(values: Sequence[float], window: int) -> np.ndarray:
    """Mean over the last `window` values at each place."""
    sums = np.cumsum(np.concatenate(([0.0], np.asarray(values, np.float64))))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


def window_of(rows: int) -> int:
    """How many logged losses a running mean takes: a fixed share of a stage's, at least LEAST."""
    return max(LEAST, round(rows / SHARE))


def loss_unit(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a stage's training loss is in: DFPO's holds the preference term beside the likelihood."""
    if any("nll" in row for row in rows):
        return "training: preference + likelihood\nheld out: nats per token"
    return "loss, nats per token"


def plot_losses(journals: Mapping[str, Sequence[dict]], path: Path) -> Path | None:
    """One panel per stage: the training loss and every held-out loss over the tokens read.

    journals: rows of metrics.jsonl by stage. None where there is nothing to draw.
    """
    rows = {name: [r for r in journal if "loss" in r] for name, journal in journals.items()}
    names = [name for name in journals if rows[name]]
    if pyplot() is None or not names:
        return None
    kinds = [kind for name in names for row in journals[name] for kind in row.get("valid") or ()]
    colours = dict(zip(dict.fromkeys(kinds), COLOURS * 3, strict=False))
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure, axes = pyplot().subplots(
        lines, columns, figsize=(4.4 * columns, 3.4 * lines), squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for name, ax in zip(names, axes.flat, strict=False):
        tokens = [row["tokens"] for row in rows[name]]
        losses = [row["loss"] for row in rows[name]]
        smooth = smoothed(losses, window_of(len(losses)))
        ax.plot(tokens, losses, color="#bbbbbb", linewidth=0.6)
        ax.plot(tokens, smooth, color="black", linewidth=1.2, label=RUNNING)
        valid = [(row["tokens"], row["valid"]) for row in journals[name] if row.get("valid")]
        for kind, colour in colours.items():
            points = [(at, numbers[kind]) for at, numbers in valid if kind in numbers]
            if points:
                label = f"held out: {kind}"
                ax.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3, label=label)
        ax.set(title=name, xlabel="tokens")
        ax.set_ylabel(loss_unit(rows[name]), fontsize=8)
        ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
        ax.grid(alpha=0.25)
    _legend_below(figure, axes)
    return _save(figure, path)


def plot_bars(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path, best: Mapping[str, str]
) -> Path | None:
    """One panel per measure: groups of bars per task, one bar per system.

    panels: {measure: {system: {task: value}}}. best: {measure: "higher is better"}.
    """
    panels = {name: systems for name, systems in panels.items() if systems}
    if pyplot() is None or not panels:
        return None
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = pyplot().subplots(
        lines, columns, figsize=(5.6 * columns, 3.2 * lines), squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    order = list(dict.fromkeys(name for systems in panels.values() for name in systems))
    colours = dict(zip(order, COLOURS * 3, strict=False))
    for (measure, systems), ax in zip(panels.items(), axes.flat, strict=False):
        tasks = list(dict.fromkeys(task for values in systems.values() for task in values))
        width = 0.84 / len(systems)
        for i, (name, values) in enumerate(systems.items()):
            at = [tasks.index(task) - 0.42 + (i + 0.5) * width for task in values]
            ax.bar(at, list(values.values()), width, color=colours[name], label=name)
        ax.set_xticks(range(len(tasks)), tasks)
        ax.set_title(f"{measure} ({best.get(measure, '')})", fontsize=10)
        ax.grid(axis="y", alpha=0.25)
        ax.set_axisbelow(True)
    _legend_below(figure, axes)
    return _save(figure, path)


def plot_gates(gates: Mapping[str, np.ndarray], path: Path, title: str) -> Path | None:
    """One heatmap per specific expert, tasks down and layers across.

    gates: {task: (layers, E - 1)}, the mean over the adapted linears of each layer.
    """
    if pyplot() is None or not gates:
        return None
    tasks = list(gates)
    layers, experts = next(iter(gates.values())).shape
    figure, axes = pyplot().subplots(
        1,
        experts,
        figsize=(1.6 + max(2.2, 0.46 * layers) * experts, 1.5 + 0.42 * len(tasks)),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    image = None
    for expert, ax in enumerate(axes[0]):
        values = np.stack([gates[task][:, expert] for task in tasks])
        image = ax.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for row in range(len(tasks)):
            for layer in range(layers):
                value = values[row, layer]
                colour = "white" if value < 0.6 else "black"
                text = f"{value:.2f}".removeprefix("0")
                ax.text(layer, row, text, ha="center", va="center", fontsize=7, color=colour)
        ax.set_xticks(range(layers))
        ax.set(title=f"specific expert {expert + 1}", xlabel="layer")
    axes[0, 0].set_yticks(range(len(tasks)), tasks)
    figure.colorbar(image, ax=axes, label="gate")
    figure.suptitle(title, fontsize=10)
    return _save(figure, path)


def plot_corpus(
    lengths: Mapping[str, Sequence[int]], removed: Mapping[str, Mapping[str, float]], path: Path
) -> Path | None:
    """Lengths of answers by task and kind, and per source the share that went as a duplicate.

    lengths: {name: characters of each answer}. removed: {source: {reason: share of its records}}.
    """
    if pyplot() is None or not (lengths or removed):
        return None
    rows = max(3.6, 0.24 * len(removed) + 1.2)
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(11, rows), layout="constrained")
    edges = np.arange(0, 401, 20)
    for i, (name, values) in enumerate(lengths.items()):
        counts, _ = np.histogram(np.clip(values, 0, 399), edges)
        style = "--" if name.endswith("templated") else "-"
        share = counts / max(1, len(values))
        left.stairs(share, edges, color=COLOURS[i // 2 % 8], linestyle=style, label=name)
    left.set(
        title="Length of answers, training split (400: and more)",
        xlabel="characters",
        ylabel="share of answers",
    )
    _legend_under(left)
    left.grid(alpha=0.25)
    if not removed:
        right.set_axis_off()
        right.text(0.5, 0.5, "no duplicates named", ha="center", transform=right.transAxes)
        return _save(figure, path)
    reasons = list(dict.fromkeys(reason for shares in removed.values() for reason in shares))
    start = np.zeros(len(removed))
    for reason, colour in zip(reasons, COLOURS * 3, strict=False):
        share = np.array([100 * shares.get(reason, 0.0) for shares in removed.values()])
        right.barh(range(len(removed)), share, left=start, color=colour, label=reason)
        start += share
    right.set_yticks(range(len(removed)), list(removed), fontsize=7)
    right.invert_yaxis()
    right.set(title="Duplicates removed, by source", xlabel="% of the source's records")
    _legend_under(right)
    right.grid(axis="x", alpha=0.25)
    right.set_axisbelow(True)
    return _save(figure, path)
