"""How far probabilities are from what happens, without the bias of small samples, with an upper bound. Pure.

The expected calibration error is biased upwards: with 500 rows a perfect model shows .05. So the gate takes the
root mean square over bins, whose square has an estimate without that bias (Kumar, Liang & Ma 2019, "Verified
uncertainty calibration", arXiv:1909.10155):

    CE^2 = sum_b n_b / N ((p_b - y_b)^2 - y_b (1 - y_b) / (n_b - 1))

with p_b the mean probability of bin b and y_b its share. By Jensen the expected calibration error is at most CE. The
standard error of CE^2 is that over resampled units (prompts), and

    upper = sqrt(max(0, CE^2) + z se)      lower = sqrt(max(0, CE^2 - z se))
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np

from scorers.calibration.error import reliability
from training.gates.bounds import Bound, z_of
from training.reward.measured import Floats, numbered

_BINS = 10
_LEAST_IN_BIN = 20
_RESAMPLES = 400


def miscalibration(
    probabilities: Sequence[float], truths: Sequence[bool], units: Sequence[Hashable], alpha: float, seed: int = 0
) -> Bound | None:
    """None for fewer rows than two bins should have."""
    count = len(truths)
    if count < 2 * _LEAST_IN_BIN:
        return None
    sizes = [one.count for one in reliability(probabilities, truths, min(_BINS, count // _LEAST_IN_BIN))]
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(truths, dtype=np.float64)
    placed = np.empty(count, dtype=np.intp)
    placed[np.lexsort((y, p))] = np.repeat(np.arange(len(sizes)), sizes)
    numbers, bins = numbered(units), len(sizes)
    people = int(numbers.max()) + 1
    place = numbers * bins + placed
    tables = [
        np.bincount(place, weights=weights, minlength=people * bins).astype(np.float64).reshape(people, bins)
        for weights in (np.ones(count), p, y)
    ]
    times = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), _RESAMPLES)
    square = float(_squared(*[table.sum(axis=0)[None] for table in tables])[0])
    error = float(_squared(*[times @ table for table in tables]).std(ddof=1))
    held, z = max(0.0, square), z_of(alpha)
    value, low, high = math.sqrt(held), math.sqrt(max(0.0, held - z * error)), math.sqrt(held + z * error)
    return Bound(value, low, high, people, (high - value) / z)


def _squared(n: Floats, p: Floats, y: Floats) -> Floats:
    """CE^2 of each row of sums by bin: rows, probabilities, truths."""
    counted = np.maximum(n, 1.0)
    share, gap = y / counted, (p - y) / counted
    unbiased = gap**2 - share * (1 - share) / np.maximum(n - 1, 1.0)
    found: Floats = (np.where(n > 1, unbiased, 0.0) * n).sum(axis=1) / n.sum(axis=1)
    return found
