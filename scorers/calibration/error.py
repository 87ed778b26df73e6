"""Expected calibration error: how far probabilities are from the shares that they stand for.

ECE = sum over bins of |bin| / N * |mean probability - share of positives| (Naeini et al. 2015; Guo et al. 2017,
eq. 3). The bins hold equally many texts each: with bins of equal width most would be empty, since a guard is mostly
sure. The estimate is biased upwards where bins are small: it is not 0 for a perfectly calibrated guard.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """Texts with similar probabilities. share: of them that belong to the category."""

    count: int
    probability: float
    share: float


def reliability(probabilities: Sequence[float], labels: Sequence[bool], bins: int = BINS) -> list[Bin]:
    """The bins, by increasing probability; equal probabilities are never parted."""
    pairs = sorted(zip(probabilities, labels, strict=True))
    found: list[Bin] = []
    begin = 0
    for number in range(1, bins + 1):
        end = max(begin, round(number * len(pairs) / bins))
        while 0 < end < len(pairs) and pairs[end][0] == pairs[end - 1][0]:
            end += 1
        if end > begin:
            held = pairs[begin:end]
            mean = math.fsum(probability for probability, _ in held) / len(held)
            found.append(Bin(len(held), mean, sum(label for _, label in held) / len(held)))
        begin = end
    return found


def expected_calibration_error(probabilities: Sequence[float], labels: Sequence[bool], bins: int = BINS) -> float:
    """In [0, 1]. Raises ValueError without texts."""
    if not probabilities:
        raise ValueError("there are no texts to take the error over")
    found = reliability(probabilities, labels, bins)
    return math.fsum(one.count * abs(one.probability - one.share) for one in found) / len(probabilities)
