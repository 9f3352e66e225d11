"""Whether the gates of tasks differ, in themselves and in what they do to held-out answers."""

from collections import defaultdict
from itertools import combinations

import numpy as np

Gates = dict[str, dict[str, list[float]]]  # {task: {linear: [g_1 ..]}}


def layer_of(linear: str) -> int:
    """7 of `layers.7.mlp.up_proj`."""
    return int(linear.split(".")[1])


def total_variation(gates: Gates) -> dict[str, list[float]]:
    """{`a / b`: per layer the mean over its linears of 1/2 sum |g_a - g_b|}, for all pairs of tasks."""
    found = {}
    for a, b in combinations(gates, 2):
        layers: defaultdict[int, list[float]] = defaultdict(list)
        for linear, values in gates[a].items():
            apart = np.abs(np.subtract(values, gates[b][linear])).sum() / 2
            layers[layer_of(linear)].append(float(apart))
        found[f"{a} / {b}"] = [float(np.mean(layers[i])) for i in sorted(layers)]
    return found


def share_apart(distances: list[float], least: float) -> float:
    """Share of layers at which two tasks are at least so far apart."""
    return sum(value >= least for value in distances) / max(1, len(distances))
