"""What may be done to added scorers, and the steps that make a server what was decided."""

from typing import Any

import msgspec
import pytest

from gateway.control.overview import overview
from gateway.control.profile_changes import seed_profiles, set_profile
from gateway.control.scorer_changes import give_up_scorer, prove_scorer, put_scorer, remove_scorer, uses_of
from gateway.control.state import ControlState, LiveProfile, LiveScorer, ProfileVersion, known_scorers
from gateway.control.steps import GiveUp, Prove, Put, Remove, steps
from gateway.errors import ApiError, BadRequest, Conflict, NotFound
from gateway.profile_settings import ProfileConfig
from gateway.shared.note import Note
from scorers.contract import ScorerStatus
from scorers.live_settings import fingerprint
from scorers.scorer_settings import RewardConfig, SafetyConfig, ScorerConfig

NOTE = Note("key:a", 1000.0, "because")
SEEDS: dict[str, ScorerConfig] = {
    "reward": RewardConfig(kind="reward", model="r"),
    "safety": SafetyConfig(kind="safety", model="s"),
}
NEW: dict[str, Any] = {"kind": "reward", "model": "/m/new"}
START = seed_profiles({"default": ProfileConfig()}, 1.0)(ControlState())


def put(state: ControlState, name: str = "new", **settings: object) -> ControlState:
    return put_scorer(name, {**NEW, **settings}, SEEDS, NOTE)(state)


def proven(state: ControlState, name: str = "new") -> ControlState:
    return prove_scorer(name, state.scorers[name].number)(state)


def shadowing(state: ControlState, *names: str) -> ControlState:
    number = state.profiles["default"].current.number
    return set_profile("default", {"shadow": list(names)}, number, SEEDS, NOTE)(state)


ONE = proven(put(START))


def test_an_added_scorer_can_be_asked_once_it_is_loaded() -> None:
    state = put(START)
    assert state.scorers["new"].settings == {**NEW, "version": 1}
    assert "new" not in known_scorers(state, SEEDS)
    assert known_scorers(proven(state), SEEDS)["new"] == RewardConfig.model_validate({**NEW, "version": 1})


def test_the_same_again_changes_nothing() -> None:
    assert put(ONE) == ONE and put(ONE, version=1) == ONE
    loading = put(START)
    assert put(loading) == loading


def test_a_new_version_has_the_next_number_and_the_old_answers_until_it_is_loaded() -> None:
    state = put(ONE, model="/m/better")
    live = state.scorers["new"]
    assert live.number == 2 and live.answering == ONE.scorers["new"]
    assert proven(state).scorers["new"].answering == proven(state).scorers["new"]
    assert put(state, model="/m/best").scorers["new"].answering == ONE.scorers["new"]


def test_what_cannot_be_loaded_leaves_what_was_there_and_its_number_is_never_given_again() -> None:
    gone = give_up_scorer("new", 1, "no weights", NOTE)(put(START))
    assert not gone.scorers and gone.failed["new"].reason == "no weights"
    assert put(gone).scorers["new"].number == 2 and not put(gone).failed
    back = give_up_scorer("new", 2, "no weights", NOTE)(put(ONE, model="/m/bad"))
    assert back.scorers == ONE.scorers
    assert put(back, model="/m/better").scorers["new"].number == 3
    assert give_up_scorer("new", 1, "gone now", NOTE)(ONE) == ONE, "what was loaded once is wanted still"
    assert prove_scorer("new", 1)(put(ONE, model="/m/better")) == put(ONE, model="/m/better")


def test_a_version_may_be_given_where_it_is_newer() -> None:
    assert put(ONE, version=7).scorers["new"].number == 7
    with pytest.raises(Conflict, match="new@1 was the last") as refused:
        put(ONE, model="/m/other", version=1)
    assert refused.value.param == "version"


def test_a_removed_scorer_takes_its_number_with_it() -> None:
    gone = remove_scorer("new", SEEDS)(ONE)
    assert not gone.scorers and put(gone).scorers["new"].number == 2


def test_a_scorer_that_a_profile_names_stays_and_keeps_its_sort() -> None:
    state = shadowing(ONE, "new")
    assert uses_of("new", state) == ["default.shadow.0"]
    with pytest.raises(Conflict, match=r"default\.shadow\.0") as refused:
        remove_scorer("new", SEEDS)(state)
    assert refused.value.code == "scorer_in_use"
    with pytest.raises(Conflict, match="another sort of scorer") as refused:
        put(state, kind="safety")
    assert refused.value.param == "kind"
    assert put(shadowing(state), kind="safety").scorers["new"].number == 2


def test_a_profile_of_a_newer_release_uses_what_it_mentions() -> None:
    newer = LiveProfile((ProfileVersion(1, {"of 2031": {"new": "new"}}, NOTE),))
    state = msgspec.structs.replace(ONE, profiles={**ONE.profiles, "later": newer})
    with pytest.raises(Conflict, match="later"):
        remove_scorer("new", SEEDS)(state)


