import math
import random
from collections.abc import Sequence
from itertools import combinations, pairwise
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decoding.laws.best_of_n import (
    INTEGRATED,
    chi_squared,
    expected_best,
    expected_bests,
    expected_rank,
    kl,
    pmf,
    rank_kl,
    win_rate,
)
from gateway.decoding.laws.quadrature import integral

EDGES = [x / 64 for x in range(65)]
# Few different values, so that most draws have ties.
samples = st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=9)
laws = st.lists(st.integers(0, 20), min_size=1, max_size=16).filter(any).map(lambda parts: _normalised(parts))


def _normalised(parts: Sequence[float]) -> list[float]:
    return [part / sum(parts) for part in parts]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 16, 33])
def test_the_closed_forms_are_the_integrals_of_the_density(n: int) -> None:
    """KL without its -(n-1)/n, a win rate of (n-1)/n or chi-squared as (n-1)^2/n would be off by more than 1e-2."""

    def density(u: float) -> float:
        return n * u ** (n - 1)

    assert win_rate(n) == pytest.approx(integral(lambda u: u * density(u), EDGES), abs=1e-12)
    assert kl(n) == pytest.approx(integral(lambda u: density(u) * math.log(density(u)), EDGES), abs=1e-7)
    assert chi_squared(n) == pytest.approx(integral(lambda u: density(u) ** 2, EDGES) - 1, abs=1e-12)


@pytest.mark.parametrize("law", [win_rate, kl, chi_squared])
def test_less_than_one_sample_is_refused(law: object) -> None:
    for n in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="n must be 1 or more"):
            law(n)  # type: ignore[operator]


@given(laws, st.integers(1, 64))
@settings(deadline=None)
def test_with_discrete_rewards_kl_and_win_rate_stay_below_the_continuous_ones(law: list[float], n: int) -> None:
    best = pmf(law, n)
    assert sum(best) == pytest.approx(1.0)
    assert sum(q * math.log(q / p) for p, q in zip(law, best, strict=True) if q) <= kl(n) + 1e-9
    below = [sum(law[:i]) for i in range(len(law))]
    assert sum(q * under for q, under in zip(best, below, strict=True)) <= win_rate(n) + 1e-9


@given(laws, st.integers(1, 3))
@settings(deadline=None)
def test_the_pmf_is_that_of_all_draws(law: list[float], n: int) -> None:
    def drawn(outcome: int, left: int) -> float:
        """P(the best of `left` draws is at most the outcome)."""
        return 1.0 if left == 0 else sum(p * drawn(outcome, left - 1) for p in law[: outcome + 1])

    up_to = [0.0, *(drawn(outcome, n) for outcome in range(len(law)))]
    expected = [high - low for low, high in pairwise(up_to)]
    assert pmf(law, n) == pytest.approx(expected, abs=1e-12)


def test_the_kl_of_a_discrete_law_ends_at_that_of_its_best_outcome() -> None:
    law = [0.5, 0.3, 0.2]
    best = pmf(law, 1000)
    assert sum(q * math.log(q / p) for p, q in zip(law, best, strict=True) if q) == pytest.approx(-math.log(0.2))


def test_a_rare_outcome_keeps_its_digits() -> None:
    assert pmf([0.5, 1e-18, 0.5], 3)[1] == pytest.approx(3 * 0.25 * 1e-18, rel=1e-9)


