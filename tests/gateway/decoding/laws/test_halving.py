import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding.laws.halving import (
    best_of_kept,
    expected_maximum,
    retained,
    survivors,
    tokens,
    tokens_share,
)


def test_each_checkpoint_lets_a_share_go_on_and_the_last_one_always() -> None:
    assert survivors(16, 0.5, 3) == (16, 8, 4, 2)
    assert survivors(5, 0.25, 4) == (5, 1, 1, 1, 1)
    assert survivors(7, 1.0, 2) == (7, 7, 7)
    assert survivors(9, 0.5, 0) == (9,)


@pytest.mark.parametrize(("n", "share"), [(0, 0.5), (4, 0.0), (4, 1.5), (4, math.nan)])
def test_a_schedule_that_makes_no_sense_is_refused(n: int, share: float) -> None:
    with pytest.raises(ValueError, match=r"n must be|the share that goes on"):
        survivors(n, share, 1)


def test_sixteen_halved_at_an_eighth_a_quarter_and_half_cost_31_percent() -> None:
    alive = survivors(16, 0.5, 3)
    assert tokens(alive, [32, 64, 128], [256]) == 16 * 32 + 8 * 32 + 4 * 64 + 2 * 128
    assert tokens_share(alive, [32, 64, 128], [256]) == pytest.approx(5 / 16)
    assert tokens_share(survivors(16, 0.25, 1), [64], [256]) == pytest.approx(0.4375)


@given(st.integers(1, 32), st.floats(0.1, 1.0), st.lists(st.integers(1, 400), min_size=1, max_size=8))
def test_no_schedule_costs_more_than_all_and_a_checkpoint_after_the_end_saves_nothing(
    n: int, share: float, lengths: list[int]
) -> None:
    alive = survivors(n, share, 2)
    assert 0 < tokens_share(alive, [50, 100], lengths) <= 1 + 1e-12
    assert tokens_share(alive, [400, 500], lengths) == pytest.approx(1.0)
    assert tokens((n,), [], lengths) == pytest.approx(n * sum(lengths) / len(lengths))


def test_candidates_that_end_before_a_checkpoint_cost_their_own_length() -> None:
    """Two at 10 and 100 tokens on average, half cut at 50: min(L, 50) for all, and half of what is beyond."""
    assert tokens((4, 2), [50], [10, 100]) == 4 * (10 + 50) / 2 + 2 * (0 + 50) / 2


def test_tokens_of_a_schedule_that_does_not_fit_say_why() -> None:
    with pytest.raises(ValueError, match="1 checkpoints make 2 phases, not 3"):
        tokens((4, 2, 1), [50], [100])
    with pytest.raises(ValueError, match="ascending"):
        tokens((4, 2, 1), [50, 20], [100])
    with pytest.raises(ValueError, match="without a length"):
        tokens((4, 2), [50], [])


def test_the_means_of_normal_maxima_are_the_known_ones() -> None:
    assert expected_maximum(1) == pytest.approx(0.0, abs=1e-12)
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-12)
    assert expected_maximum(3) == pytest.approx(1.5 / math.sqrt(math.pi), abs=1e-12)
    known = {4: 1.029, 8: 1.424, 16: 1.766, 32: 2.070, 1000: 3.241}
    assert {n: round(expected_maximum(n), 3) for n in known} == known


@pytest.mark.parametrize(("n", "keep"), [(2, 1), (4, 2), (16, 4), (64, 3), (1000, 10)])
def test_a_blind_checkpoint_is_best_of_the_kept_and_a_perfect_one_best_of_all(n: int, keep: int) -> None:
    assert best_of_kept(n, keep, 0.0) == pytest.approx(expected_maximum(keep), abs=1e-6)
    assert best_of_kept(n, keep, 1.0) == expected_maximum(n)
    # The formula itself nears it too.
    assert best_of_kept(n, keep, 0.9999) == pytest.approx(expected_maximum(n), abs=2e-3)
    assert best_of_kept(n, n, 0.3) == expected_maximum(n)


@pytest.mark.parametrize("correlation", [-0.9, -0.3, 0.3, 0.7, 0.99])
def test_one_kept_has_the_correlation_times_the_best_partial_reward(correlation: float) -> None:
    assert best_of_kept(16, 1, correlation) == pytest.approx(correlation * expected_maximum(16), abs=1e-8)


def test_four_of_sixteen_retain_what_the_simulations_say() -> None:
    """Reference: 77, 87, 95 and 99.5 %, of a simulation with an error of about half a point."""
    shares = [100 * retained(16, 4, correlation) for correlation in (0.3, 0.5, 0.7, 0.9)]
    assert shares == pytest.approx([77, 87, 95, 99.5], abs=0.6)


@pytest.mark.parametrize(("n", "keep", "correlation"), [(16, 4, 0.5), (8, 3, 0.8), (32, 2, 0.3)])
def test_the_formula_is_what_a_simulation_finds(n: int, keep: int, correlation: float) -> None:
    rng = np.random.default_rng(6)
    partial = rng.standard_normal((40_000, n))
    final = correlation * partial + math.sqrt(1 - correlation**2) * rng.standard_normal((40_000, n))
    best = np.take_along_axis(final, np.argsort(partial, axis=1)[:, -keep:], axis=1).max(axis=1)
    assert abs(best.mean() - best_of_kept(n, keep, correlation)) < 5 * best.std() / math.sqrt(len(best))


def test_more_correlation_and_more_kept_retain_more() -> None:
    by_correlation = [best_of_kept(16, 4, step / 10) for step in range(11)]
    by_kept = [best_of_kept(16, keep, 0.5) for keep in (1, 2, 4, 8, 16)]
    assert by_correlation == sorted(by_correlation)
    assert by_kept == sorted(by_kept)


def test_a_stage_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 4 go on, not 5"):
        best_of_kept(4, 5, 0.5)
    with pytest.raises(ValueError, match="between -1 and 1"):
        best_of_kept(4, 2, 1.1)
    with pytest.raises(ValueError, match="2 or more"):
        retained(1, 1, 0.5)
    with pytest.raises(ValueError, match="1 or more"):
        expected_maximum(0)
