"""The rollback experiment, small: what is simulated is what it says, and the release code does what it shall."""

import random

import numpy as np
import pytest

from gateway.release.assignment import bucket
from gateway.release.counting import Tally
from gateway.release.sequences import Votes, highest
from gateway.release.settings import ReleaseConfig
from training.experiments import canaries
from training.experiments.canaries import (
    BASE,
    TASTE_SPREAD,
    Outcome,
    Version,
    days_of,
    harmed,
    leaning,
    run_canary,
    traffic,
)
from training.experiments.rollback import CROWDS, null_table, quartiles, section, summed, worse_table

SMALL = CROWDS[0]


def runs(version: Version, count: int, settings: ReleaseConfig = SMALL.settings) -> list[Outcome]:
    found = []
    for number in range(count):
        seen = traffic(SMALL.users, days_of(settings), np.random.default_rng([1, number]))
        found.append(run_canary(settings, version, seen, f"test-{number}", contrast=True))
    return found


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_people_say_thumbs_up_with_the_share_that_is_meant(share: float) -> None:
    tastes = np.random.default_rng(0).normal(leaning(share), TASTE_SPREAD, 200_000)
    assert float(np.mean(1 / (1 + np.exp(-tastes)))) == pytest.approx(share, abs=0.003)


def test_a_few_people_ask_most() -> None:
    seen = traffic(2_000, 10.0, np.random.default_rng(0))
    asked = np.sort(np.bincount(seen.who, minlength=2_000))
    assert len(seen.who) == pytest.approx(20_000, rel=0.15)
    assert asked[-200:].sum() > 0.35 * asked.sum()
    assert (np.diff(seen.times) >= 0).all()
    assert float(seen.votes.mean()) == pytest.approx(canaries.ZEAL, abs=0.03)


def test_versions_as_good_are_seldom_taken_back() -> None:
    found = runs(Version(), 25)
    back = sum(one.act == "roll_back" for one in found)
    # The chance of more is below one in a hundred thousand where one in a hundred is taken back.
    assert back <= 4
    assert {one.act for one in found} <= {"roll_back", "expire", "watched"}
    # The ramp and the watch are in it: some are promoted, and seen to the end.
    watched = [one for one in found if one.act == "watched"]
    assert watched and all(one.promoted and one.stage == 3 for one in watched)
    assert all(one.days <= SMALL.settings.expire_days + SMALL.settings.watch_days + 1 for one in found)


def test_a_version_that_fails_is_taken_back_soon() -> None:
    found = runs(Version(errors=0.2), 10)
    assert all(one.act == "roll_back" and not one.promoted for one in found)
    assert np.median([one.days for one in found]) < 5


def test_a_version_as_much_worse_as_the_margin_is_not_promoted() -> None:
    found = runs(Version(worse=SMALL.settings.margin), 25)
    assert sum(one.promoted for one in found) <= 5
    assert np.mean([one.act == "roll_back" for one in found]) >= 0.04


def test_more_users_find_harm_sooner() -> None:
    settings = CROWDS[1].settings
    seen = traffic(4_000, days_of(settings), np.random.default_rng(3))
    one = run_canary(settings, Version(worse=0.25), seen, "many", every=20)
    assert one.act == "roll_back" and one.days < 6


def test_interactions_that_are_left_out_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All events of the counted users give the same counts, but for interactions, as those that are applied."""
    applied: list[Tally] = []

    class Kept(Tally):
        def __init__(self) -> None:
            super().__init__()
            applied.append(self)

    monkeypatch.setattr(canaries, "Tally", Kept)
    settings = ReleaseConfig(stages=[0.5, 1.0], min_users=10_000)
    seen = traffic(60, 30.0, np.random.default_rng(2))
    outcome = run_canary(settings, Version(worse=0.2), seen, "all")
    assert outcome.act == "expire"
    [tally] = applied
    counts = tally.counts
    until = int(np.searchsorted(seen.times, outcome.days * 86_400, side="right"))
    names = {f"user-{who}" for who in seen.who[:until]}
    assert counts.challenger.users == sum(bucket("all", name) < 0.5 for name in names)
    voted = {int(who) for who, vote in zip(seen.who[:until], seen.votes[:until], strict=True) if vote}
    of = (counts.challenger, counts.control)
    assert sum(one.of("up") + one.of("down") for one in of) == len(voted)
    assert outcome.interactions == sum(bucket("all", f"user-{who}") < 0.5 for who in seen.who[:until])


def test_the_contrast_is_the_release_codes_own_sequence() -> None:
    settings = ReleaseConfig(min_votes=30)
    rng = random.Random(5)
    found = []
    for _ in range(40):
        challenger = np.array([rng.random() < 0.4 for _ in range(200)])
        up = np.array([rng.random() < (0.45 if one else 0.65) for one in challenger])
        share = float(challenger.mean())
        aim = settings.min_votes / min(share, 1 - share)
        ever = False
        for end in range(1, len(up) + 1):
            some, votes = challenger[:end], up[:end]
            seen = Votes(int(some.sum()), int(votes[some].sum()), int((~some).sum()), int(votes[~some].sum()))
            ever |= highest(seen, settings.alpha, aim) < 0
        assert harmed(challenger, up, settings) == ever
        found.append(ever)
    assert 0 < sum(found) < len(found)


def test_tables_say_how_often_and_how_soon() -> None:
    back = Outcome("roll_back", "why", False, 2, 100, 50, 4.0)
    kept = Outcome("watched", "why", True, 3, 900, 380, 28.0, naive=True)
    results = {SMALL.users: {"as good": summed([kept] * 9 + [back]), "5 points worse": summed([back] * 3 + [kept])}}
    assert "| 400 | 10 | 0.1000 (0.0179 to 0.4042) | 0.90" in null_table(results)
    assert (
        "| 400 | 5 points worse | 4 | 0.75 (0.30 to 0.95) | 100 (100, 100) | 50 (50, 50) | 4.0 (4.0, 4.0) |"
        in worse_table(results)
    )
    assert "1 were rolled back" in section(results)
    assert quartiles([1.0]) == () and quartiles([1.0, 2.0, 3.0]) == (1.5, 2.0, 2.5)
    assert BASE == 0.6
