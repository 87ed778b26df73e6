import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decoding.laws.quadrature import integral
from gateway.decoding.laws.soft import Hedge, hedge_n, poisson_density, poisson_expected_rank

EDGES = [x / 64 for x in range(65)]


@pytest.mark.parametrize("mu", [0.0, 1e-9, 0.01, 0.5, 1.0, 4.0, 30.0])
def test_the_poisson_density_has_mass_one_and_the_stated_mean(mu: float) -> None:
    """1 - 1/mu alone, or the mean of the best of 1 + mu samples, is off by more than 1e-3 at mu = 4."""
    assert integral(lambda u: poisson_density(u, mu), EDGES) == pytest.approx(1.0, abs=1e-12)
    mean = integral(lambda u: u * poisson_density(u, mu), EDGES)
    assert poisson_expected_rank(mu) == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("mu", [0.3, 5.0])
def test_the_poisson_density_is_the_mixture_over_n(mu: float) -> None:
    for u in (0.1, 0.5, 0.9, 1.0):
        mixed = sum(math.exp(-mu) * mu ** (n - 1) / math.factorial(n - 1) * n * u ** (n - 1) for n in range(1, 60))
        assert poisson_density(u, mu) == pytest.approx(mixed, rel=1e-12)


def test_a_poisson_of_rate_0_is_the_policy_and_a_large_one_is_the_best() -> None:
    assert poisson_expected_rank(0.0) == 0.5
    assert poisson_expected_rank(1e9) == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("mu", [-0.1, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(mu: float) -> None:
    with pytest.raises(ValueError, match="mu must be 0 or more"):
        poisson_expected_rank(mu)


@given(st.floats(0.5, 8.0), st.floats(0.5, 8.0))
@settings(deadline=None)
def test_hedging_finds_the_peak_of_expected_gold(a: float, b: float) -> None:
    """gold u^a - u^(a+b) has the mean n/(n+a) - n/(n+a+b): its derivative is 0 at n = sqrt(a (a+b))."""
    peak = math.sqrt(a * (a + b))
    found = hedge_n(lambda u: u**a - u ** (a + b))
    if peak > 1.001:
        assert found.gold == "peaks"
        assert found.n == pytest.approx(peak, rel=1e-6)
    elif peak < 0.999:
        assert found == Hedge(None, "falls")


def test_a_table_of_samples_gives_what_the_function_gives() -> None:
    count = 4_000
    table = [gold((i - 0.5) / count) for i in range(1, count + 1)]
    assert hedge_n(table).n == pytest.approx(math.sqrt(3 * 12), rel=1e-3)
    assert hedge_n(gold).n == pytest.approx(math.sqrt(3 * 12), rel=1e-8)


def gold(u: float) -> float:
    """Rises, then is hacked: its peak is at n = sqrt(3 * 12)."""
    return u**3 - u**12


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=12), st.floats(1.0, 40.0))
@settings(deadline=None)
def test_the_root_of_a_table_is_a_peak_of_its_expected_gold(levels: list[int], elsewhere: float) -> None:
    """Of a table the expected gold is the sum of g_i (u_i^n - u_(i-1)^n)."""

    def expected(n: float) -> float:
        total = len(levels)
        return sum(level * (math.pow(i / total, n) - math.pow((i - 1) / total, n)) for i, level in enumerate(levels, 1))

    found = hedge_n(levels, 40.0)
    if found.n is not None:
        assert expected(found.n) >= max(expected(found.n * 0.999), expected(found.n * 1.001)) - 1e-12
    elif levels == sorted(levels):
        assert expected(40.0) >= expected(elsewhere) - 1e-12
    elif levels == sorted(levels, reverse=True):
        assert found.gold == "falls"


def test_without_a_peak_inside_the_side_is_said() -> None:
    assert hedge_n(lambda u: u) == Hedge(None, "rises")
    assert hedge_n(lambda u: -u) == Hedge(None, "falls")
    assert hedge_n(lambda u: 3.0) == Hedge(None, "falls")
    assert hedge_n([0.3] * 7) == Hedge(None, "falls")
    assert hedge_n(gold, most=5.0) == Hedge(None, "rises")


def test_affine_gold_peaks_at_the_same_n() -> None:
    assert hedge_n(lambda u: 7 * gold(u) - 100).n == pytest.approx(6.0, rel=1e-6)


def test_what_cannot_be_hedged_says_why() -> None:
    with pytest.raises(ValueError, match="above 1"):
        hedge_n(gold, most=1.0)
    for table in ([], [1.0, math.nan]):
        with pytest.raises(ValueError, match="all finite"):
            hedge_n(table)
