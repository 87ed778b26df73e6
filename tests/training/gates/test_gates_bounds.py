"""One-sided bounds: error rates by simulation, what is needed, spending over uses, verdicts from bounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.intervals import Estimate
from training.gates.bounds import Bound, factor, of_mean, of_share, rescaled, z_of
from training.gates.saying import held, unmeasured
from training.gates.wear import spent

RNG_RUNS = 2000


@pytest.mark.parametrize("alpha", [0.05, 0.02])
def test_a_win_rate_of_one_half_is_taken_for_more_in_alpha_of_all_runs(alpha: float) -> None:
    rng = np.random.default_rng(0)
    wins = rng.integers(0, 2, (RNG_RUNS, 200)).astype(float)
    passed = np.mean([of_share(row.tolist(), range(200), alpha).low > 0.5 for row in wins])
    assert passed < alpha + 3 * math.sqrt(alpha / RNG_RUNS)


def test_a_mean_at_its_limit_is_taken_for_less_in_alpha_of_all_runs() -> None:
    rng = np.random.default_rng(1)
    rows = rng.choice([-1.0, 0.0, 1.0], (RNG_RUNS, 100), p=[0.15, 0.55, 0.3])
    passed = np.mean([of_mean(row.tolist(), range(100), 0.05).high < 0.15 for row in rows])
    assert passed < 0.065


def test_the_interval_narrows_with_alpha_and_holds_its_value() -> None:
    wide, narrow = (of_share([1, 0, 1, 1, 0, 0.5] * 10, range(60), alpha) for alpha in (0.01, 0.1))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_a_95_percent_interval_is_carried_to_another_level() -> None:
    same = rescaled(Estimate(1.0, 0.5, 1.5, 10, 10), 0.025)
    assert (same.low, same.high, same.units) == pytest.approx((0.5, 1.5, 10))
    assert rescaled(Estimate(1.0, 0.5, 1.5, 10, 10), 0.05).high == pytest.approx(1 + 0.5 * z_of(0.05) / z_of(0.025))


def test_twice_as_fine_needs_four_times_as_many() -> None:
    bound = Bound(0.5, 0.45, 0.55, 100, 0.03)
    assert bound.needed(0.05, 0.01) == pytest.approx(4 * (bound.needed(0.05, 0.02) or 0), rel=0.001)
    assert bound.resolves(0.05) == pytest.approx(factor(0.05) * 0.03)
    assert Bound(0.0, -math.inf, math.inf, 1, math.inf).needed(0.05, 0.1) is None


def test_all_uses_together_spend_alpha() -> None:
    total = math.fsum(spent(0.05, uses) for uses in range(100_000))
    assert 0.0499 < total <= 0.05
    assert spent(0.05, 0) > spent(0.05, 1) > spent(0.05, 2)


@given(st.floats(-1, 1), st.floats(0.001, 0.5), st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_a_check_passes_exactly_where_its_bound_is_on_the_right_side(
    value: float, half: float, margin: float, error: float
) -> None:
    bound = Bound(value, value - half, value + half, 50, error)
    for side in ("below", "above"):
        one = held("G2 policy", "x", bound, side, 0.1, 0.05, margin=margin, what="X", of="prompts")
        right = bound.high < 0.1 if side == "below" else bound.low > 0.1
        assert (one.outcome == "pass") == right
        if one.outcome == "unmeasured":
            assert one.needed is not None and one.needed > 50
            assert one.resolves is not None and one.resolves > margin
            assert one.reason.startswith("Unmeasured: ")
        assert one.low is not None and one.high is not None and one.low <= value <= one.high


def test_what_is_shown_to_be_wrong_fails_however_little_there_is() -> None:
    one = held("G2 policy", "x", Bound(0.9, 0.8, 1.0, 3, 0.4), "below", 0.1, 0.05, margin=0.01, what="X", of="prompts")
    assert one.outcome == "fail"
    assert "is not below 10.0%" in one.reason


def test_an_unmeasured_check_says_how_many_it_takes() -> None:
    assert unmeasured("G0 data", "x", "Do it.", needed=1200).reason == "Unmeasured: 1,200 needed. Do it."
