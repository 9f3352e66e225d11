"""Loss curves as PNG, where matplotlib is installed; without it nothing is drawn and that is said."""

import json
import sys
from pathlib import Path


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def plot_losses(metrics: Path, out: Path) -> list[Path]:
    """One picture per journal in `metrics` -> the files written."""
    try:
        import matplotlib  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("no matplotlib: no loss curves drawn", file=sys.stderr)
        return []
    matplotlib.use("Agg")
    from matplotlib import pyplot  # pyright: ignore[reportMissingImports]

    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path in sorted(metrics.glob("*.jsonl")):
        rows = [row for row in read_rows(path) if "step" in row]
        if not rows:
            continue
        train = [(row["tokens"], row["loss"]) for row in rows if "loss" in row]
        figure, axes = pyplot.subplots(figsize=(7, 4))
        axes.plot(*zip(*train, strict=True), linewidth=0.8, alpha=0.6, label="train")
        valid = [(row["tokens"], row["valid"]) for row in rows if "valid" in row]
        for name in sorted({key for _, numbers in valid for key in numbers}):
            points = [(tokens, numbers[name]) for tokens, numbers in valid if name in numbers]
            axes.plot(
                *zip(*points, strict=True), marker="o", markersize=3, label=f"held out: {name}"
            )
        axes.set(title=path.stem, xlabel="tokens", ylabel="loss (nats per token)")
        axes.legend(fontsize=7)
        figure.tight_layout()
        target = out / f"{path.stem}.png"
        figure.savefig(target, dpi=110)
        pyplot.close(figure)
        written.append(target)
    return written
