"""Means and shares with 95 % intervals, where observations of one prompt hang together. Pure.

Turns and samples of a prompt share what is hard about it, so they are no independent observations: the prompt is what
counts. With r_g the sum of the residuals x - mean over prompt g, N observations and G prompts, the mean's variance is

    V = sum_g r_g^2 / N^2                                       (the cluster sandwich: Liang and Zeger 1986)

A mean's interval is mean +- t(0.975, G - 1) sqrt(V G / (G - 1)) (Cameron and Miller 2015, "A practitioner's guide to
cluster-robust inference"); with one observation a prompt that is Student's. A share's, of things that are 0, 1/2 (a
tie) or 1, is Wilson's (1927) for as many trials as its variance stands for, p (1 - p) / V, at most N; where all are
alike it is for G trials: 20 wins of 20 do not say that no loss is possible.
"""

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import msgspec

from scorers.calibration.thresholds import wilson

# ruff: noqa: PLC0415  # scipy: 0.5 s

# Normal quantiles of 0.975, and of 0.8: a difference is seen with that probability.
_Z, _POWER_Z = 1.959963984540054, 0.8416212335729143


class Estimate(msgspec.Struct, frozen=True):
    """A value with its 95 % interval. prompts: what the interval counts as independent. count: observations."""

    value: float
    low: float
    high: float
    prompts: int
    count: int

    @property
    def half(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def share(values: Sequence[float], clusters: Sequence[Hashable], alpha: float = 0.05) -> Estimate:
    """Of values in [0, 1] that are 0, 1 or ties. At least one. alpha: of both sides of the interval together."""
    middle, variance, groups = _clustered(values, clusters)
    spread = middle * (1 - middle)
    trials = min(len(values), spread / variance) if variance > 0 else groups
    z = NormalDist().inv_cdf(1 - alpha / 2)
    return Estimate(middle, *wilson(middle, trials, z), groups, len(values))


def mean(values: Sequence[float], clusters: Sequence[Hashable], alpha: float = 0.05) -> Estimate:
    """Of any numbers; with one prompt alone nothing is known of the spread, and the interval is unbounded."""
    from scipy import stats

    middle, variance, groups = _clustered(values, clusters)
    if groups < 2:
        return Estimate(middle, -math.inf, math.inf, groups, len(values))
    half = float(stats.t.ppf(1 - alpha / 2, groups - 1)) * math.sqrt(variance * groups / (groups - 1))
    return Estimate(middle, middle - half, middle + half, groups, len(values))


def mean_share(values: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
    """The mean of probabilities: `mean`'s interval, kept in [0, 1]."""
    found = mean(values, clusters)
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high), found.prompts, found.count)


def resolution(estimate: Estimate) -> float:
    """The smallest difference that as many prompts show four times in five: (z(0.975) + z(0.8)) standard errors."""
    return (_Z + _POWER_Z) * estimate.half / _Z


def prompts_needed(estimate: Estimate, difference: float) -> int:
    """How many prompts such as these show a difference of that size four times in five: n ((z + z) se / d)^2."""
    return math.ceil(estimate.prompts * (resolution(estimate) / difference) ** 2)


def _clustered(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[float, float, int]:
    """The mean, its variance V, and how many clusters there are."""
    if not values:
        raise ValueError("no values to estimate from")
    count = len(values)
    middle = math.fsum(values) / count
    residuals: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        residuals.setdefault(cluster, []).append(value - middle)
    variance = math.fsum(math.fsum(group) ** 2 for group in residuals.values()) / count**2
    # Rounding is no spread.
    return middle, variance if variance > 1e-24 else 0.0, len(residuals)
