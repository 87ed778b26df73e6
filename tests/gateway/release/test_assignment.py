import math
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.release.assignment import arm_of, bucket, challenger_share, group_of, reach, reached_before
from gateway.release.settings import ReleaseConfig
from gateway.release.state import Bundle, Canary

CONFIG = ReleaseConfig()
USERS = [f"user-{number}" for number in range(20_000)]


def canary(stage: int = 0, phase: str = "canary", salt: str = "salt") -> Canary:
    made = Canary(bundle=Bundle(release=2), control=Bundle(release=1), salt=salt, phase="canary", began=0.0)
    return msgspec.structs.replace(made, stage=stage, phase=phase)


ON_ITS_WAY = [*(canary(stage) for stage in range(3)), canary(3, "watch")]

stages = st.lists(st.integers(1, 100), min_size=1, max_size=5, unique=True).map(
    lambda shares: [share / 100 for share in sorted(shares)]
)


def within(hits: int, count: int, share: float) -> bool:
    """Five standard errors: once in two million."""
    return abs(hits - count * share) <= 5 * math.sqrt(count * share * (1 - share)) + 1e-9


def test_buckets_are_those_of_every_gateway_and_release() -> None:
    """Written down: a change of the hash would move users in the middle of a canary."""
    assert bucket("salt", "user-0") == pytest.approx(0.3887478048929367, abs=1e-15)
    assert bucket("salt", "user-0") == bucket("salt", "user-0")


def test_buckets_are_uniform() -> None:
    found = sorted(bucket("salt", user) for user in USERS)
    # Kolmogorov and Smirnov: sqrt(n) D is over 1.95 once in a thousand.
    distance = max(
        max(abs(one - place / len(found)), abs((place + 1) / len(found) - one)) for place, one in enumerate(found)
    )
    assert math.sqrt(len(found)) * distance < 1.95
    assert found[0] >= 0 and found[-1] < 1


def test_another_salt_draws_anew() -> None:
    both = sum(bucket("one", user) < 0.25 and bucket("other", user) < 0.25 for user in USERS)
    assert within(both, len(USERS), 0.0625)
    # Salts and users do not run into each other.
    assert bucket("ab", "c") != bucket("a", "bc")


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_salt_and_user_have_a_bucket(salt: str, user: str) -> None:
    assert 0 <= bucket(salt, user) < 1


@given(stages, st.sampled_from([0.0, 0.05, 0.3]), st.text(min_size=1, max_size=12))
def test_whoever_has_the_challenger_keeps_it_to_the_end(shares: Sequence[float], hold_back: float, user: str) -> None:
    config = ReleaseConfig(stages=list(shares), hold_back=hold_back)
    ways = [*(canary(stage) for stage in range(len(shares))), canary(len(shares), "watch")]
    arms = [arm_of(one, config, user) for one in ways]
    assert arms == sorted(arms, key=["control", "challenger"].index)  # type: ignore[arg-type]


@given(stages, st.sampled_from([0.05, 0.3]), st.text(min_size=1, max_size=12))
def test_the_hold_back_group_never_gets_it(shares: Sequence[float], hold_back: float, user: str) -> None:
    config = ReleaseConfig(stages=list(shares), hold_back=hold_back)
    held = bucket("salt", user) >= 1 - hold_back
    watched = canary(len(shares), "watch")
    if held:
        assert {arm_of(canary(stage), config, user) for stage in range(len(shares))} == {"control"}
    assert arm_of(watched, config, user) == ("control" if held else "challenger")


@given(stages, st.sampled_from([0.0, 0.05, 0.3]))
def test_a_stage_counts_those_who_are_new_to_it(shares: Sequence[float], hold_back: float) -> None:
    config = ReleaseConfig(stages=list(shares), hold_back=hold_back)
    for stage, one in enumerate([*(canary(stage) for stage in range(len(shares))), canary(len(shares), "watch")]):
        before = canary(stage - 1)
        for user in USERS[:50]:
            had = (
                stage > 0
                and arm_of(before, config, user) == "challenger"
                and reach(before, config) < reach(one, config)
            )
            assert group_of(one, config, user) == (None if had else arm_of(one, config, user))
        assert 0 <= reached_before(one, config) < reach(one, config) <= 1


@pytest.mark.parametrize("one", ON_ITS_WAY, ids=lambda one: f"{one.phase}-{one.stage}")
def test_the_shares_are_those_of_the_settings(one: Canary) -> None:
    groups = [group_of(one, CONFIG, user) for user in USERS]
    counted = sum(group is not None for group in groups)
    assert within(groups.count("challenger"), counted, challenger_share(one, CONFIG))
    served = sum(arm_of(one, CONFIG, user) == "challenger" for user in USERS)
    assert within(served, len(USERS), reach(one, CONFIG))


def test_reach_and_shares_of_the_default_stages() -> None:
    assert [reach(one, CONFIG) for one in ON_ITS_WAY] == pytest.approx([0.01, 0.05, 0.25, 0.95])
    assert [challenger_share(one, CONFIG) for one in ON_ITS_WAY] == pytest.approx(
        [0.01, 0.04 / 0.99, 0.20 / 0.95, 0.70 / 0.75]
    )


def test_a_canary_of_one_stage_is_watched_by_the_same_groups() -> None:
    config = ReleaseConfig(stages=[1.0])
    assert reached_before(canary(1, "watch"), config) == 0.0
    assert challenger_share(canary(1, "watch"), config) == pytest.approx(0.95)


@pytest.mark.parametrize("phase", ["preparing", "shadow"])
def test_nobody_is_in_it_before_the_first_stage(phase: str) -> None:
    assert {arm_of(canary(0, phase), CONFIG, user) for user in USERS[:500]} == {None}
    assert {group_of(canary(0, phase), CONFIG, user) for user in USERS[:500]} == {None}


def test_unknown_users_are_in_no_group() -> None:
    assert [arm_of(one, CONFIG, None) for one in ON_ITS_WAY] == [None] * 4
    assert [group_of(one, CONFIG, None) for one in ON_ITS_WAY] == [None] * 4
