"""One-sided bounds at a level alpha, what margin the data resolves, and how many units another one takes. Pure.

Every check of a gate is one test: that a property is on the wrong side of its limit is refused at level alpha, and else
the check does not pass. All must pass, so a version with any one bad property passes with a probability of at most
alpha, however many checks there are and however they hang together: an intersection-union test (Berger 1982,
Technometrics 24: 295). So no check's level is divided by their number; only by how often the data was used (`wear`).

    resolves = (z(1 - alpha) + z(0.8)) se        the margin that so much data shows four times in five
    needed   = n (resolves / margin)^2           units like these that show `margin` four times in five

`value`, `low` and `high` of a `Bound`: each end holds by itself at level alpha, so both together are an interval of
1 - 2 alpha.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from training.evaluation.intervals import Estimate, mean, share
from training.reward.measured import Measured

POWER = 0.8
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Bound:
    """units: what counts as independent (prompts, people, clusters). error: the standard error that it resolves by."""

    value: float
    low: float
    high: float
    units: int
    error: float

    def resolves(self, alpha: float) -> float:
        return factor(alpha) * self.error

    def needed(self, alpha: float, margin: float) -> int | None:
        """None where nothing is known of the spread."""
        if not math.isfinite(self.error):
            return None
        return max(2, math.ceil(self.units * (self.resolves(alpha) / margin) ** 2))


def z_of(alpha: float) -> float:
    """The normal quantile of 1 - alpha."""
    return _NORMAL.inv_cdf(1 - alpha)


def factor(alpha: float) -> float:
    """Standard errors between a limit and a true value that is told from it four times in five."""
    return z_of(alpha) + _NORMAL.inv_cdf(POWER)


def of_share(values: Sequence[float], units: Sequence[Hashable], alpha: float) -> Bound:
    """A share of things that are 0, 1/2 or 1: Wilson's bounds for as many independent ones as they stand for."""
    return of_estimate(share(values, units, 2 * alpha), alpha)


def of_mean(values: Sequence[float], units: Sequence[Hashable], alpha: float) -> Bound:
    """A mean of any numbers: Student's bounds, clustered by unit. With a single unit they are infinite."""
    return of_estimate(mean(values, units, 2 * alpha), alpha)


def rescaled(found: Estimate | Measured, alpha: float) -> Bound:
    """Of one with 95 %: each end as far from the value as alpha has it for a normal law."""
    scale, units = z_of(alpha) / z_of(0.025), found.prompts if isinstance(found, Estimate) else found.groups
    low, high = found.value - scale * (found.value - found.low), found.value + scale * (found.high - found.value)
    return Bound(found.value, low, high, units, (high - low) / 2 / z_of(alpha))


def of_estimate(found: Estimate, alpha: float) -> Bound:
    """found: made with 2 alpha for both sides."""
    return Bound(found.value, found.low, found.high, found.prompts, found.half / z_of(alpha))
