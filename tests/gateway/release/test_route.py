"""Which release answers whom, decided by the state alone."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.log.records import ReleaseRecord
from gateway.release.assignment import bucket
from gateway.release.route import OWN, choose, name_of, period_of, record_of, shadow_of, unit_of
from gateway.release.settings import ReleaseConfig
from gateway.release.state import Bundle, Canary, ModelRelease, Phase

CONFIG = ReleaseConfig(stages=[0.1, 0.5, 1.0], hold_back=0.1)
TWO = Bundle(release=2, policy="p@2", served_as="p-v2")
THREE = Bundle(release=3, policy="p@3", served_as="p-v3")
FOUR = Bundle(release=4, policy="p@4", served_as="p-v4")


def anything(_: Bundle) -> bool:
    return True


def without(*gone: Bundle) -> Callable[[Bundle], bool]:
    return lambda bundle: bundle not in gone


def canary(phase: Phase = "canary", **fields: object) -> Canary:
    return Canary(**{"bundle": FOUR, "control": THREE, "salt": "s", "phase": phase, "began": 1.0, "stage": 1, **fields})  # type: ignore[arg-type]


def user(low: float, high: float) -> str:
    """Somebody whose hash lies there."""
    return next(name for name in map(str, range(10_000)) if low <= bucket("s", name) < high)


def test_without_a_release_the_configurations_own_serves_and_nothing_is_recorded() -> None:
    found = choose(ModelRelease(), CONFIG, "ada", anything)
    assert found.bundle == OWN and record_of(found) == ReleaseRecord()


def test_without_a_canary_everybody_gets_the_champion() -> None:
    found = choose(ModelRelease(champion=THREE), CONFIG, "ada", anything)
    assert record_of(found) == ReleaseRecord(3)


def test_a_canarys_users_get_its_bundle_and_the_others_its_control() -> None:
    released = ModelRelease(champion=THREE, canary=canary())
    challenger, control = (
        choose(released, CONFIG, user(low, high), anything) for low, high in [(0.1, 0.5), (0.5, 0.9)]
    )
    assert (challenger.bundle, control.bundle) == (FOUR, THREE)
    its = ReleaseRecord(4, arm="challenger", stage=1, canary=name_of(canary()), period="1", counted=True)
    assert record_of(challenger) == its
    assert record_of(control) == replace(its, number=3, arm="control")


def test_who_had_the_challenger_before_the_stage_keeps_it_and_is_not_counted() -> None:
    found = record_of(choose(ModelRelease(champion=THREE, canary=canary()), CONFIG, user(0.0, 0.1), anything))
    assert (found.number, found.arm, found.counted) == (4, "challenger", False)


def test_who_is_not_known_gets_the_champion_and_no_group() -> None:
    found = record_of(choose(ModelRelease(champion=THREE, canary=canary()), CONFIG, None, anything))
    assert found == ReleaseRecord(3)


@pytest.mark.parametrize("phase", ["preparing", "shadow"])
def test_nobody_gets_what_is_being_prepared(phase: Phase) -> None:
    found = choose(ModelRelease(champion=THREE, canary=canary(phase)), CONFIG, user(0.0, 0.1), anything)
    assert record_of(found) == ReleaseRecord(3)


def test_after_the_promotion_the_hold_back_group_keeps_the_one_before() -> None:
    released = ModelRelease(champion=FOUR, canary=canary("watch"), previous=(THREE,))
    most, held = choose(released, CONFIG, user(0.5, 0.9), anything), choose(released, CONFIG, user(0.9, 1.0), anything)
    assert (most.bundle, held.bundle) == (FOUR, THREE)
    assert record_of(held).period == period_of(canary("watch")) == "watch"


def test_a_challenger_that_is_nowhere_is_replaced_by_its_control_and_counts_for_nobody() -> None:
    released = ModelRelease(champion=THREE, canary=canary())
    found = choose(released, CONFIG, user(0.1, 0.5), without(FOUR))
    assert record_of(found) == ReleaseRecord(3, fallback=True)


def test_a_champion_that_is_nowhere_is_replaced_by_the_ones_before_and_never_by_a_challenger() -> None:
    released = ModelRelease(champion=THREE, canary=canary(), previous=(TWO,))
    assert record_of(choose(released, CONFIG, None, without(THREE))) == ReleaseRecord(2, fallback=True)
    assert record_of(choose(released, CONFIG, None, without(THREE, TWO))) == ReleaseRecord(0, fallback=True)


@given(st.sets(st.sampled_from(["TWO", "THREE", "FOUR", "OWN"])), st.sampled_from([None, *map(str, range(40))]))
def test_what_answers_can_be_had_or_is_the_users_own(gone: set[str], who: str | None) -> None:
    named = {"TWO": TWO, "THREE": THREE, "FOUR": FOUR, "OWN": OWN}
    can = without(*(named[one] for one in gone))
    released = ModelRelease(champion=THREE, canary=canary(), previous=(TWO,))
    wanted = choose(released, CONFIG, who, anything)
    found = choose(released, CONFIG, who, can)
    if can(wanted.bundle) or len(gone) == len(named):
        assert found == wanted
    elif found.fallback:
        assert can(found.bundle) and found.arm is None and not found.counted and found.bundle != FOUR
    else:
        assert found == wanted and not any(map(can, (TWO, THREE, OWN)))


def test_a_reward_model_reads_along_in_the_shadow_alone() -> None:
    bundle = replace(FOUR, reward="new")
    assert shadow_of(ModelRelease(canary=canary("shadow", bundle=bundle))) == "new"
    assert shadow_of(ModelRelease(canary=canary("canary", bundle=bundle))) is None


def test_users_of_two_tenants_are_two_people() -> None:
    assert unit_of("a", "1") != unit_of("b", "1")
    assert unit_of("a", None) is None


def test_a_canary_is_known_by_its_salt_and_does_not_tell_it() -> None:
    assert name_of(canary(salt="x")) != name_of(canary(salt="y"))
    assert "s3cret" not in name_of(canary(salt="s3cret"))