def test_members_of_an_ensemble_stay() -> None:
    both = {"kind": "ensemble", "members": {"reward": 1.0, "new": 0.5}}
    state = put_scorer("both", both, SEEDS, NOTE)(ONE)
    for change in (remove_scorer("new", SEEDS), put_scorer("new", {**NEW, "model": "/m/x"}, SEEDS, NOTE)):
        with pytest.raises(Conflict, match="ensemble both"):
            change(state)
    assert not remove_scorer("new", SEEDS)(remove_scorer("both", SEEDS)(state)).scorers


@pytest.mark.parametrize(
    ("name", "settings", "error", "reason"),
    [
        ("reward", NEW, Conflict, "in the configuration file"),
        ("new", {**NEW, "model": "here/or/there"}, BadRequest, "no absolute path"),
        ("new", {**NEW, "model": "../up"}, BadRequest, "no absolute path"),
        ("new", {**NEW, "url": "http://10.0.0.1"}, BadRequest, "url"),
        ("new", {**NEW, "weight": 1}, BadRequest, "no such key"),
        ("new", {"kind": "ensemble", "members": {"reward": 1, "no": 1}}, BadRequest, "'no' is no scorer"),
        ("new", {"kind": "ensemble", "members": {"reward": 1, "safety": 1}}, BadRequest, "'safety' is no scorer"),
        ("new", {"kind": "ensemble", "members": {"reward": 1, "new": 1}}, BadRequest, "'new' is no scorer"),
    ],
)
def test_what_is_wrong_with_a_scorer_is_named(
    name: str, settings: dict[str, Any], error: type[ApiError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        put_scorer(name, settings, SEEDS, NOTE)(START)


def test_what_is_not_there_or_the_files_cannot_be_removed() -> None:
    with pytest.raises(NotFound, match="there is new, reward, safety"):
        remove_scorer("no", SEEDS)(ONE)
    with pytest.raises(Conflict, match="in the configuration file"):
        remove_scorer("reward", SEEDS)(ONE)


def status(state: str, number: int = 1, serving: str = "", **settings: object) -> ScorerStatus:
    wanted = fingerprint({**NEW, **settings, "version": number})
    return ScorerStatus("new", f"new@{number}", wanted, state, serving, "no weights" if state == "failed" else "")  # type: ignore[arg-type]


def test_steps_lead_the_server_to_what_was_decided() -> None:
    loading, better = put(START), put(ONE, model="/m/better")
    settings = loading.scorers["new"].settings
    assert steps(loading, [], old=False) == [Put("new", settings)]
    assert steps(loading, [status("loading")], old=False) == []
    assert steps(loading, [status("ready", serving="new@1")], old=False) == [Prove("new", 1)]
    assert steps(loading, [status("failed")], old=False) == [GiveUp("new", 1, "no weights")]
    assert steps(ONE, [status("ready", serving="new@1")], old=False) == []
    assert steps(ONE, [status("failed")], old=False) == [Put("new", settings, again=True)]
    assert steps(better, [status("ready", serving="new@1")], old=False) == [Put("new", better.scorers["new"].settings)]


def test_a_version_that_was_given_up_is_left_where_the_one_before_answers() -> None:
    failed = status("failed", 2, serving="new@1", model="/m/bad")
    back = give_up_scorer("new", 2, "no weights", NOTE)(put(ONE, model="/m/bad"))
    assert steps(back, [failed], old=False) == []
    alone = msgspec.structs.replace(failed, serving="")
    assert steps(back, [alone], old=False) == [Put("new", ONE.scorers["new"].settings)]


def test_an_older_document_does_no_harm() -> None:
    ahead = status("ready", 2, serving="new@2", model="/m/better")
    assert steps(START, [status("ready", serving="new@1")], old=False) == [], "added since"
    assert steps(ONE, [ahead], old=False) == [], "replaced since"
    removed = remove_scorer("new", SEEDS)(ONE)
    assert steps(removed, [ahead], old=False) == [], "added again since"


def test_what_was_removed_goes_but_not_while_redis_is_away() -> None:
    removed, there = remove_scorer("new", SEEDS)(ONE), status("ready", serving="new@1")
    assert steps(removed, [there], old=False) == [Remove("new")]
    assert steps(removed, [there], old=True) == []


def test_ensembles_come_after_their_members_and_go_before_them() -> None:
    both = {"kind": "ensemble", "members": {"reward": 1.0, "new": 0.5}}
    state = put_scorer("both", both, SEEDS, NOTE)(ONE)
    swapped = msgspec.structs.replace(state, scorers=dict(reversed(state.scorers.items())))
    assert [step.name for step in steps(swapped, [], old=False)] == ["new", "both"]
    gone = remove_scorer("new", SEEDS)(remove_scorer("both", SEEDS)(state))
    added = [status("ready"), ScorerStatus("both", "both@1", "x", "ready")]
    assert steps(gone, added, old=False) == [Remove("both"), Remove("new")]


def test_a_scorer_of_a_newer_release_is_passed_over() -> None:
    newer = LiveScorer({**NEW, "version": 3, "of 2031": 1}, NOTE, proven=True)
    state = msgspec.structs.replace(ONE, scorers={**ONE.scorers, "later": newer})
    assert set(known_scorers(state, SEEDS)) == {"new", "reward", "safety"}
    [found] = [one for one in overview({}, {}, None, state, {}, {}) if one["name"] == "later"]
    assert (found["version"], found["kind"], found["state"]) == ("later@3", None, "unreachable")
