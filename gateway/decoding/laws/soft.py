"""Softer than best-of-n: Best-of-Poisson, and HedgeTune, which finds the n where a proxy stops helping.

Source: Khalaf et al. 2025, "Inference-Time Reward Hacking in Large Language Models" (arXiv:2506.19248). u is a sample's
rank by proxy among the policy's samples, uniform on [0, 1].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from gateway.decoding.laws.quadrature import integral

# Of an exponential variable: beyond 40 it has 4e-18 of its mass.
_EXPONENTIAL = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 40.0)


def poisson_density(u: float, mu: float) -> float:
    """The density at rank u of the best of n = 1 + Poisson(mu) samples: (1 + mu u) e^(mu (u - 1))."""
    return (1 + _rate(mu) * u) * math.exp(mu * (u - 1))


def poisson_expected_rank(mu: float) -> float:
    """The mean rank of the best of 1 + Poisson(mu) samples: 1 - 1/mu + (1 - e^-mu)/mu^2."""
    if _rate(mu) < 1.0:
        # The same as a series, where the terms above would cancel.
        return 0.5 - math.fsum((-mu) ** power / math.factorial(power + 2) for power in range(1, 20))
    return 1 - 1 / mu - math.expm1(-mu) / (mu * mu)


@dataclass(frozen=True, slots=True)
class Hedge:
    """Where expected gold turns. n: its peak, or None where there is none between 1 and the most.

    gold: "peaks"; or "rises" to the most, so that more samples help; or "falls" (or stays) from 1 on, so that the proxy
    misleads from the start.
    """

    n: float | None
    gold: Literal["peaks", "rises", "falls"]


def hedge_n(gold: Callable[[float], float] | Sequence[float], most: float = 1024.0) -> Hedge:
    """HedgeTune: the real n in (1, most) at which the expected gold of the best of n by proxy is highest.

    The root, by bisection, of d E[gold] / dn = E over u ~ Beta(n, 1) of gold(u) (1/n + ln u). Where expected gold turns
    more than once, the root is one of its peaks.

    gold: of the rank u in [0, 1]; or of N samples ascending by proxy, the i-th standing for the ranks from (i - 1)/N to
    i/N: what it says of an n near N is noise. Raises ValueError.
    """
    if not 1 < most < math.inf:
        raise ValueError(f"the most samples must be above 1, not {most}")
    slope = _slope_of(gold)
    if slope(1.0) <= 0.0:
        return Hedge(None, "falls")
    if slope(most) >= 0.0:
        return Hedge(None, "rises")
    low, high = 0.0, math.log(most)
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) > 0.0 else (low, middle)
    return Hedge(math.exp((low + high) / 2), "peaks")


def _slope_of(gold: Callable[[float], float] | Sequence[float]) -> Callable[[float], float]:
    """d E[gold] / dn; 0 where gold is flat."""
    if callable(gold):
        # u = e^(-x/n), x exponential, has the law Beta(n, 1); a constant makes no difference, but to rounding.
        base = gold(0.5)
        return lambda n: integral(
            lambda x: (gold(math.exp(-x / n)) - base) * (1 - x) * math.exp(-x) / n, _EXPONENTIAL, 24
        )
    if not gold or not all(map(math.isfinite, gold)):
        raise ValueError("gold needs 1 sample or more, all finite: leave out those whose scoring failed")
    # n u^(n-1) (1/n + ln u) is the derivative of u^n ln u, which is 0 at both ends; so it is summed by parts.
    steps = [(math.log(i / len(gold)), below - above) for i, (below, above) in enumerate(pairwise(gold), 1)]
    return lambda n: math.fsum(step * log * math.exp(n * log) for log, step in steps)


def _rate(mu: float) -> float:
    if not 0 <= mu < math.inf:
        raise ValueError(f"the rate mu must be 0 or more, not {mu}")
    return mu
