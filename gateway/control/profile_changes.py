"""What may be done to profiles: pure functions, which all raise ApiErrors.

A profile is replaced as a whole, by whoever names the version that they saw; each version is kept with its author, time
and reason. What is kept of the settings is what differs from the defaults, as in the file.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import ValidationError

from gateway.control.state import ControlState, Decide, LiveProfile, ProfileVersion, Settings, known_scorers
from gateway.errors import BadRequest, Conflict, NotFound
from gateway.profile_settings import ProfileConfig, check_scorers
from gateway.shared.note import Note
from scorers.live_settings import fingerprint
from scorers.scorer_settings import ScorerConfig

# The oldest versions are forgotten beyond this; the log keeps what was decided by them.
MAX_VERSIONS = 200
MAX_PROFILES = 100
FILE = "file"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def set_profile(name: str, settings: Settings, expected: int, seeds: Mapping[str, ScorerConfig], made: Note) -> Decide:
    """A new version of a profile; expected: the one in force, 0 for none yet. The same settings again change nothing.

    seeds: the file's scorers.
    """
    if _NAME.fullmatch(name) is None:
        raise BadRequest("name: 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first")
    profile = read_settings(settings)

    def decide(state: ControlState) -> ControlState:
        present = state.profiles.get(name)
        _must_be(name, present, expected)
        if present is None and len(state.profiles) >= MAX_PROFILES:
            raise Conflict(f"there are {MAX_PROFILES} profiles, the most that are kept")
        _check_scorers(profile, state, seeds)
        return _with(state, name, kept(profile), made)

    return decide


def revert_profile(
    name: str, to: int | None, expected: int | None, seeds: Mapping[str, ScorerConfig], made: Note
) -> Decide:
    """A new version with the settings of an earlier one; to: which (None: the one before that in force)."""

    def decide(state: ControlState) -> ControlState:
        present = state.profiles.get(name)
        if present is None:
            raise no_profile(name, state.profiles)
        if expected is not None:
            _must_be(name, present, expected)
        number = present.current.number - 1 if to is None else to
        found = next((one for one in present.versions if one.number == number), None)
        if found is None:
            oldest, newest = present.versions[0].number, present.current.number
            raise BadRequest(
                f"to: the profile {name} has no version {number} (kept are {oldest} to {newest})", param="to"
            )
        _check_scorers(read_settings(found.settings), state, seeds)
        return _with(state, name, found.settings, made)

    return decide


def seed_profiles(profiles: Mapping[str, ProfileConfig], at: float) -> Decide:
    """What a starting gateway's file does: seeds what is not there, and is followed for as long as nobody tunes.

    A profile whose settings are still what the file said last becomes what the file says now. One that was tuned since
    stays as it is: `left_alone` names it.
    """
    made = Note(FILE, at)

    def decide(state: ControlState) -> ControlState:
        for name, profile in profiles.items():
            settings = kept(profile)
            present, seed = state.profiles.get(name), fingerprint(settings)
            if present is None or fingerprint(present.current.settings) in (present.seed, seed):
                state = _with(state, name, settings, made, seed)
        return state

    return decide


def left_alone(profiles: Mapping[str, ProfileConfig], state: ControlState) -> list[str]:
    """The profiles of the file that say something new and are not followed, since they were tuned live."""
    found = []
    for name, profile in profiles.items():
        seed, live = fingerprint(kept(profile)), state.profiles.get(name)
        if live is not None and seed not in (live.seed, fingerprint(live.current.settings)):
            found.append(name)
    return found


def read_settings(settings: Settings) -> ProfileConfig:
    """Raises BadRequest naming the key below `settings`."""
    try:
        return ProfileConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(["settings", *map(str, first["loc"])])
        said = [f"{'.'.join(['settings', *map(str, one['loc'])])}: {_said(one)}" for one in error.errors()]
        raise BadRequest("; ".join(said), param=param) from None


def kept(profile: ProfileConfig) -> Settings:
    """What is kept of the settings: what differs from the defaults."""
    return profile.model_dump(mode="json", exclude_defaults=True)


def whole(settings: Settings) -> Settings:
    """All settings, from what is kept of them."""
    try:
        return ProfileConfig.model_validate(settings).model_dump(mode="json")
    except ValidationError:  # of another release
        return settings


def changes_between(before: Settings, after: Settings) -> dict[str, dict[str, Any]]:
    """By key, what it was and what it is, of those that differ."""
    old, new = whole(before), whole(after)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return {key: {"from": old.get(key), "to": new.get(key)} for key in keys}


def no_profile(name: str, profiles: Mapping[str, Any]) -> NotFound:
    known = ", ".join(sorted(profiles)) or "none"
    return NotFound(f"there is no profile {name!r} (there is {known})", code="profile_not_found")


def _must_be(name: str, present: LiveProfile | None, expected: int) -> None:
    number = present.current.number if present else 0
    if number != expected:
        now = f"is at version {number} now" if number else "is not there"
        raise Conflict(
            f"version: the profile {name} {now}, not at {expected}; look at what changed, and try again from that",
            param="version",
            code="version_conflict",
        )


def _check_scorers(profile: ProfileConfig, state: ControlState, seeds: Mapping[str, ScorerConfig]) -> None:
    known = known_scorers(state, seeds)
    for key, (name, _) in profile.scorers.items():
        if name not in known and name in state.scorers:
            raise BadRequest(
                f"settings.{key}: the scorer {name!r} is still loading",
                param=f"settings.{key}",
                code="scorer_loading",
            )
    try:
        check_scorers("settings", profile, known)
    except ValueError as error:
        raise BadRequest(str(error), param=str(error).partition(":")[0]) from None


def _with(state: ControlState, name: str, settings: Settings, made: Note, seed: str | None = None) -> ControlState:
    present = state.profiles.get(name) or LiveProfile(())
    versions = present.versions
    if not versions or versions[-1].settings != settings:
        number = versions[-1].number + 1 if versions else 1
        versions = (*versions, ProfileVersion(number, settings, made))[-MAX_VERSIONS:]
    profile = LiveProfile(versions, present.seed if seed is None else seed)
    return msgspec.structs.replace(state, profiles={**state.profiles, name: profile})


def _said(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such key; `bestow config example` prints all of them"
    return str(error["msg"]).removeprefix("Value error, ")
