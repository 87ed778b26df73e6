"""Estimates with their intervals: every figure is a value, a 95% interval, a sample size and a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from scorers.calibration.thresholds import Share

Floats = NDArray[np.float64]
_RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """One reported number; `n` counts `of`, the units that the interval treats as independent."""

    value: float
    low: float
    high: float
    n: int
    of: str
    seed: int

    def as_dict(self) -> dict[str, float | int | str]:
        """For JSON, rounded to four places."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def share(hits: int, total: int, of: str, seed: int) -> Figure:
    """A share with its Wilson score interval (Wilson, 1927)."""
    if total == 0:
        raise ValueError(f"no {of} to take a share of")
    found = Share(hits, total)
    return Figure(found.value, *found.interval, total, of, seed)


def ratio_of_sums(tops: Sequence[float], bottoms: Sequence[float], of: str, seed: int) -> Figure:
    """sum(tops) / sum(bottoms) with a percentile bootstrap over units: a prompt's pairs hang together."""
    top, bottom = np.asarray(tops, dtype=np.float64), np.asarray(bottoms, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(top), (_RESAMPLES, len(top)))
    sums = bottom[picks].sum(axis=1)
    values = top[picks].sum(axis=1)[sums != 0] / sums[sums != 0]
    low, high = np.quantile(values, (0.025, 0.975))
    return Figure(float(top.sum() / bottom.sum()), float(low), float(high), len(top), of, seed)


def mean(values: Sequence[float], of: str, seed: int) -> Figure:
    """A mean over units with a percentile bootstrap."""
    return ratio_of_sums(values, [1.0] * len(values), of, seed)


def best_of_n_weights(total: int, n: int) -> Floats:
    """Chance that the i-th smallest of `total` scored samples is the best of `n` drawn without replacement; (total,).

    C(i-1, n-1) / C(total, n) for i = n..total, by log-gamma. Unbiased for best-of-n from `total` samples.
    """
    if not 1 <= n <= total:
        raise ValueError(f"n must be between 1 and the number of samples {total}, not {n}")

    def log_choose(a: int, b: int) -> float:
        return math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)

    base = log_choose(total, n)
    return np.array([math.exp(log_choose(i - 1, n - 1) - base) if i >= n else 0.0 for i in range(1, total + 1)])


def best_of_n(proxy: Sequence[float], gold: Sequence[float], n: int) -> float:
    """Expected gold of the sample with the highest proxy among n drawn from those given."""
    order = np.argsort(np.asarray(proxy), kind="stable")
    return float(best_of_n_weights(len(proxy), n) @ np.asarray(gold, dtype=np.float64)[order])
