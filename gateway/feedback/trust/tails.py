"""Upper tails of two distributions, exact to rounding: how surprising a count is. Pure."""

import math

_NEGLIGIBLE = 1e-17


def poisson_tail(count: int, mean: float) -> float:
    """P(X >= count) of a Poisson variable, mean > 0."""
    if count <= 0:
        return 1.0
    if count <= mean:
        below = (_poisson_log(k, mean) for k in range(count))
        return max(0.0, 1.0 - math.fsum(map(math.exp, below)))
    # Beyond the mean the terms fall at least geometrically: summed up, tiny probabilities keep their digits.
    total, term, k = 0.0, 1.0, count
    while term > _NEGLIGIBLE * total:
        total += term
        k += 1
        term *= mean / k
    return min(1.0, math.exp(_poisson_log(count, mean)) * total)


def poisson_threshold(mean: float, probability: float) -> int:
    """The least count c with P(X >= c) <= probability, of a Poisson variable."""
    low, high = 0, max(1, math.ceil(mean))
    while poisson_tail(high, mean) > probability:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if poisson_tail(middle, mean) > probability else (low, middle)
    return high


def binomial_tail(count: int, trials: int, chance: float) -> float:
    """P(X >= count) of a binomial variable, 0 < chance < 1."""
    if count <= 0:
        return 1.0
    if count > trials:
        return 0.0
    terms = (_binomial_log(k, trials, chance) for k in range(count, trials + 1))
    return min(1.0, math.fsum(map(math.exp, terms)))


def _poisson_log(k: int, mean: float) -> float:
    return k * math.log(mean) - mean - math.lgamma(k + 1)


def _binomial_log(k: int, trials: int, chance: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
    return ways + k * math.log(chance) + (trials - k) * math.log1p(-chance)
