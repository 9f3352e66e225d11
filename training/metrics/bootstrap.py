"""Percentile bootstrap over items (Efron 1979): how far a number would move with other items."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

SAMPLES = 2000
LEVEL = 0.95
CHUNK = 2_000_000  # resampled indices held at once


@dataclass(frozen=True)
class Interval:
    """A number with the bounds between which the middle `LEVEL` of its resamples lie."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {name: round(value, 6) for name, value in asdict(self).items()}


def ratio_interval(
    numerators: ArrayLike, denominators: ArrayLike, seed: int = 0, samples: int = SAMPLES
) -> Interval:
    """Interval of sum(numerators) / sum(denominators); whole items are drawn with replacement.

    numerators, denominators: (N,) per item. Raises ValueError without items, for different lengths
    and where the denominators sum to 0.
    """
    above = np.asarray(numerators, np.float64)
    below = np.asarray(denominators, np.float64)
    if above.ndim != 1 or above.shape != below.shape or len(above) == 0:
        raise ValueError(f"one number above and below per item, got {above.shape}, {below.shape}")
    if below.sum() == 0:
        raise ValueError("the denominators sum to 0")
    random = np.random.default_rng(seed)
    count = len(above)
    found: list[np.ndarray] = []
    left = samples
    while left > 0:
        take = min(left, max(1, CHUNK // count))
        drawn = random.integers(0, count, (take, count))
        sums = below[drawn].sum(1)
        good = sums != 0  # a resample of nothing but empty items says nothing
        found.append(above[drawn].sum(1)[good] / sums[good])
        left -= take
    low, high = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(above.sum() / below.sum()), float(low), float(high))


def mean_interval(values: ArrayLike, seed: int = 0, samples: int = SAMPLES) -> Interval:
    """Interval of the mean of values (N,)."""
    values = np.asarray(values, np.float64)
    return ratio_interval(values, np.ones_like(values), seed, samples)
