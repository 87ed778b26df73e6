import math
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding.laws.pessimism import threshold, weights

values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)
betas = st.floats(1e-2, 1e3)


@given(values, betas)
def test_at_the_threshold_the_weights_have_a_mean_of_one(rewards: list[float], beta: float) -> None:
    floor = threshold(rewards, beta)
    above = [max(0.0, (value - floor) / beta) for value in rewards]
    assert fmean(above) == pytest.approx(1.0, abs=1e-6)
    assert weights(rewards, beta) == pytest.approx([each / len(rewards) for each in above], abs=1e-6)
    assert math.fsum(weights(rewards, beta)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.3, 0.5, 0.7, 2.0])
def test_of_uniform_rewards_the_threshold_is_the_closed_form(beta: float) -> None:
    """1 - sqrt(beta), or 1 - sqrt(2 beta) beyond a half, is off by 0.04 or more."""
    grid = [(i - 0.5) / 20_000 for i in range(1, 20_001)]
    exact = 1 - math.sqrt(2 * beta) if beta <= 0.5 else 0.5 - beta
    assert threshold(grid, beta) == pytest.approx(exact, abs=1e-6)


@given(values, betas, st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_an_affine_map_moves_the_threshold_and_leaves_the_weights_where_beta_scales_along(
    rewards: list[float], beta: float, scale: float, shift: float
) -> None:
    moved = [scale * value + shift for value in rewards]
    floor = threshold(rewards, beta)
    assert threshold(moved, scale * beta) == pytest.approx(scale * floor + shift, rel=1e-9, abs=1e-6)
    assert weights(moved, scale * beta) == pytest.approx(weights(rewards, beta), abs=1e-6)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=20), betas, st.randoms())
def test_permuting_rewards_permutes_their_weights_and_equals_share(
    rewards: list[int], beta: float, shuffler: random.Random
) -> None:
    before = dict(zip(rewards, weights(rewards, beta), strict=True))
    shuffled = rewards.copy()
    shuffler.shuffle(shuffled)
    assert weights(shuffled, beta) == pytest.approx([before[value] for value in shuffled], abs=1e-9)
    twice = weights(rewards * 2, beta)
    assert twice == pytest.approx([before[value] / 2 for value in rewards * 2], abs=1e-9)


def test_a_small_beta_is_the_argmax_and_a_large_one_the_policy() -> None:
    assert weights([0.0, 3.0, 1.0], 1e-9) == pytest.approx([0.0, 1.0, 0.0])
    assert weights([0.0, 3.0, 1.0], 1e9) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_a_beta_that_is_none_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="beta must be above 0"):
        threshold([1.0], beta)


def test_a_failed_score_is_refused() -> None:
    with pytest.raises(ValueError, match="all finite"):
        weights([1.0, math.nan], 0.5)
