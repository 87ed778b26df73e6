"""Inference-time pessimism: draw in proportion to how far a reward is above a threshold.

Huang et al. 2025, "Is Best-of-N the Best of Them?" (arXiv:2503.21878): with chi-squared regularisation of strength beta
the weights are max(0, (r_i - lambda) / beta), where lambda makes their mean 1. They do not degrade with N: about
sqrt(2 beta) of uniform rewards stay above lambda, however many there are. All in the units of the rewards.
"""

from collections.abc import Sequence

from gateway.decoding.laws.pandora import reservation


def threshold(values: Sequence[float], beta: float) -> float:
    """lambda that solves (1/N) * sum of max(0, (r_i - lambda) / beta) = 1; exact. Raises ValueError.

    It is Pandora's reservation value at a price of beta: the same equation.
    """
    if not beta > 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    return reservation(values, beta)


def weights(values: Sequence[float], beta: float) -> list[float]:
    """The probability of each value, in order, max(0, (r_i - lambda) / (beta N)); they sum to 1. Raises ValueError."""
    floor = threshold(values, beta)
    above = [max(0.0, value - floor) for value in values]
    total = sum(above)
    return [each / total for each in above]
