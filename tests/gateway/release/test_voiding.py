"""Never the old model's threshold with the new model's rewards."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding.registry import BUILT_IN, strategy
from gateway.decoding.selection.settings import SelectionConfig
from gateway.profile_settings import ProfileConfig
from gateway.release.state import Bundle
from gateway.release.voiding import DECISIONS, OPTION_DECISIONS, units_of_reward, voided, why_not, wrong_overlay

NEW = Bundle(release=2, reward="reward-2", scorer={"kind": "reward", "model": "/models/reward"})

PRICED = ProfileConfig(
    strategy="early_stopping", options={"price": 0.02, "wave": 2}, n=12, selection={"rule": "pessimism", "beta": 2.0}
)


def test_every_setting_of_a_profile_has_a_decision() -> None:
    settings = set(ProfileConfig.model_fields) - {"options", "selection"}
    settings |= {f"selection.{key}" for key in SelectionConfig.model_fields}
    assert settings == set(DECISIONS), "say in gateway/release/voiding.py what a new reward model means for it"


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_option_of_a_strategy_has_a_decision(name: str) -> None:
    assert set(strategy(name).options.model_fields) == set(OPTION_DECISIONS[name]), (
        "say in gateway/release/voiding.py what a new reward model means for it"
    )


def test_a_price_measured_with_the_old_model_goes() -> None:
    after = voided(PRICED, NEW)
    assert (after.strategy, after.options) == ("best_of_n", {})  # it stops by a price or by a threshold, or not at all
    assert (after.reward, after.n) == ("reward-2", 12)
    assert (after.selection.rule, after.selection.beta) == ("pessimism", SelectionConfig().beta)


def test_a_release_brings_its_own_price() -> None:
    after = voided(PRICED, Bundle(reward="reward-2", settings={"options": {"price": 0.5}, "selection": {"beta": 3.0}}))
    assert (after.strategy, after.options) == ("early_stopping", {"price": 0.5, "wave": 2})
    assert after.selection.beta == 3.0


def test_a_release_brings_a_strategy() -> None:
    settings = {"strategy": "early_stopping", "options": {"threshold": 1.5}, "n": 16}
    after = voided(
        ProfileConfig(strategy="halving", options={"keep": 0.25, "least": 2}), Bundle(reward="r", settings=settings)
    )
    assert (after.strategy, after.options, after.n) == ("early_stopping", {"threshold": 1.5}, 16)


def test_settings_that_no_longer_fit_are_left_out() -> None:
    bundle = Bundle(reward="reward-2", settings={"options": {"price": 0.5}})
    tuned_since = ProfileConfig(n=4)
    assert voided(tuned_since, bundle) == ProfileConfig(n=4, reward="reward-2")
    assert "best_of_n has no such option" in (why_not(tuned_since, bundle) or "")
    assert why_not(PRICED, bundle) is None


def test_the_same_reward_model_voids_nothing() -> None:
    assert voided(PRICED, Bundle(release=3, served_as="p-v3")) is PRICED
    assert voided(PRICED, Bundle(release=3, reward="reward")) is PRICED
    assert voided(PRICED, Bundle(settings={"n": 4})).options == PRICED.options
    assert voided(PRICED, Bundle(settings={"options": {"nonsense": 1}})) is PRICED


def test_who_ranks_by_nothing_goes_on_so() -> None:
    first = ProfileConfig(reward=None)
    assert voided(first, NEW) is first


@pytest.mark.parametrize("settings", [{"safety": None}, {"safety_threshold": 1.0}, {"reward": "other"}, {"options": 3}])
def test_a_release_says_nothing_of_guards(settings: dict[str, Any]) -> None:
    assert wrong_overlay(settings) is not None
    assert voided(PRICED, Bundle(reward="reward-2", settings=settings)) == voided(PRICED, NEW)


def test_a_strategy_that_scores_steps_needs_a_model_that_does() -> None:
    searched = ProfileConfig(strategy="step_search", options={"beams": 2, "aggregate": "prod"})
    after = voided(searched, NEW)
    assert (after.strategy, after.options) == ("best_of_n", {})
    process = Bundle(reward="prm-2", scorer={"kind": "process", "model": "/models/prm"})
    kept = voided(searched, process)
    assert (kept.strategy, kept.options) == ("step_search", {"beams": 2})


def test_votes_by_raw_rewards_go_and_those_by_rank_stay() -> None:
    raw = ProfileConfig(strategy="vote", options={"weight": "reward"})
    assert voided(raw, NEW).options == {}
    ranked = ProfileConfig(strategy="vote", options={"weight": "rank", "power": 2.0})
    assert voided(ranked, NEW).options == ranked.options


def test_the_new_model_has_no_second_part() -> None:
    after = voided(ProfileConfig(shadow=["reward-2", "other"]), NEW)
    assert (after.reward, after.shadow) == ("reward-2", ["other"])
    assert voided(ProfileConfig(prune=[{"scorer": "reward-2", "keep": 4}]), NEW).prune == []


def test_what_is_in_units_of_reward_is_named() -> None:
    assert units_of_reward(PRICED) == ["selection.beta", "options.price"]
    assert units_of_reward(ProfileConfig()) == []


OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "best_of_n": st.just({}),
    "halving": st.fixed_dictionaries(
        {},
        optional={
            "checkpoints": st.just([7, 9]),
            "keep": st.floats(0.1, 0.9),
            "least": st.integers(1, 4),
            "min_correlation": st.floats(-1, 1),
            "unmeasured": st.booleans(),
        },
    ),
    "early_stopping": st.one_of(
        st.fixed_dictionaries({"threshold": st.floats(-9, 9)}, optional={"first": st.integers(1, 8)}),
        st.fixed_dictionaries({"price": st.floats(0, 9)}, optional={"wave": st.integers(1, 8)}),
    ),
    "blockwise": st.fixed_dictionaries({}, optional={"block_tokens": st.integers(1, 64)}),
    "step_search": st.fixed_dictionaries(
        {},
        optional={
            "separator": st.just("||"),
            "beams": st.integers(1, 4),
            "aggregate": st.sampled_from(["last", "prod"]),
        },
    ),
    "vote": st.fixed_dictionaries({}, optional={"weight": st.sampled_from(["none", "reward", "rank", "calibrated"])}),
}


@st.composite
def profiles(draw: st.DrawFn) -> ProfileConfig:
    name = draw(st.sampled_from(BUILT_IN))
    rules: list[dict[str, Any]] = [{}, {"rule": "soft", "temperature": 0.3}, {"explore": 0.1}, {"length": True}]
    selection: dict[str, Any] = draw(
        st.sampled_from(rules)
        | st.fixed_dictionaries({"rule": st.just("pessimism"), "beta": st.floats(0.1, 9)})
        | st.fixed_dictionaries({"floor": st.fixed_dictionaries({"part": st.just("old"), "least": st.floats(-9, 9)})})
    )
    streams = strategy(name).streams
    return ProfileConfig(
        strategy=name,
        options=draw(OPTIONS[name]),
        selection=selection,
        n=draw(st.integers(1, 16)),
        stream_mode=draw(st.sampled_from(["hold", "block"] if streams else ["hold", "first"])),
        shadow=draw(st.sampled_from([[], ["reward-2"], ["other"]])),
        prune=draw(st.sampled_from([[], [{"scorer": "early", "keep": 5}, {"scorer": "cheap", "keep": 3}]])),
    )


@given(
    profile=profiles(),
    kind=st.sampled_from(["reward", "process", "ensemble"]),
    settings=st.sampled_from(
        [{}, {"n": 4}, {"options": {"price": 0.125}}, {"selection": {"beta": 0.25}}, {"safety": None}]
    ),
)
def test_nothing_measured_with_the_old_model_is_left(
    profile: ProfileConfig, kind: str, settings: dict[str, Any]
) -> None:
    after = voided(profile, Bundle(reward="reward-2", scorer={"kind": kind}, settings=settings))
    assert after.reward == "reward-2"
    assert after.safety == profile.safety
    assert after.selection.floor is None
    assert after.selection.beta in (SelectionConfig().beta, settings.get("selection", {}).get("beta"))
    brought = settings.get("options", {})
    for key in units_of_reward(after):
        section, _, last = key.partition(".")
        assert section == "selection" or brought.get(last) == after.options[last], key
    ProfileConfig.model_validate(after.model_dump())
