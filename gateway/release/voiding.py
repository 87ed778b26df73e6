"""A profile with another reward model: what was measured with the old one does not hold for the new one. Pure.

    void    in units of the old model's rewards, or measured with it: back to the default (or some values are)
    keep    about something else: counts, ranks, tokens, guards, time

A release brings values of its own for its reward model (`Bundle.settings`), as `bestow calibrate` measured them. They
are laid over what is left; where they do not fit the profile (somebody tuned it since), it serves without them.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from gateway.decoding.registry import BUILT_IN, strategy
from gateway.profile_settings import ProfileConfig
from gateway.release.state import Bundle

# Or the values that are void.
What = Literal["keep", "void"] | tuple[str, ...]

# Every setting of a profile has a decision; a test fails for one that has none.
DECISIONS: dict[str, What] = {
    "strategy": "keep",  # as long as its options still hold without the old model's values
    "n": "keep",
    "max_n": "keep",
    "min_n": "keep",
    "temperature": "keep",  # of sampling
    "max_tokens": "keep",
    "max_tokens_limit": "keep",
    "budget_ms": "keep",
    "budget_tokens": "keep",
    "stream_mode": "keep",
    "stream_guard": "keep",
    "stream_window": "keep",
    "stream_context": "keep",
    "reward": "void",  # the new one takes its place
    "selection.rule": "keep",
    "selection.temperature": "keep",  # on ranks
    "selection.mean": "keep",  # a count
    "selection.beta": "void",  # in deviations of the reward, or raw rewards
    "selection.explore": "keep",
    "selection.length": "keep",  # the model card's curve, which names its versions
    "selection.floor": "void",  # a raw reward of a member of the old one
    "near_guard": "keep",
    "prune": "keep",  # other scorers, by rank
    "safety": "keep",
    "second_check": "keep",
    "shadow": "keep",
    "safety_threshold": "keep",
    "category_thresholds": "keep",
    "action": "keep",
    "category_actions": "keep",
    "unreadable": "keep",
    "resample": "keep",
    "refusal": "keep",
    "show_candidates": "keep",
    "comparison": "keep",
}

# The same for the options of each strategy that is here. Those of other packages' strategies are all void.
OPTION_DECISIONS: dict[str, dict[str, What]] = {
    "best_of_n": {},
    "halving": {
        "checkpoints": "void",  # chosen by how well the old model's early rewards foretell its final ones
        "keep": "void",  # the same
        "least": "keep",
        "min_correlation": "keep",  # what is asked of whatever model it is
        "unmeasured": "void",  # somebody trusted the old one without a measurement
    },
    "early_stopping": {
        "threshold": "void",  # a raw reward
        "price": "void",  # in deviations of the reward, chosen by the old model's curve
        "first": "keep",
        "wave": "keep",
    },
    "blockwise": {"block_tokens": "keep"},
    "step_search": {
        "separator": "void",  # what the old model was trained to read as the end of a step
        "beams": "keep",
        "max_steps": "keep",
        "aggregate": ("prod",),  # of scores that are probabilities alone
    },
    "vote": {
        "extract": "keep",
        "json_field": "keep",
        "pattern": "keep",
        "choices": "keep",
        "weight": ("reward",),  # raw rewards, from the old model's 0 on; quantiles and ranks are any model's
        "power": "keep",  # of ranks
        "confidence": "keep",
        "wave": "keep",
    },
}

# What a release may say of a profile: nothing of guards, and nothing of what clients may ask.
OVERLAY = ("strategy", "options", "n", "max_n", "min_n", "selection")


def voided(profile: ProfileConfig, bundle: Bundle) -> ProfileConfig:
    """The profile as it serves in a release: the same object where the release changes nothing of it.

    A profile without a reward model goes on without one.
    """
    anew = _is_new(profile, bundle)
    if profile.reward is None or not (anew or bundle.settings):
        return profile
    if laid := _tried(profile, bundle, bundle.settings):
        return laid
    return (_tried(profile, bundle, {}) or _bare(profile, bundle)) if anew else profile


def why_not(profile: ProfileConfig, bundle: Bundle) -> str | None:
    """Why the settings of a release cannot be laid over a profile, in a sentence; None where they can."""
    if wrong := wrong_overlay(bundle.settings):
        return wrong
    try:
        _laid(profile, bundle, bundle.settings)
    except ValueError as error:
        said = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, said['loc']))}: {said['msg']}".removeprefix(": ") if said else str(error)
        return f"settings: they do not fit the profile: {what.replace('Value error, ', '')}"
    return None


def wrong_overlay(settings: Mapping[str, Any]) -> str | None:
    """Why these are no settings of a release, in a sentence; None where they are."""
    for key, value in settings.items():
        if key not in OVERLAY:
            return f"settings.{key}: a release may set {', '.join(OVERLAY)} alone"
        if key in ("options", "selection") and not isinstance(value, Mapping):
            return f"settings.{key}: it must be a mapping, such as {{price: 0.02}}"
    return None


def units_of_reward(profile: ProfileConfig) -> list[str]:
    """The keys of what a profile says in units of its reward model, or measured with it, beside `reward` itself."""
    said = profile.model_dump(exclude_defaults=True)
    found = [key for key in _void(said, DECISIONS) if key != "reward"]
    return [*found, *(f"options.{key}" for key in profile.options if key not in _options_kept(profile))]


def _tried(profile: ProfileConfig, bundle: Bundle, settings: Mapping[str, Any]) -> ProfileConfig | None:
    if wrong_overlay(settings):
        return None
    try:
        return _laid(profile, bundle, settings)
    except ValueError:
        return None


def _laid(profile: ProfileConfig, bundle: Bundle, settings: Mapping[str, Any]) -> ProfileConfig:
    """Raises ValueError where the settings do not fit."""
    said = profile.model_dump(exclude_defaults=True)
    anew = _is_new(profile, bundle)
    if anew:
        said = _renewed(said, profile, str(bundle.reward))
    same = settings.get("strategy", profile.strategy) == profile.strategy
    options = {**(said.pop("options", {}) if same else {}), **settings.get("options", {})}
    laid = {
        **said,
        **{key: value for key, value in settings.items() if key not in ("options", "selection")},
        "selection": {**said.get("selection", {}), **settings.get("selection", {})},
        "options": options,
    }
    if (
        anew
        and "options" not in settings
        and "strategy" not in settings
        and not _holds(profile.strategy, options, bundle)
    ):
        laid = _without_strategy(laid)
    elif anew and not _scores_steps(laid.get("strategy", ""), bundle):
        raise ValueError(f"strategy {laid['strategy']} needs a reward of kind 'process', which scores steps")
    return ProfileConfig.model_validate(laid)


def _renewed(said: dict[str, Any], profile: ProfileConfig, reward: str) -> dict[str, Any]:
    """Less what is void, and with the new reward model, which no longer has another part in the profile."""
    kept = json.loads(json.dumps(said))
    for key in _void(said, DECISIONS):
        section, _, last = key.rpartition(".")
        (kept[section] if section else kept).pop(last)
    kept["options"] = _options_kept(profile)
    kept["reward"] = reward
    kept["shadow"] = [name for name in profile.shadow if name != reward]
    kept["prune"] = [stage for stage in kept.get("prune", []) if stage["scorer"] != reward]
    return dict(kept)


def _bare(profile: ProfileConfig, bundle: Bundle) -> ProfileConfig:
    """With the default strategy: what is left when the profile's own cannot be kept."""
    said = _renewed(profile.model_dump(exclude_defaults=True), profile, str(bundle.reward))
    return ProfileConfig.model_validate(_without_strategy(said))


