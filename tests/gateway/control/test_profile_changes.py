"""What may be done to profiles: each change from state to state."""

import msgspec
import pytest

from gateway.control import profile_changes
from gateway.control.profile_changes import (
    MAX_VERSIONS,
    changes_between,
    kept,
    left_alone,
    revert_profile,
    seed_profiles,
    set_profile,
)
from gateway.control.state import ControlState, LiveScorer
from gateway.errors import BadRequest, Conflict, NotFound
from gateway.profile_settings import ProfileConfig
from gateway.shared.note import Note
from scorers.scorer_settings import RewardConfig, SafetyConfig, ScorerConfig

NOTE = Note("key:a", 1000.0, "because")
SEEDS: dict[str, ScorerConfig] = {
    "reward": RewardConfig(kind="reward", model="r"),
    "safety": SafetyConfig(kind="safety", model="s"),
}
FILE = {"default": ProfileConfig(n=8)}
SEEDED = seed_profiles({"default": ProfileConfig(n=6)}, 1.0)(ControlState())


def n_of(state: ControlState, name: str = "default") -> int:
    return ProfileConfig.model_validate(state.profiles[name].current.settings).n


def changed(state: ControlState, **settings: object) -> ControlState:
    return set_profile("default", settings, state.profiles["default"].current.number, SEEDS, NOTE)(state)


def test_a_profile_is_replaced_as_a_whole_and_every_version_is_kept() -> None:
    state = changed(changed(SEEDED, n=4, resample=0), n=2)
    versions = state.profiles["default"].versions
    assert [(one.number, one.settings) for one in versions] == [
        (1, {"n": 6}),
        (2, {"n": 4, "resample": 0}),
        (3, {"n": 2}),
    ]
    assert [one.note.by for one in versions] == ["file", "key:a", "key:a"]
    assert changed(state, n=2, resample=1) == state


def test_a_new_profile_is_made_from_version_0() -> None:
    state = set_profile("quick", {"n": 2}, 0, SEEDS, NOTE)(SEEDED)
    assert state.profiles["quick"].current.number == 1 and n_of(state, "quick") == 2
    with pytest.raises(BadRequest, match="name"):
        set_profile("a b", {}, 0, SEEDS, NOTE)


@pytest.mark.parametrize("expected", [0, 2])
def test_a_change_made_from_another_version_is_refused_with_the_one_in_force(expected: int) -> None:
    with pytest.raises(Conflict, match="at version 1 now") as refused:
        set_profile("default", {"n": 4}, expected, SEEDS, NOTE)(SEEDED)
    assert (refused.value.param, refused.value.code) == ("version", "version_conflict")
    with pytest.raises(Conflict, match="is not there"):
        set_profile("quick", {"n": 4}, 1, SEEDS, NOTE)(SEEDED)


@pytest.mark.parametrize(
    ("settings", "param", "reason"),
    [
        ({"n": 0}, "settings.n", "greater than or equal to 1"),
        ({"n": 99}, "settings", r"n \(99\) is above max_n \(16\)"),
        ({"m": 4}, "settings.m", "there is no such key"),
        ({"reward": "no"}, "settings.reward", r"no scorer 'no' \(there is reward, safety\)"),
        ({"reward": None, "shadow": ["safety"], "safety": None}, "settings.shadow.0", "gives no number"),
        ({"reward": "new"}, "settings.reward", "still loading"),
    ],
)
def test_what_breaks_a_bound_or_names_no_scorer_is_named(settings: dict[str, object], param: str, reason: str) -> None:
    loading = LiveScorer({"kind": "reward", "model": "m", "version": 1}, NOTE)
    state = msgspec.structs.replace(SEEDED, scorers={"new": loading})
    with pytest.raises(BadRequest, match=reason) as refused:
        changed(state, **settings)
    assert refused.value.param == param


def test_an_added_scorer_can_be_named_once_it_is_loaded_and_while_a_new_version_of_it_loads() -> None:
    proven = LiveScorer({"kind": "reward", "model": "m", "version": 1}, NOTE, proven=True)
    again = LiveScorer({"kind": "reward", "model": "m", "version": 2}, NOTE, before=proven)
    for live in (proven, again):
        state = changed(msgspec.structs.replace(SEEDED, scorers={"new": live}), shadow=["new"])
        assert state.profiles["default"].current.settings == {"shadow": ["new"]}


def test_a_revert_is_a_new_version_of_the_one_before_or_of_any() -> None:
    state = changed(changed(SEEDED, n=4), n=2)
    back = revert_profile("default", None, None, SEEDS, NOTE)(state)
    assert n_of(back) == 4 and back.profiles["default"].current.number == 4
    assert n_of(revert_profile("default", 1, 3, SEEDS, NOTE)(state)) == 6
    with pytest.raises(Conflict):
        revert_profile("default", 1, 2, SEEDS, NOTE)(state)
    with pytest.raises(BadRequest, match="kept are 1 to 3") as refused:
        revert_profile("default", 7, None, SEEDS, NOTE)(state)
    assert refused.value.param == "to"
    with pytest.raises(NotFound, match="there is default"):
        revert_profile("no", None, None, SEEDS, NOTE)(state)


def test_a_revert_to_a_scorer_that_is_gone_is_refused() -> None:
    proven = LiveScorer({"kind": "reward", "model": "m", "version": 1}, NOTE, proven=True)
    state = changed(changed(msgspec.structs.replace(SEEDED, scorers={"new": proven}), reward="new"), n=4)
    with pytest.raises(BadRequest, match="no scorer 'new'"):
        revert_profile("default", 2, None, SEEDS, NOTE)(msgspec.structs.replace(state, scorers={}))


def test_the_file_seeds_and_is_followed_while_nobody_tunes() -> None:
    state = seed_profiles(FILE, 2.0)(SEEDED)
    assert n_of(state) == 8 and state.profiles["default"].current.note == Note("file", 2.0)
    assert seed_profiles(FILE, 3.0)(state) == state and left_alone(FILE, state) == []


def test_what_was_tuned_is_left_alone_and_said_until_it_is_what_the_file_says() -> None:
    tuned = changed(SEEDED, n=4)
    assert left_alone({"default": ProfileConfig(n=6)}, tuned) == [], "the file says nothing new"
    state = seed_profiles(FILE, 2.0)(tuned)
    assert state == tuned and left_alone(FILE, state) == ["default"]
    by_hand = changed(state, n=8)
    assert left_alone(FILE, by_hand) == []
    followed = seed_profiles({"default": ProfileConfig(n=5)}, 4.0)(seed_profiles(FILE, 3.0)(by_hand))
    assert n_of(followed) == 5


def test_the_oldest_versions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_changes, "MAX_VERSIONS", 3)
    state = SEEDED
    for n in (1, 2, 3, 4):
        state = changed(state, n=n)
    assert [one.number for one in state.profiles["default"].versions] == [3, 4, 5]
    assert MAX_VERSIONS >= 100


def test_differences_are_told_with_the_defaults_filled_in() -> None:
    assert changes_between({"n": 6}, {"resample": 0}) == {"n": {"from": 6, "to": 8}, "resample": {"from": 1, "to": 0}}
    assert changes_between({"of another release": 1}, {}) != {}
    assert kept(ProfileConfig(n=8)) == {}
