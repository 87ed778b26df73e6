"""What halving keeps, by simulation: against the closed form of one checkpoint, and at the limits of several."""

import pytest

from gateway.calibrate.halved import kept
from gateway.decoding.laws.halving import expected_maximum, retained


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7, 0.9])
@pytest.mark.parametrize("keep", [4, 8])
def test_at_one_checkpoint_it_is_the_closed_form(correlation: float, keep: int) -> None:
    """4,000 prompts: a standard error of 0.5 % or less, five times."""
    assert kept(16, (16, keep), [correlation]) == pytest.approx(retained(16, keep, correlation), abs=0.025)


def test_correlations_of_one_lose_nothing_and_of_zero_leave_the_last_few() -> None:
    assert kept(16, (16, 8, 4, 2), [1.0, 1.0, 1.0]) == 1.0
    chance = expected_maximum(2) / expected_maximum(16)
    assert kept(16, (16, 8, 4, 2), [0.0, 0.0, 0.0]) == pytest.approx(chance, abs=0.04)


def test_a_checkpoint_that_tells_nothing_costs_what_chance_does_before_one_that_tells_all() -> None:
    """A chain that ran the other way, or independent noises at each, would not have the second see all of the first."""
    chance = expected_maximum(8) / expected_maximum(16)
    assert kept(16, (16, 8, 1), [0.0, 1.0]) == pytest.approx(chance, abs=0.025)


def test_two_checkpoints_that_say_the_same_are_one() -> None:
    """By a Markov chain equal correlations are the same reward: the second choice goes on with the first's order."""
    assert kept(16, (16, 8, 4), [0.6, 0.6]) == pytest.approx(retained(16, 4, 0.6), abs=0.03)
    # A correlation above a later one counts as that.
    assert kept(16, (16, 8, 4), [0.9, 0.6]) == kept(16, (16, 8, 4), [0.6, 0.6])


def test_phases_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="1 checkpoints make 2 phases"):
        kept(16, (16,), [0.5])
