"""By how much more often something happens with one side than with the other, on the same prompts. Pure.

Of n prompts, b had it with the new side alone and c with the old one alone; d = (b - c) / n. What is wanted of a gate
is an upper bound of d that holds where b and c are few, as they are for unsafe answers. Wald's interval does not, and
Bonett and Price's is too short at b = c = 0 (2.3 / n at 5 %, where n prompts without an event allow 3 / n). So it is
Tango's score interval (1998, Statistics in Medicine 17: 891): all D with

    |b - c - n D| - 1/2  <=  z sqrt(n (2 q + D (1 - D)))

where q is the most likely share of c under D, the larger root of

    2 n q^2 + (D (2 n - b + c) - b - c) q - c D (1 - D) = 0

The 1/2 corrects for counts being whole. The interval is conservative: `tests/training/gates/test_gates_paired.py`
enumerates its errors exactly.

Where prompts hang together in clusters, b, c and n are divided by the design effect, the variance of d over that of as
many independent prompts. A prompt asked several times counts with the mean of its differences, which vary less than 0
and 1 do: also on the safe side.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from training.gates.bounds import POWER, Bound, z_of
from training.reward.measured import clustered_variance, numbered

_HALVINGS = 60
_MOST = 1e8


def difference(new: Sequence[float], old: Sequence[float], units: Sequence[Hashable], alpha: float) -> "PairedBound":
    """Mean of new less old. new, old: of each prompt, in [0, 1]. At least one."""
    d = np.asarray(new, dtype=np.float64) - np.asarray(old, dtype=np.float64)
    numbers = numbered(units)
    n, value, units_of = len(d), float(d.mean()), int(numbers.max()) + 1
    alone = float(((d - value) @ (d - value)) / n**2)
    effect = max(1.0, clustered_variance((d - value) / n, numbers) / alone) if alone > 0 else n / units_of
    b, c, trials = float(d[d > 0].sum()) / effect, float(-d[d < 0].sum()) / effect, n / effect
    low, high = -tango(c, b, trials, alpha), tango(b, c, trials, alpha)
    # One pair more: that there were no events among so many is no proof that there are none.
    at_odds = (b + c + 1) / trials
    error = math.sqrt(at_odds / trials)
    return PairedBound(value, min(low, value), max(high, value), units_of, error, trials, at_odds)


@dataclass(frozen=True, slots=True)
class PairedBound(Bound):
    """trials: prompts that it counts as, with clusters. at_odds: share on which the two sides differ."""

    trials: float
    at_odds: float

    def resolves(self, alpha: float) -> float:
        return _first(lambda margin: shows(self.trials, self.at_odds, margin, alpha), 1.0)

    def needed(self, alpha: float, margin: float) -> int | None:
        if not shows(_MOST, self.at_odds, margin, alpha):
            return None
        trials = _first(lambda n: shows(n, self.at_odds, margin, alpha), _MOST)
        return math.ceil(trials * self.units / self.trials)


def shows(n: float, at_odds: float, margin: float, alpha: float) -> bool:
    """Whether n prompts show four times in five that two sides which are as good differ by less than the margin.

    n margin - 1/2 >= z(1 - alpha) sqrt(n v_0) + z(0.8) sqrt(n at_odds), with v_0 the variance if they differ by it.
    """
    q = _most_likely(n * at_odds / 2, n * at_odds / 2, n, margin)
    spread = max(0.0, 2 * q + margin * (1 - margin))
    return n * margin - 0.5 >= z_of(alpha) * math.sqrt(n * spread) + z_of(1 - POWER) * math.sqrt(n * at_odds)


def _first(holds: Callable[[float], bool], most: float) -> float:
    """The smallest from which on it holds, at most `most`."""
    below, above = 0.0, most
    for _ in range(_HALVINGS):
        middle = (below + above) / 2
        if holds(middle):
            above = middle
        else:
            below = middle
    return above


def tango(b: float, c: float, n: float, alpha: float) -> float:
    """The upper bound at level alpha of the chance of b less that of c."""
    z = z_of(alpha)

    def excluded(delta: float) -> bool:
        q = _most_likely(b, c, n, delta)
        spread = n * max(0.0, 2 * q + delta * (1 - delta))
        return n * delta - (b - c) - 0.5 > z * math.sqrt(spread)

    below, above = (b - c) / n, 1.0
    if not excluded(above):
        return above
    for _ in range(_HALVINGS):
        middle = (below + above) / 2
        if excluded(middle):
            above = middle
        else:
            below = middle
    return above


def _most_likely(b: float, c: float, n: float, delta: float) -> float:
    """The chance of c, where that of b is larger by delta."""
    linear = delta * (2 * n - b + c) - b - c
    constant = -c * delta * (1 - delta)
    root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
    return max(0.0, -delta, (root - linear) / (4 * n))
