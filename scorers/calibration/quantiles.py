"""The law of a reward under the reference policy: its quantiles, mean and deviation.

A reward's calibrated value is its rank u in [0, 1] among what the reference policy would have written: where the policy
is continuous, u of a best of n has mean n / (n + 1) (reference/decoding formula 1; Beirami et al. 2024,
arXiv:2401.01879), so u can be compared over reward models and over time, and a raw reward cannot.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import msgspec

POINTS = 512


class RewardLaw(msgspec.Struct, frozen=True):
    """What is kept of a sample of rewards.

    count: how many rewards. mean, deviation: of them (the deviation with count - 1).
    quantiles: rewards at the ranks 0, 1/(k-1), ..., 1, not decreasing; k is at most 512.
    reference: the policy that wrote the answers, name@N.
    """

    count: int
    mean: float
    deviation: float
    quantiles: list[float]
    reference: str = ""

    def rank(self, reward: float) -> float:
        """The share of the reference policy's answers below this one, ties counted half; linear between quantiles."""
        low, high = bisect_left(self.quantiles, reward), bisect_right(self.quantiles, reward)
        last = len(self.quantiles) - 1
        if low < high:
            # It stands on [low, high - 1]; outside of the sample's range nothing is known.
            return (low + high - 1) / 2 / last
        if low == 0:
            return 0.0
        if low > last:
            return 1.0
        below, above = self.quantiles[low - 1], self.quantiles[low]
        return (low - 1 + (reward - below) / (above - below)) / last

    def standardised(self, reward: float) -> float:
        """(reward - mean) / deviation: what makes reward models of different scales comparable."""
        return (reward - self.mean) / self.deviation


def law_of(rewards: Sequence[float], reference: str = "") -> RewardLaw:
    """The law of a sample of at least two rewards, not all equal. Raises ValueError."""
    if not all(map(math.isfinite, rewards)):
        raise ValueError("a reward is no finite number")
    ordered = sorted(rewards)
    if len(ordered) < 2 or ordered[0] == ordered[-1]:
        raise ValueError(f"{len(ordered)} rewards that do not differ say nothing about a law")
    count = len(ordered)
    mean = math.fsum(ordered) / count
    deviation = math.sqrt(math.fsum((one - mean) ** 2 for one in ordered) / (count - 1))
    points = min(POINTS, count)
    return RewardLaw(count, mean, deviation, [_at(ordered, index / (points - 1)) for index in range(points)], reference)


def _at(ordered: Sequence[float], rank: float) -> float:
    """The quantile by linear interpolation (type 7 of Hyndman and Fan 1996)."""
    place = rank * (len(ordered) - 1)
    low = min(int(place), len(ordered) - 2)
    return ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
