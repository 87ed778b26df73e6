"""The selection rules: from the values of a request's candidates to the probability that each is picked. Pure.

Every rule takes finite values and gives as many probabilities, which sum to 1. Numbers in brackets are formulas of the
project's notes on decoding; u is a value's rank in (0, 1) among the candidates of its own prompt, which are the sample
of the reference policy that there is.

    argmax      (1) the highest, ties by the earliest           KL to the policy log n - (n-1)/n
    soft        (4) P ~ exp(u / temperature), on ranks, since heavy tails of raw rewards would rule it as argmax
    poisson     (5) the best of 1 + Poisson(mean), drawn out of those there are
    pessimism   (6) P ~ max(0, r - lambda), with lambda where the weights sum to n beta
"""

import math
import sys
from collections.abc import Sequence
from itertools import groupby

from gateway.decoding.laws import pessimism as chi_squared
from gateway.decoding.selection.settings import SelectionConfig


def probabilities(values: Sequence[float], settings: SelectionConfig, scale: float = 1.0) -> list[float]:
    """What `settings` says of at least one value. scale: the deviation of rewards within a prompt, above 0.

    Exploration is mixed in: with that share the pick is any of them, as the policy itself would have answered.
    """
    match settings.rule:
        case "argmax":
            found = argmax(values)
        case "soft":
            found = soft(values, settings.temperature)
        case "poisson":
            found = poisson(values, settings.mean)
        case "pessimism":
            found = pessimism(values, settings.beta * scale)
    even = settings.explore / len(values)
    return [(1 - settings.explore) * one + even for one in found]


def argmax(values: Sequence[float]) -> list[float]:
    """All on the highest; ties go to the earliest."""
    best = max(range(len(values)), key=lambda index: (values[index], -index))
    return [float(index == best) for index in range(len(values))]


def soft(values: Sequence[float], temperature: float) -> list[float]:
    """Soft best-of-n (Verdun et al. 2025, arXiv:2505.03156) on ranks u = place / n; equal values share their places.

    A tie is as if it were broken at random, so that the divergence is that of the ranks, whatever the values.
    temperature -> 0 is argmax (ties shared), -> infinity any of them alike.
    """
    count = len(values)
    weights = [math.exp((place - count) / (count * temperature)) for place in range(1, count + 1)]
    total = math.fsum(weights)
    found = [0.0] * count
    ascending = sorted(range(count), key=values.__getitem__)
    for _, equals in groupby(enumerate(ascending), key=lambda one: values[one[1]]):
        places, indices = zip(*equals, strict=True)
        for index in indices:
            found[index] = math.fsum(weights[place] for place in places) / (len(places) * total)
    return found


def poisson(values: Sequence[float], mean: float) -> list[float]:
    """Best-of-Poisson (arXiv:2506.19248): the best of k out of these n, k = 1 + Poisson(mean), at most n.

    The k are any of the n alike, so the j-th smallest is the best of them with probability C(j-1, k-1) / C(n, k).
    """
    count = len(values)
    sizes = _sizes(mean, count)
    by_rank = [0.0] * count
    for size, share in enumerate(sizes, 1):
        if share:
            # C(j-1, k-1) / C(n, k), from the largest j = n (k / n) downwards.
            chance = size / count
            for j in range(count, size - 1, -1):
                by_rank[j - 1] += share * chance
                chance *= (j - size) / (j - 1) if j > 1 else 0.0
    # Of equal values the earlier one ranks higher: it wins.
    ascending = sorted(range(count), key=lambda index: (values[index], -index))
    found = [0.0] * count
    for place, index in enumerate(ascending):
        found[index] = by_rank[place]
    return found


def _sizes(mean: float, count: int) -> list[float]:
    """P(1 + Poisson(mean) = k) for k = 1 ... count, what is beyond on the last."""
    if count == 1:
        return [1.0]
    sizes = [
        math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) if mean else float(k == 0) for k in range(count - 1)
    ]
    return [*sizes, max(0.0, 1.0 - math.fsum(sizes))]


def pessimism(values: Sequence[float], beta: float) -> list[float]:
    """Inference-time pessimism (Huang et al. 2025, arXiv:2503.21878), as a draw from its weights."""
    # As depths below the best: beside large rewards a small beta would be lost in rounding.
    best = max(values)
    return chi_squared.weights([max(value - best, -sys.float_info.max) for value in values], beta)
