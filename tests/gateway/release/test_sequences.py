import itertools
import math
import random
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.release.sequences import (
    ODDS,
    START_VOTES,
    Votes,
    highest,
    log_harm,
    log_imbalance,
    log_worse,
    lowest,
    resolving,
    tuned,
    width,
)

shares = st.sampled_from([0.01, 0.05, 0.21, 0.5, 0.93])
counts = st.integers(0, 200)


def reached(log_e: Callable[[int, int], float], share: float, alpha: float, steps: int) -> float:
    """P(E is ever at 1 / alpha or above within so many labels), exactly: over all paths of the counts."""
    ways, found = {0: 1.0}, 0.0
    for step in range(1, steps + 1):
        following: dict[int, float] = {}
        for challengers, chance in ways.items():
            for label, of in ((1, share), (0, 1 - share)):
                now = challengers + label
                if log_e(now, step - now) >= -math.log(alpha):
                    found += chance * of
                else:
                    following[now] = following.get(now, 0.0) + chance * of
        ways = following
    return found


# Harm by first events.


def test_one_event_is_worth_what_the_formula_says() -> None:
    expected = statistics.fmean(2 * odds / (odds + 1) for odds in ODDS)
    assert math.exp(log_harm(1, 0, 0.5)) == pytest.approx(expected)
    assert math.exp(log_harm(0, 1, 0.5, fewer=True)) == pytest.approx(expected)
    assert log_harm(0, 0, 0.3) == pytest.approx(0.0)


@given(counts, counts, shares, st.booleans())
def test_harm_is_a_martingale_while_the_labels_are_drawn(one: int, other: int, share: float, fewer: bool) -> None:
    before = log_harm(one, other, share, fewer)
    after = share * math.exp(log_harm(one + 1, other, share, fewer) - before) + (1 - share) * math.exp(
        log_harm(one, other + 1, share, fewer) - before
    )
    assert after == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.01, 0.21, 0.5, 0.93])
@pytest.mark.parametrize("fewer", [False, True])
def test_no_difference_is_taken_for_harm_no_more_often_than_alpha(share: float, fewer: bool) -> None:
    for alpha in (0.05, 0.002):
        assert reached(lambda one, other: log_harm(one, other, share, fewer), share, alpha, 250) <= alpha


def test_harm_is_found() -> None:
    """Twice the odds: by 300 events in four of five canaries. Fewer users with a thumb up as well."""
    more = 2 * 0.21 / (2 * 0.21 + 0.79)
    assert reached_by(lambda one, other: log_harm(one, other, 0.21), more, 300) > 0.8
    less = 0.5 * 0.21 / (0.5 * 0.21 + 0.79)
    assert reached_by(lambda one, other: log_harm(one, other, 0.21, True), less, 300) > 0.8


def reached_by(log_e: Callable[[int, int], float], truth: float, steps: int, alpha: float = 0.01) -> float:
    rng = random.Random(1)
    hits = 0
    for _ in range(200):
        one = 0
        for step in range(1, steps + 1):
            one += rng.random() < truth
            if log_e(one, step - one) >= -math.log(alpha):
                hits += 1
                break
    return hits / 200


@given(counts, counts, shares)
def test_more_harm_is_never_less_evidence(one: int, other: int, share: float) -> None:
    assert log_harm(one + 1, other, share) > log_harm(one, other, share) > log_harm(one, other + 1, share)
    assert log_harm(one + 1, other, share, True) < log_harm(one, other, share, True)


# Votes.


@st.composite
def votes(draw: st.DrawFn) -> Votes:
    challenger, control = draw(counts), draw(counts)
    return Votes(challenger, draw(st.integers(0, challenger)), control, draw(st.integers(0, control)))


def add(votes: Votes, challenger: bool, up: bool) -> Votes:
    one, one_up, other, other_up = votes
    return Votes(one + 1, one_up + up, other, other_up) if challenger else Votes(one, one_up, other + 1, other_up + up)


@given(votes(), shares, st.booleans())
def test_worse_thumbs_are_a_martingale_while_the_labels_are_drawn(seen: Votes, share: float, up: bool) -> None:
    """Whatever the next person votes, given that vote."""
    before = log_worse(seen, share)
    after = sum(
        chance * math.exp(log_worse(add(seen, challenger, up), share) - before)
        for challenger, chance in ((True, share), (False, 1 - share))
    )
    assert after == pytest.approx(1.0)


@given(votes(), shares, st.floats(0.02, 0.98), st.floats(0, 1))
def test_a_challenger_that_is_better_makes_the_evidence_fall(seen: Votes, share: float, p0: float, gain: float) -> None:
    p1 = p0 + gain * (1 - p0)
    before = log_worse(seen, share)
    after = sum(
        of * (p if up else 1 - p) * math.exp(log_worse(add(seen, challenger, up), share) - before)
        for challenger, of, p in ((True, share, p1), (False, 1 - share, p0))
        for up in (True, False)
    )
    assert after <= 1 + 1e-9


@given(votes(), shares)
def test_a_vote_down_is_more_evidence_than_a_vote_up(seen: Votes, share: float) -> None:
    assert log_worse(add(seen, True, False), share) > log_worse(add(seen, True, True), share)
    assert log_worse(add(seen, False, True), share) > log_worse(add(seen, False, False), share)


def test_labels_of_votes_are_taken_for_harm_no_more_often_than_alpha() -> None:
    """People of two kinds in any order; the chance is over the labels alone."""
    rng, alpha, hits, runs = random.Random(3), 0.05, 0, 600
    for _ in range(runs):
        seen = Votes(0, 0, 0, 0)
        for place in range(300):
            up = place % 7 != 0 if place < 150 else place % 3 == 0
            seen = add(seen, rng.random() < 0.9333, up)
            if log_worse(seen, 0.9333) >= -math.log(alpha):
                hits += 1
                break
    assert hits / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


