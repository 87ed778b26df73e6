import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feedback.trust.tails import binomial_tail, poisson_tail, poisson_threshold


@given(st.integers(0, 60), st.floats(0.05, 40))
def test_the_poisson_tail_is_the_closed_form(count: int, mean: float) -> None:
    exact = 1 - math.fsum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(count))
    assert poisson_tail(count, mean) == pytest.approx(exact, abs=1e-12)


def test_a_tiny_poisson_tail_keeps_its_digits() -> None:
    # By its leading terms: e^-1 (1/30! + 1/31! + ...).
    exact = math.exp(-1) * math.fsum(1 / math.factorial(k) for k in range(30, 60))
    assert poisson_tail(30, 1.0) == pytest.approx(exact, rel=1e-10)


@given(st.floats(0.05, 500), st.floats(1e-12, 0.5))
def test_the_threshold_is_the_least_count_that_is_surprising_enough(mean: float, probability: float) -> None:
    threshold = poisson_threshold(mean, probability)
    assert poisson_tail(threshold, mean) <= probability < poisson_tail(threshold - 1, mean)


@given(st.integers(0, 30), st.integers(1, 30), st.integers(1, 99))
def test_the_binomial_tail_is_the_closed_form(count: int, trials: int, percent: int) -> None:
    chance = Fraction(percent, 100)
    exact = sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(count, trials + 1))
    assert binomial_tail(count, trials, percent / 100) == pytest.approx(float(exact), rel=1e-9, abs=1e-300)
