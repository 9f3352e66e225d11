"""The numbers of the ablations as a table: means over seeds, and which differences are more than noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

LABELS = {
    "human": "human-written loss",
    "medkqa": "MedKQ&A",
    "evidiag": "EviDiag",
    "trerecom": "TreRecom",
    "general": "general loss",
    "loops": "loops %",
    "ends": "ends %",
    "wrong_gates": "other gates − own",
    "parameters": "trained parameters",
}


@dataclass(frozen=True)
class Difference:
    """Paired by seed: mean and standard deviation of (row − first row), and whether it is clear.

    Clear: every seed has the same sign, and the mean is over twice the standard error.
    """

    mean: float
    deviation: float
    clear: bool


def difference(row: Sequence[float], first: Sequence[float]) -> Difference:
    """Of two rows whose numbers belong to the same seeds. ValueError for different lengths."""
    apart = [a - b for a, b in zip(row, first, strict=True)]
    spread = stdev(apart) if len(apart) > 1 else float("inf")
    same = all(a > 0 for a in apart) or all(a < 0 for a in apart)
    clear = same and abs(mean(apart)) > 2 * spread / len(apart) ** 0.5
    return Difference(mean(apart), spread, clear)


def cell(values: Sequence[float], name: str) -> str:
    if name == "parameters":
        return f"{values[0]:,.0f}"
    digits = 1 if name in ("loops", "ends") else 4
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def table(group: str, rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown of one group. rows: label -> numbers per seed, the same seeds in all rows."""
    names = [name for name in LABELS if any(name in row[0] for row in rows.values())]
    head = ["", *(LABELS[name] for name in names), "human-written loss − first row"]
    lines = [f"**{group}**", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    first = [numbers["human"] for numbers in next(iter(rows.values()))]
    for label, seeds in rows.items():
        cells = [cell([s[n] for s in seeds], n) if n in seeds[0] else "" for n in names]
        mine = [numbers["human"] for numbers in seeds]
        if mine is first or mine == first:
            last = ""
        else:
            apart = difference(mine, first)
            said = "" if apart.clear else " (inside the noise)"
            last = f"{apart.mean:+.4f} ± {apart.deviation:.4f}{said}"
        lines.append("| " + " | ".join([label, *cells, last]) + " |")
    return "\n".join(lines)