# The ratio of the groups.


def test_the_imbalance_is_the_beta_binomials() -> None:
    """With a = b = 50: B(51, 50) / B(50, 50) / 0.5 = 1, and after two of one kind (51 / 101) / 0.5."""
    assert math.exp(log_imbalance(1, 0, 0.5)) == pytest.approx(1.0)
    assert math.exp(log_imbalance(2, 0, 0.5)) == pytest.approx((51 / 101) / 0.5)


@given(st.integers(0, 3000), st.integers(0, 3000), shares)
def test_the_imbalance_is_a_martingale_while_the_ratio_is_right(one: int, other: int, share: float) -> None:
    before = log_imbalance(one, other, share)
    after = share * math.exp(log_imbalance(one + 1, other, share) - before) + (1 - share) * math.exp(
        log_imbalance(one, other + 1, share) - before
    )
    assert after == pytest.approx(1.0, rel=1e-6)


def test_a_right_ratio_is_seldom_called_broken_and_a_wrong_one_is() -> None:
    assert reached(lambda one, other: log_imbalance(one, other, 0.21), 0.21, 0.01, 400) <= 0.01
    # A tenth of the challenger's users lost, of 20,000.
    lost = 0.21 * 0.9 / (0.21 * 0.9 + 0.79)
    assert log_imbalance(round(20_000 * lost), round(20_000 * (1 - lost)), 0.21) > math.log(1000)


# The asymptotic confidence sequence.


@pytest.mark.parametrize(("alpha", "c"), [*itertools.product([0.05, 0.005], [0.1, 1.0, 8.0, 100.0])])
def test_the_sequence_is_where_the_mixture_martingale_is_at_its_limit(alpha: float, c: float) -> None:
    x = width(alpha, c) * math.sqrt(c / (c + 1))
    martingale = 2 * math.exp(x * x / 2) * statistics.NormalDist().cdf(x) / math.sqrt(c + 1)
    assert 1 <= alpha * martingale < 1.25


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.005])
def test_it_is_tuned_to_be_narrow(alpha: float) -> None:
    narrowest = min(width(alpha, 1.1**power) for power in range(-20, 60))
    assert width(alpha, tuned(alpha)) < 1.01 * narrowest


def test_the_margin_is_resolved_with_as_many_votes_as_it_says() -> None:
    count = resolving(0.02, 0.21, 0.05)
    challenger, control = round(0.21 * count), round(0.79 * count)
    seen = Votes(challenger, challenger // 2, control, control // 2)
    assert lowest(seen, 0.05, count) == pytest.approx(-0.02, abs=2e-4)
    assert highest(seen, 0.05, count) == pytest.approx(0.02, abs=2e-4)
    assert 25_000 < count < 35_000


def test_too_few_votes_say_nothing() -> None:
    few = Votes(START_VOTES - 1, 0, 10_000, 10_000)
    assert (lowest(few, 0.05, 100), highest(few, 0.05, 100)) == (-math.inf, math.inf)


def test_votes_that_are_all_alike_leave_a_doubt() -> None:
    seen = Votes(50, 50, 200, 200)
    assert lowest(seen, 0.05, 200) < 0.0 < highest(seen, 0.05, 200)


@pytest.mark.parametrize(("share", "up"), [(0.21, 0.6), (0.5, 0.8), (0.5, 0.2)])
def test_it_holds_the_truth_at_all_times_together(share: float, up: float) -> None:
    rng, runs, alpha = random.Random(4), 300, 0.05
    low = high = 0
    for _ in range(runs):
        seen, missed_low, missed_high = Votes(0, 0, 0, 0), False, False
        for place in range(900):
            seen = add(seen, rng.random() < share, rng.random() < up)
            if place % 9 == 0:
                missed_low |= lowest(seen, alpha, 600) > 0
                missed_high |= highest(seen, alpha, 600) < 0
        low, high = low + missed_low, high + missed_high
    most = alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
    assert low / runs <= most and high / runs <= most
    # And it is no wider than it must be: some do miss.
    assert low + high > 0


def test_the_asymptotic_sequence_is_not_what_takes_a_version_back() -> None:
    """In the watch 14 users have the challenger for one who has not. Nearly all are content, and a signal has a small
    part of alpha: there it errs several times as often as it says. (`log_worse` is a martingale at any of these.)"""
    rng, runs, count, alpha, share, up, aim = np.random.default_rng(6), 1500, 3000, 0.006, 0.9333, 0.95, 3000
    challenger, ups = rng.random((runs, count)) < share, rng.random((runs, count)) < up
    every = slice(4, None, 5)
    n1, n0 = np.cumsum(challenger, 1)[:, every], np.cumsum(~challenger, 1)[:, every]
    up1, up0 = np.cumsum(challenger & ups, 1)[:, every], np.cumsum(~challenger & ups, 1)[:, every]
    with np.errstate(all="ignore"):
        p1, p0 = (up1 + 1) / (n1 + 2), (up0 + 1) / (n0 + 2)
        c = tuned(alpha) * (n1 + n0) / aim
        half = np.sqrt((c + 1) / c * 2 * np.log(0.5 + np.sqrt(c + 1) / (2 * alpha)))
        bound = up1 / n1 - up0 / n0 + half * np.sqrt(p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)
    missed = ((np.minimum(n1, n0) >= START_VOTES) & (bound < 0)).any(axis=1)
    assert missed.mean() > 2 * alpha
    last = Votes(int(n1[0, -1]), int(up1[0, -1]), int(n0[0, -1]), int(up0[0, -1]))
    assert highest(last, alpha, aim) == pytest.approx(float(bound[0, -1]))
