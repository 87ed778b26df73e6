import pytest

from gateway.release.counts import Counts
from gateway.release.judging import DAY
from gateway.release.outlook import outlook
from gateway.release.settings import ReleaseConfig
from tests.gateway.release.test_judging import ALIKE, BEGAN, CONFIG, arm, canary, decided


def test_votes_are_told_until_the_margin_is_resolved() -> None:
    some = Counts(challenger=arm(2_000, 600, 400), control=arm(7_500, 2_250, 1_500))
    found = outlook(CONFIG, canary(), some, BEGAN + 2 * DAY)
    assert found.votes == 4_750 and found.a_day == pytest.approx(2_375)
    assert found.needed is not None and found.days == pytest.approx((found.needed - 4_750) / 2_375)
    # With so many it is promoted, with a twentieth fewer it is not.
    assert decided(times(some, found.needed / 4_750)).act == "promote"
    assert decided(times(some, 0.95 * found.needed / 4_750)).act == "hold"


def times(counts: Counts, by: float) -> Counts:
    return Counts(
        challenger=arm(*(round(by * one) for one in (counts.challenger.users, *counts.challenger.first.values()))),
        control=arm(*(round(by * one) for one in (counts.control.users, *counts.control.first.values()))),
    )


def test_enough_is_enough() -> None:
    found = outlook(CONFIG, canary(), ALIKE, BEGAN + 4 * DAY)
    assert (found.needed, found.days, found.says) == (found.votes, 0.0, "enough votes are there")


def test_it_says_when_it_will_have_expired_before() -> None:
    slow = Counts(challenger=arm(400, 120, 80), control=arm(1_500, 450, 300))
    found = outlook(CONFIG, canary(), slow, BEGAN + 10 * DAY)
    assert found.days is not None and found.days > 11
    assert "it expires in 11.0" in found.says


def test_what_cannot_be_told_is_not_told() -> None:
    few = Counts(challenger=arm(60, 10, 10), control=arm(225, 50, 40))
    assert "30 first votes" in outlook(CONFIG, canary(), few, BEGAN + DAY).says
    worse = Counts(challenger=arm(2_000, 570, 430), control=arm(7_500, 2_250, 1_500))
    assert "never would be shown" in outlook(CONFIG, canary(), worse, BEGAN + DAY).says
    for one in (canary(0), canary(3, "watch"), canary(0, "shadow")):
        found = outlook(CONFIG, one, ALIKE, BEGAN + DAY)
        assert found.needed is None and found.days is None and "cannot be told yet" in found.says


def test_before_any_time_has_passed_there_is_no_rate() -> None:
    some = Counts(challenger=arm(2_000, 600, 400), control=arm(7_500, 2_250, 1_500))
    found = outlook(ReleaseConfig(), canary(), some, BEGAN)
    assert found.days is None and found.needed is not None
