"""Pandora's rule: how long to draw when each draw has a price.

Draws are independent and values known once drawn. The best rule stops at the first value of at least tau, the
reservation value, where the expected gain of one more draw is its price:

    E[(v - tau)+] = price

It then gains tau, net of what the draws cost, and draws 1 / P(v >= tau) times. Sources: Weitzman 1979, "Optimal Search
for the Best Alternative"; for language models Kalayci et al. 2025 (arXiv:2510.01394).
"""

import math
from collections.abc import Sequence
from itertools import accumulate


def reservation(values: Sequence[float], price: float) -> float:
    """tau of the law that draws one of the values, each with the same probability; exact.

    E[(v - tau)+] is piecewise linear in tau: between two values it is that of the k above tau alone. Below the least
    value tau is the mean less the price. Raises ValueError.
    """
    _priced(price)
    if not values or not all(map(math.isfinite, values)):
        raise ValueError("a law needs 1 value or more, all finite: leave out those whose scoring failed")
    top, bill = max(values), price * len(values)
    # As depths below the top: large values that differ little would lose their digits in a sum.
    depths = sorted(top - value for value in values)
    totals, following = accumulate(depths), (*depths[1:], math.inf)
    solved = (((total + bill) / k, below) for k, (total, below) in enumerate(zip(totals, following, strict=True), 1))
    return top - next(depth for depth, below in solved if depth <= below)


def uniform(price: float) -> float:
    """tau of the uniform law on [0, 1]: 1 - sqrt(2 price), and 1/2 - price from a price of 1/2 on."""
    return 1 - math.sqrt(2 * price) if _priced(price) <= 0.5 else 0.5 - price


def exponential(start: float, scale: float, price: float) -> float:
    """tau of start + an exponential of mean `scale`: start + scale log(scale / price), at any price below the scale.

    From there on tau is at most the start: the mean less the price.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"the scale must be above 0, not {scale}")
    return start + scale * math.log(scale / price) if _priced(price) < scale else start + scale - price


def chance(values: Sequence[float], threshold: float) -> float:
    """P(v >= threshold) of the law that draws one of the values."""
    return sum(value >= threshold for value in values) / len(values)


def expected_draws(chance: float) -> float:
    """Draws until the first that stops, 1 / chance: the mean of a geometric law. Infinite where none ever does."""
    return 1 / chance if chance > 0.0 else math.inf


def _priced(price: float) -> float:
    if not 0 < price < math.inf:
        raise ValueError(f"the price of a draw must be above 0, not {price}: drawing for nothing never ends")
    return price
