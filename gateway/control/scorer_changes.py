"""What may be done to the scorers beside those of the file: pure functions, which all raise ApiErrors."""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import ValidationError

from gateway.control.state import ControlState, Decide, Failure, LiveScorer, Settings, known_scorers
from gateway.errors import BadRequest, Conflict, NotFound
from gateway.profile_settings import ProfileConfig
from gateway.shared.note import Note
from scorers.contract import Gives
from scorers.errors import WrongSetting
from scorers.live_settings import parse_scorer
from scorers.scorer_settings import EnsembleConfig, ScorerConfig, weights_of

MAX_SCORERS = 100
_MAX_REASON = 500
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def put_scorer(name: str, settings: Settings, seeds: Mapping[str, ScorerConfig], made: Note) -> Decide:
    """Add a scorer, or a new version of one: it takes the place of the old once it is loaded.

    seeds: the file's. Without a `version` in the settings it gets the next; the same settings again change nothing.
    """
    config = _checked(name, settings, seeds)
    given = settings.get("version")
    plain = {key: value for key, value in settings.items() if key != "version"}

    def decide(state: ControlState) -> ControlState:
        present = state.scorers.get(name)
        if present is not None and _is_same(present, plain, given):
            return state
        if present is None and len(state.scorers) >= MAX_SCORERS:
            raise Conflict(f"there are {MAX_SCORERS} added scorers, the most that are kept; remove one first")
        known = known_scorers(state, seeds)
        _check_members(name, config, known)
        _must_not_be_member(name, state)
        used = state.used.get(name, 0)
        if given is not None and given <= used:
            raise Conflict(
                f"version: {name}@{used} was the last; the next is {used + 1} or more, or left out", param="version"
            )
        for where, gives in _uses(name, state):
            if gives not in (config.gives, None):
                raise Conflict(f"kind: {where} needs another sort of scorer than {config.kind}", param="kind")
        number = used + 1 if given is None else int(given)
        live = LiveScorer({**plain, "version": number}, made, before=present.answering if present else None)
        return msgspec.structs.replace(
            state,
            scorers={**state.scorers, name: live},
            used={**state.used, name: number},
            failed=_without(state.failed, name),
        )

    return decide


def prove_scorer(name: str, number: int) -> Decide:
    """It is loaded: from here on it is what is asked."""

    def decide(state: ControlState) -> ControlState:
        live = state.scorers.get(name)
        if live is None or live.number != number or live.proven:
            return state
        proven = msgspec.structs.replace(live, proven=True, before=None)
        return msgspec.structs.replace(state, scorers={**state.scorers, name: proven})

    return decide


def give_up_scorer(name: str, number: int, reason: str, made: Note) -> Decide:
    """It cannot be loaded, and never could: what was there before it stays. A proven one is not given up."""

    def decide(state: ControlState) -> ControlState:
        live = state.scorers.get(name)
        if live is None or live.number != number or live.proven:
            return state
        scorers = {**state.scorers, name: live.before} if live.before else _without(state.scorers, name)
        failed = {**state.failed, name: Failure(number, reason[:_MAX_REASON], made)}
        return msgspec.structs.replace(state, scorers=scorers, failed=failed)

    return decide


def remove_scorer(name: str, seeds: Mapping[str, ScorerConfig]) -> Decide:
    """Only one that nothing uses can go. What is known of a failed one goes with it."""

    def decide(state: ControlState) -> ControlState:
        if name in seeds:
            raise Conflict(f"the scorer {name} is in the configuration file, and stays until that changes")
        if name not in state.scorers and name not in state.failed:
            known = ", ".join(sorted({*state.scorers, *seeds})) or "none"
            raise NotFound(f"there is no scorer {name!r} (there is {known})", code="scorer_not_found")
        if used := [where for where, _ in _uses(name, state)]:
            raise Conflict(
                f"the scorer {name} is used by the profiles' {', '.join(used)}; take it out there first",
                code="scorer_in_use",
            )
        _must_not_be_member(name, state)
        return msgspec.structs.replace(
            state, scorers=_without(state.scorers, name), failed=_without(state.failed, name)
        )

    return decide


def uses_of(name: str, state: ControlState) -> list[str]:
    """Where the profiles name it: default.reward, ..."""
    return [where for where, _ in _uses(name, state)]


def _checked(name: str, settings: Settings, seeds: Mapping[str, ScorerConfig]) -> ScorerConfig:
    if name in seeds:
        raise Conflict(
            f"the scorer {name} is in the configuration file; add the new one by another name, and promote that",
            code="scorer_in_file",
        )
    try:
        config = parse_scorer(name, settings)
    except WrongSetting as error:
        raise BadRequest(str(error), param=error.param) from None
    model = weights_of(config)
    if model is not None and not model.startswith("/") and _HUB_ID.fullmatch(model) is None:
        what = "is no absolute path that the scorer server can read, and no Hugging Face id"
        raise BadRequest(f"model: {model!r} {what}", param="model")
    return config


def _is_same(present: LiveScorer, plain: Settings, given: Any) -> bool:
    return present.settings == {**plain, "version": present.number if given is None else given}


def _check_members(name: str, config: ScorerConfig, known: Mapping[str, ScorerConfig]) -> None:
    if not isinstance(config, EnsembleConfig):
        return
    for member in config.members:
        one = known.get(member)
        if member == name or one is None or isinstance(one, EnsembleConfig) or one.gives != "value":
            what = "is no scorer that is there and ranks answers by itself"
            raise BadRequest(f"members: {member!r} {what} (there is {', '.join(sorted(known))})", param="members")


def _must_not_be_member(name: str, state: ControlState) -> None:
    for other, live in state.scorers.items():
        if live.settings.get("kind") == "ensemble" and name in live.settings.get("members", {}):
            raise Conflict(
                f"the scorer {name} is a member of the ensemble {other}; remove that first", code="scorer_in_use"
            )


def _uses(name: str, state: ControlState) -> list[tuple[str, Gives | None]]:
    """By the profiles in force: where it is named (default.reward), and what it must give there.

    A profile of a newer release, which this one cannot read, uses whatever it mentions.
    """
    found: list[tuple[str, Gives | None]] = []
    for profile, live in state.profiles.items():
        try:
            scorers = ProfileConfig.model_validate(live.current.settings).scorers
        except ValidationError:
            if f'"{name}"' in json.dumps(live.current.settings):
                found.append((profile, None))
            continue
        found += [(f"{profile}.{key}", gives) for key, (one, gives) in scorers.items() if one == name]
    return found


def _without(given: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != key}
