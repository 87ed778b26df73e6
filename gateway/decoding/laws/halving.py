"""Halving: at checkpoints only the best of the partial texts go on.

Sun et al. 2024, "Fast Best-of-N Decoding via Speculative Rejection" (arXiv:2410.20290). What it saves is `tokens`; what
it gives up depends on the correlation of partial and final rewards, here taken as normal (`best_of_kept`).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist

from gateway.decoding.laws.quadrature import gauss_legendre, integral

_NORMAL = NormalDist()
# For the trapezoidal rule, which on smooth functions that vanish at both ends gains digits with every point.
_STEP = 0.125
_GRID = tuple(_STEP * place for place in range(-72, 73))


def survivors(n: int, keep_share: float, checkpoints: int) -> tuple[int, ...]:
    """How many candidates run in each of checkpoints + 1 phases: n, then round(keep_share * as many as before), but 1
    at the least. keep_share: above 0, 1 at most; 1 - alpha in the paper."""
    if n < 1:
        raise ValueError(f"n must be 1 or more, not {n}")
    if not 0 < keep_share <= 1:
        raise ValueError(f"the share that goes on must be above 0 and 1 at most, not {keep_share}")
    alive = [n]
    for _ in range(checkpoints):
        alive.append(max(1, round(keep_share * alive[-1])))
    return tuple(alive)


def tokens(alive: Sequence[int], checkpoints: Sequence[float], lengths: Sequence[float]) -> float:
    """The tokens sampled: the sum over phases of n_k E[min(L, t_(k+1)) - min(L, t_k)].

    alive: candidates in each phase, one more than checkpoints (`survivors`). checkpoints: tokens, ascending. lengths:
    of whole candidates, as measured, or one for all; how long one is must say nothing of whether it goes on.
    """
    if len(alive) != len(checkpoints) + 1:
        raise ValueError(f"{len(checkpoints)} checkpoints make {len(checkpoints) + 1} phases, not {len(alive)}")
    if not lengths:
        raise ValueError("the tokens cannot be told without a length")
    edges = (0.0, *checkpoints, math.inf)
    if list(edges) != sorted(edges):
        raise ValueError("checkpoints must be 0 or more and ascending")
    return sum(
        count * math.fsum(min(length, end) - min(length, start) for length in lengths) / len(lengths)
        for count, (start, end) in zip(alive, pairwise(edges), strict=True)
    )


def tokens_share(alive: Sequence[int], checkpoints: Sequence[float], lengths: Sequence[float]) -> float:
    """`tokens` over those of best-of-n, where all n run to their end."""
    return tokens(alive, checkpoints, lengths) * len(lengths) / (alive[0] * math.fsum(lengths))


@lru_cache(maxsize=256)
def expected_maximum(n: int) -> float:
    """The mean of the largest of n standard normals, the integral of x n phi(x) Phi(x)^(n-1): 1.766 for 16."""
    if n < 1:
        raise ValueError(f"n must be 1 or more, not {n}")
    edges = [x / 2 for x in range(-18, 19)]
    return integral(lambda x: x * n * _NORMAL.pdf(x) * _below(x) ** (n - 1), edges)


@lru_cache(maxsize=256)
def best_of_kept(n: int, keep: int, correlation: float) -> float:
    """The mean final reward of: n candidates, the `keep` best by partial reward go on, the best of them wins.

    In standard deviations of the final reward above its mean. Partial and final rewards of a candidate are standard
    normals P and G with this correlation. Given p, the best partial reward that did not go on, the kept ones are
    independent with P > p, so that with A(p, g) = P(P > p, G <= g) the best final reward is at most g with probability
    (A / (1 - Phi(p)))^keep; p is the (n - keep)-th smallest partial reward of n. Hence

        C(n, keep) (n - keep) * integral of phi(p) Phi(p)^(n - keep - 1) [integral of g d(A(p, g)^keep)] dp

    At correlation 1 it is `expected_maximum` of n, at 0 that of `keep`. Right to 1e-8 for correlations up to 0.99
    either way, to 1e-3 from there to 1. It takes tens of milliseconds (what was asked before is kept), so not in a
    request. Several stages have no such formula. Raises ValueError.
    """
    if not 1 <= keep <= n:
        raise ValueError(f"of {n} candidates 1 to {n} go on, not {keep}")
    if not -1 <= correlation <= 1:
        raise ValueError(f"a correlation is between -1 and 1, not {correlation}")
    if keep == n or correlation == 1:
        return expected_maximum(n)
    outside = n - keep
    scale = math.log(math.comb(n, keep) * outside)
    total = 0.0
    for p in _GRID:
        below, above = _below(p), _below(-p)
        log_density = scale + math.log(_NORMAL.pdf(p)) + (outside - 1) * math.log(below)
        density = math.exp(log_density + keep * math.log(above))
        if density < 1e-12:
            continue
        at_most = sum((_kept_at_most(p, g, correlation) / above) ** keep for g in _GRID) - 0.5
        total += density * (_GRID[-1] - _STEP * at_most)
    return _STEP * total


def retained(n: int, keep: int, correlation: float) -> float:
    """The share of best-of-n's gain over one sample that is left: `best_of_kept` over `expected_maximum`. n >= 2."""
    if n < 2:
        raise ValueError(f"one sample gains nothing: n must be 2 or more, not {n}")
    return best_of_kept(n, keep, correlation) / expected_maximum(n)


def _below(x: float) -> float:
    """Phi(x), to full precision in the lower tail too, where NormalDist.cdf is 0 from -8.3 down."""
    return math.erfc(-x / math.sqrt(2)) / 2


def _kept_at_most(p: float, g: float, correlation: float) -> float:
    """P(P > p, G <= g) of two standard normals, by Plackett's formula for the joint distribution function."""
    angle = math.asin(correlation)
    joint = angle * math.fsum(
        weight * math.exp((p * g * math.sin(node * angle) - (p * p + g * g) / 2) / math.cos(node * angle) ** 2)
        for node, weight in gauss_legendre(24)
    )
    return min(_below(-p), max(0.0, _below(g) * _below(-p) - joint / (2 * math.pi)))