def _without_strategy(said: dict[str, Any]) -> dict[str, Any]:
    """Another strategy may choose no blocks that could be streamed."""
    return {key: value for key, value in said.items() if key not in ("strategy", "options", "stream_mode")}


def _holds(name: str, options: Mapping[str, Any], bundle: Bundle) -> bool:
    """Whether a strategy can do with these options and the release's reward model."""
    try:
        strategy(name).options.model_validate(options)
    except ValidationError:
        return False
    return _scores_steps(name, bundle)


def _scores_steps(name: str, bundle: Bundle) -> bool:
    """True where the strategy does not need that."""
    return not name or "steps" not in strategy(name).needs or bundle.scorer.get("kind") == "process"


def _void(said: Mapping[str, Any], decisions: Mapping[str, What]) -> list[str]:
    """Which of these settings are void, as keys with dots."""
    flat = [*said, *(f"selection.{key}" for key in said.get("selection", {}))]
    return [key for key in flat if decisions.get(key) == "void"]


def _options_kept(profile: ProfileConfig) -> dict[str, Any]:
    """What holds for any reward model; nothing of what other packages' strategies have."""
    decisions = OPTION_DECISIONS[profile.strategy] if profile.strategy in BUILT_IN else {}
    return {key: value for key, value in profile.options.items() if _is_kept(decisions.get(key, "void"), value)}


def _is_kept(decision: What, value: Any) -> bool:
    return value not in decision if isinstance(decision, tuple) else decision == "keep"


def _is_new(profile: ProfileConfig, bundle: Bundle) -> bool:
    """Whether another reward model takes the place of the profile's."""
    return bundle.reward not in (None, profile.reward)
