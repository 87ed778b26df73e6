"""Integrals by Gauss and Legendre's rule, on panels."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise


@lru_cache(maxsize=64)
def gauss_legendre(points: int) -> tuple[tuple[float, float], ...]:
    """(node, weight) of each point on [0, 1]: exact for polynomials of degree up to 2 * points - 1."""
    if points < 1:
        raise ValueError(f"a rule needs 1 point or more, not {points}")
    return tuple(_point(points, place) for place in range(points))


def integral(f: Callable[[float], float], edges: Sequence[float], points: int = 16) -> float:
    """The integral of f from the first to the last edge (ascending), with `points` points between each two of them."""
    rule = gauss_legendre(points)
    return math.fsum(
        (high - low) * weight * f(low + (high - low) * node) for low, high in pairwise(edges) for node, weight in rule
    )


def _point(points: int, place: int) -> tuple[float, float]:
    """A root of the Legendre polynomial by Newton's steps from Tricomi's approximation, moved to [0, 1]."""
    x = -math.cos(math.pi * (place + 0.75) / (points + 0.5))
    slope = 1.0
    for _ in range(8):
        before, value = 1.0, x
        for degree in range(2, points + 1):
            before, value = value, ((2 * degree - 1) * x * value - (degree - 1) * before) / degree
        slope = points * (x * value - before) / (x * x - 1)
        x -= value / slope
    return (1 + x) / 2, 1 / ((1 - x * x) * slope * slope)
