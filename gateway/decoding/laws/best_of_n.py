"""Best-of-n: what choosing the best of n independent samples by a reward does.

u is a sample's rank: the share of the policy's samples with a lower reward, uniform on [0, 1] where the reward is
continuous. The best of n has density n u^(n-1). Sources: Stiennon et al. 2020 (arXiv:2009.01325) and Beirami et al.
2024 (arXiv:2401.01879) for the KL and why it is an upper bound where rewards tie; Nakano et al. 2021
(arXiv:2112.09332) for the estimator.
"""

import math
from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from operator import mul

from gateway.decoding.laws.quadrature import gauss_legendre

# Candidates up to which `rank_kl` integrates: its work grows with m^1.5, and is 0.4 ms here.
INTEGRATED = 128


def win_rate(n: float) -> float:
    """P(the best of n beats one sample) = n / (n + 1), its mean rank too; an upper bound where rewards tie."""
    return _samples(n) / (n + 1)


def kl(n: float) -> float:
    """KL(best of n || policy) = log n - (n - 1)/n, in nats; an upper bound where rewards tie."""
    return math.log(_samples(n)) - (n - 1) / n


def chi_squared(n: float) -> float:
    """The chi-squared divergence of the best of n from the policy, (n - 1)^2 / (2n - 1), for a continuous reward."""
    return (_samples(n) - 1) ** 2 / (2 * n - 1)


def pmf(probabilities: Sequence[float], n: float) -> list[float]:
    """The probability of each outcome as the best of n: F_i^n - F_(i-1)^n.

    probabilities: of the outcomes with one sample, ascending by reward (no two tie), summing to 1.
    """
    _samples(n)
    _distribution(probabilities)
    return [
        # The difference of two powers, written so that a small probability does not drown in it.
        0.0 if p == 0.0 else up_to**n * -math.expm1(n * math.log1p(-p / up_to)) if p < up_to else up_to**n
        for p, up_to in zip(probabilities, accumulate(probabilities), strict=True)
    ]


def expected_best(proxy: Sequence[float], gold: Sequence[float], n: int) -> float:
    """The mean gold of the best of n by proxy, without bias from N >= n scored samples.

        sum over i = n..N of C(i - 1, n - 1) / C(N, n) * gold_(i),  samples ascending by proxy

    It is the mean over all subsets of size n; within one, ties go to the earliest sample. gold is anything measured of
    the samples: the proxy itself, a gold reward, a length, or 0 and 1 for pass@k. Raises ValueError.
    """
    return expected_bests(proxy, gold, [n])[0]


def expected_bests(proxy: Sequence[float], gold: Sequence[float], sizes: Sequence[int]) -> list[float]:
    """`expected_best` for each n of `sizes`; the samples are sorted once."""
    if len(proxy) != len(gold):
        raise ValueError(f"each sample needs one proxy and one gold, not {len(proxy)} and {len(gold)}")
    if not all(map(math.isfinite, (*proxy, *gold))):
        raise ValueError("a proxy or gold is not finite: leave out the samples whose scoring failed")
    # A stable sort: among equals the earliest stays ahead.
    best_first = [gold[index] for index in sorted(range(len(proxy)), key=lambda index: -proxy[index])]
    return [_expected(best_first, n) for n in sizes]


def expected_rank(weights: Sequence[float]) -> float:
    """The mean rank of what a rule picks: the sum of w_k k / (m + 1).

    weights: the probability that it picks the k-th smallest of m samples, k = 1..m.
    """
    _distribution(weights)
    return math.fsum(weight * k for k, weight in enumerate(weights, 1)) / (len(weights) + 1)


def rank_kl(weights: Sequence[float]) -> float:
    """KL(rule || policy), in nats, of a rule that picks the k-th smallest of m samples with probability weights[k - 1].

    The k-th smallest of m has the density of Beta(k, m - k + 1), so with f(u) = sum of w_k Beta(k, m - k + 1)(u) the KL
    is the integral of f log f: to 1e-6 where the reward is continuous, an upper bound otherwise. Beyond INTEGRATED
    samples it is the bound sum of w_k log(m w_k) (the data-processing inequality from k to u), which nears the integral
    where the weights are smooth in k. 0.06 ms for m = 16, 0.4 ms for 128; the first call for an m takes some ms.
    """
    _distribution(weights)
    m = len(weights)
    if weights[-1] == 1.0:
        return kl(m)
    if m > INTEGRATED:
        return math.fsum(weight * math.log(m * weight) for weight in weights if weight)
    return max(0.0, math.fsum(width * _f_log_f(sum(map(mul, betas, weights))) for width, betas in _densities(m)))


@lru_cache(maxsize=INTEGRATED)
def _densities(m: int) -> tuple[tuple[float, Sequence[float]], ...]:
    """For each point u of a quadrature on [0, 1]: its weight, and there the densities Beta(k, m - k + 1), k = 1..m.

    u = s^2 (3 - 2s) crowds the points at both ends, where f may vanish and f log f is not smooth. All that
    are kept take 7 MiB.
    """
    logs = [math.log(m * math.comb(m - 1, below)) for below in range(m)]
    points = []
    for s, weight in gauss_legendre(max(64, round(8 * math.sqrt(m)))):
        up, down = math.log(s * s * (3 - 2 * s)), math.log((1 - s) * (1 - s) * (1 + 2 * s))
        betas = array("d", (math.exp(log + below * up + (m - 1 - below) * down) for below, log in enumerate(logs)))
        points.append((weight * 6 * s * (1 - s), betas))
    return tuple(points)


def _f_log_f(f: float) -> float:
    return f * math.log(f) if f else 0.0


def _expected(best_first: Sequence[float], n: int) -> float:
    total = len(best_first)
    if not 1 <= n <= total:
        raise ValueError(f"the best of {n} cannot be estimated from {total} samples: n must be from 1 to {total}")
    # Each weight from the one above it, n/N at the top: no binomial is ever large, where log-gammas would cancel.
    weight, terms = n / total, []
    for i in range(total, n - 1, -1):
        terms.append(weight * best_first[total - i])
        weight *= (i - n) / (i - 1) if i > 1 else 0.0
    return math.fsum(terms)


def _samples(n: float) -> float:
    if not 1 <= n < math.inf:
        raise ValueError(f"n must be 1 or more, not {n}")
    return n


def _distribution(probabilities: Sequence[float]) -> None:
    # Written so that a NaN fails too.
    if not (probabilities and min(probabilities) >= 0.0 and abs(sum(probabilities) - 1.0) < 1e-6):
        raise ValueError("probabilities must be 0 or more and sum to 1: divide them by their sum")