@given(samples, st.data())
@settings(deadline=None)
def test_the_estimator_is_the_mean_over_all_subsets_with_ties_to_the_earliest(
    scored: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Ties to the latest, or weights C(i, n-1) or C(i-1, n), fail this."""
    n = data.draw(st.integers(1, len(scored)))
    proxy, gold = [float(p) for p, _ in scored], [float(g) for _, g in scored]
    # max takes the first of equals, and combinations keep the order.
    best = [gold[max(subset, key=proxy.__getitem__)] for subset in combinations(range(len(scored)), n)]
    assert expected_best(proxy, gold, n) == pytest.approx(fmean(best), abs=1e-9)


@given(samples, st.integers(1, 5), st.integers(-7, 7), st.data())
def test_affine_proxies_change_nothing_and_affine_gold_passes_through(
    scored: list[tuple[int, int]], scale: int, shift: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, len(scored)))
    proxy, gold = [float(p) for p, _ in scored], [float(g) for _, g in scored]
    before = expected_best(proxy, gold, n)
    assert expected_best([scale * p + shift for p in proxy], gold, n) == before
    assert expected_best(proxy, [scale * g + shift for g in gold], n) == pytest.approx(scale * before + shift)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12, unique=True), st.randoms())
def test_permuting_samples_with_distinct_proxies_changes_nothing(values: list[float], shuffler: random.Random) -> None:
    shuffled = values.copy()
    shuffler.shuffle(shuffled)
    for n in range(1, len(values) + 1):
        assert expected_best(shuffled, shuffled, n) == expected_best(values, values, n)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.data())
def test_of_right_and_wrong_the_estimator_is_pass_at_k(right: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(right)))
    wrong, correct = right.count(False), [float(one) for one in right]
    assert expected_best(correct, correct, k) == pytest.approx(1 - math.comb(wrong, k) / math.comb(len(right), k))


@pytest.mark.parametrize("total", [1000, 20_000])
def test_many_samples_neither_overflow_nor_lose_digits(total: int) -> None:
    """The mean of the largest of n of 1..N is n (N + 1)/(n + 1)."""
    ranks = [float(rank) for rank in range(1, total + 1)]
    sizes = [1, 2, 16, 500, total - 1, total]
    exact = [n * (total + 1) / (n + 1) for n in sizes]
    assert expected_bests(ranks, ranks, sizes) == pytest.approx(exact, rel=1e-11)


def test_what_cannot_be_estimated_says_why() -> None:
    with pytest.raises(ValueError, match="n must be from 1 to 2"):
        expected_best([1.0, 2.0], [1.0, 2.0], 3)
    with pytest.raises(ValueError, match="one proxy and one gold"):
        expected_best([1.0, 2.0], [1.0], 1)
    with pytest.raises(ValueError, match="not finite"):
        expected_best([1.0, math.nan], [1.0, 2.0], 1)


@pytest.mark.parametrize("m", [1, 2, 3, 8, 16, 64, 128])
def test_the_kl_of_picking_one_rank_is_that_of_its_beta_law(m: int) -> None:
    """For whole a and b, KL(Beta(a, b) || uniform) has harmonic numbers for its digammas."""
    harmonic = [0.0]
    for i in range(1, m + 1):
        harmonic.append(harmonic[-1] + 1 / i)
    for k in range(1, m + 1):
        a, b = k, m - k + 1
        exact = math.log(m * math.comb(m - 1, k - 1))
        exact += (a - 1) * harmonic[a - 1] + (b - 1) * harmonic[b - 1] - (m - 1) * harmonic[m]
        weights = [float(rank == k) for rank in range(1, m + 1)]
        assert rank_kl(weights) == pytest.approx(exact, abs=1e-6)
        assert expected_rank(weights) == pytest.approx(k / (m + 1))


@pytest.mark.parametrize("m", [1, 2, 16, 128, 1000])
def test_always_the_best_is_best_of_m_and_any_at_random_is_the_policy(m: int) -> None:
    best, any_one = [0.0] * (m - 1) + [1.0], [1 / m] * m
    assert rank_kl(best) == pytest.approx(kl(m), abs=1e-6)
    assert expected_rank(best) == pytest.approx(win_rate(m))
    assert rank_kl(any_one) == pytest.approx(0.0, abs=1e-9)
    assert expected_rank(any_one) == pytest.approx(0.5)


def test_the_integral_and_the_rule_for_always_the_best_agree() -> None:
    """Nearly always the best is integrated, where always is not; so is always the worst, its mirror image."""
    assert rank_kl([1e-12] + [0.0] * 14 + [1 - 1e-12]) == pytest.approx(kl(16), abs=1e-6)
    assert rank_kl([1.0] + [0.0] * 15) == pytest.approx(kl(16), abs=1e-6)


@given(laws)
@settings(deadline=None)
def test_the_kl_of_a_rule_is_between_0_and_that_of_its_ranks(weights: list[float]) -> None:
    """Taking the sum over ranks for the KL itself would be wrong: the policy's own ranks overlap."""
    m = len(weights)
    over_ranks = sum(weight * math.log(m * weight) for weight in weights if weight)
    assert -1e-9 <= rank_kl(weights) <= over_ranks + 1e-9
    assert rank_kl(weights) <= kl(m) + 1e-9
    assert rank_kl(weights[::-1]) == pytest.approx(rank_kl(weights), abs=1e-7)


def test_the_first_of_a_pool_of_16_is_a_plain_sample_of_the_best_of_4() -> None:
    """The best of the first 4 of 16: the k-th smallest of 16 is picked with probability C(k-1, 3)/C(16, 4)."""
    weights = [math.comb(k - 1, 3) / math.comb(16, 4) for k in range(1, 17)]
    assert rank_kl(weights) == pytest.approx(kl(4), abs=1e-6)
    assert expected_rank(weights) == pytest.approx(win_rate(4))


def test_beyond_the_integrated_the_bound_is_close_for_smooth_weights() -> None:
    """Of the same shape e^(u / 0.05) at one candidate less, which is integrated: 1.926, and 2.0 for the bound."""
    soft = [_normalised([math.exp(k / m / 0.05) for k in range(1, m + 1)]) for m in (INTEGRATED, INTEGRATED + 1)]
    integrated, bound = map(rank_kl, soft)
    assert integrated < bound < integrated + 0.08


@pytest.mark.parametrize("weights", [[], [0.5, 0.4], [1.5, -0.5], [math.nan, 1.0]])
def test_what_is_no_distribution_is_refused(weights: list[float]) -> None:
    for law in (rank_kl, expected_rank, lambda given: pmf(given, 2)):
        with pytest.raises(ValueError, match="sum to 1"):
            law(weights)
