"""What may be done to releases: pure functions from what is to what shall be, which all raise ApiErrors.

    submit -> preparing -> shadow (a new reward model alone) -> canary, stage by stage -> watch -> champion alone
                 |            |          |                         |           |
              rejected     rolled back, expired or vetoed: it goes    rolled back: the one before is champion again

Those of the leader name the canary that they were decided about (`seen`), and do nothing where it has moved on since:
an operator was quicker, or a leader before. `fenced` keeps a leader from writing whose lock another has taken.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from gateway.errors import Conflict, NotFound
from gateway.release.state import (
    MOVES_KEPT,
    PREVIOUS_KEPT,
    Act,
    Bundle,
    Canary,
    Decide,
    ModelRelease,
    Move,
    ReleaseState,
)
from gateway.shared.note import Note

Facts = dict[str, Any]


class NotLeader(Conflict):
    """Another gateway leads by now: what this one decided is not done."""

    code = "not_leader"


def fenced(fence: int, decide: Decide) -> Decide:
    """A leader's move. fence: of its lock; of two leaders the one with the higher wins. Raises NotLeader."""

    def decided(state: ReleaseState) -> ReleaseState:
        if fence < state.fence:
            raise NotLeader(f"the lock with the token {fence} is lost: {state.fence} has written")
        following = decide(state)
        return state if following is state else msgspec.structs.replace(following, fence=fence)

    return decided


# Into the canary and through it.


def submit(model: str, bundle: Bundle, *, salt: str, made: Note) -> Decide:
    """It is the challenger from now on, and is being prepared. salt: of the hash that draws its users."""

    def decide(state: ReleaseState) -> ReleaseState:
        one = state.of(model)
        if one.canary is not None:
            raise Conflict(
                f"the release {one.canary.bundle.release} of {model} is on its way ({one.canary.phase}), one at a "
                "time: wait until it has arrived, or take it back first",
                code="release_on_its_way",
            )
        if serves_the_same(bundle, one.champion):
            raise Conflict(
                f"the release {bundle.release} is what {model} serves already (release {one.champion.release})",
                code="release_is_champion",
            )
        if bundle.release and (said := _veto_of(bundle.release, one.moves)):
            raise Conflict(
                f"the release {bundle.release} was vetoed by {said.note.by}: {said.note.reason or 'no reason given'}",
                code="release_vetoed",
            )
        canary = Canary(bundle=bundle, control=one.champion, salt=salt, phase="preparing", began=made.at)
        return _moved(state, model, "submitted", bundle, made, {}, canary=canary)

    return decide


def prepared(model: str, seen: Canary, *, shadow: bool, made: Note, facts: Facts | None = None) -> Decide:
    """All workers have its weights and the scorer server its scorer. shadow: its scorer reads along first."""

    def decide(state: ReleaseState) -> ReleaseState:
        if not _is(state.of(model).canary, seen, "preparing"):
            return state
        canary = _entered(seen, made.at) if not shadow else _in(seen, phase="shadow", stage_began=made.at)
        return _moved(state, model, "prepared", seen.bundle, made, facts, canary=canary)

    return decide


def shadowed(model: str, seen: Canary, made: Note, facts: Facts | None = None) -> Decide:
    """Its reward model has read along for long enough: the first users get it."""

    def decide(state: ReleaseState) -> ReleaseState:
        if not _is(state.of(model).canary, seen, "shadow"):
            return state
        return _moved(state, model, "shadowed", seen.bundle, made, facts, canary=_entered(seen, made.at))

    return decide


def next_stage(model: str, seen: Canary, made: Note, facts: Facts | None = None) -> Decide:
    """More users get it."""

    def decide(state: ReleaseState) -> ReleaseState:
        if not _is(state.of(model).canary, seen, "canary"):
            return state
        canary = _in(seen, stage=seen.stage + 1, stage_began=made.at)
        return _moved(state, model, "stage", seen.bundle, made, facts, canary=canary)

    return decide


def promote(model: str, seen: Canary, *, hold_back: bool, made: Note, facts: Facts | None = None) -> Decide:
    """It is the champion. hold_back: some users keep the one before for a while, and it is watched against them."""

    def decide(state: ReleaseState) -> ReleaseState:
        one = state.of(model)
        if not _is(one.canary, seen, "canary", "shadow"):
            return state
        # The watch is a stage of its own: it counts anew.
        watch = _in(seen, phase="watch", stage=seen.stage + 1, stage_began=made.at, approvals=(), held="", held_by="")
        return _moved(
            state,
            model,
            "promoted",
            seen.bundle,
            made,
            facts,
            champion=seen.bundle,
            previous=(one.champion, *one.previous)[:PREVIOUS_KEPT],
            canary=watch if hold_back else None,
        )

    return decide


def watched(model: str, seen: Canary, made: Note, facts: Facts | None = None) -> Decide:
    """The hold-back group gets it too."""
    return _gone("watched", model, seen, made, facts, "watch")


# What ends a challenger.


def reject(model: str, seen: Canary, made: Note, facts: Facts | None = None) -> Decide:
    """It could not be brought to the workers or the scorer server; nobody ever got it."""
    return _gone("rejected", model, seen, made, facts, "preparing", "shadow")


def expire(model: str, seen: Canary, made: Note, facts: Facts | None = None) -> Decide:
    """It could not show in time that it is as good."""
    return _gone("expired", model, seen, made, facts, "canary", "shadow", "preparing")


def roll_back(model: str, made: Note, facts: Facts | None = None, *, seen: Canary | None = None) -> Decide:
    """The whole release at once: policy, reward model and settings. A challenger goes; a champion gives way to the one
    before. seen: of the leader's; an operator rolls back whatever is there. Raises Conflict where nothing is."""

    def decide(state: ReleaseState) -> ReleaseState:
        if seen is not None and not _is(state.of(model).canary, seen, *_PHASES):
            return state
        return _back(state, model, "rolled back", made, facts)

    return decide


def veto(model: str, release: int | None, made: Note) -> Decide:
    """A person says no: like a rollback, and it cannot be submitted again. release: which; None: what is on its way, or
    else the champion. One that is neither is barred all the same. Raises Conflict."""

    def decide(state: ReleaseState) -> ReleaseState:
        one = state.of(model)
        current = one.canary.bundle if one.canary else one.champion
        if release is None or release == current.release:
            if current.release == 0:
                raise Conflict(
                    f"{model} is served as the configuration says, and nothing is on its way: there is nothing to veto",
                    code="nothing_to_roll_back",
                )
            return _back(state, model, "vetoed", made, {})
        if any(before.release == release for before in (one.champion, *one.previous)):
            raise Conflict(
                f"the release {release} of {model} serves or can be rolled back to; roll back first, then veto it",
                code="release_serves",
            )
        return _moved(state, model, "vetoed", Bundle(release=release), made, {})

    return decide


# What operators say while it is on its way.


def hold(model: str, made: Note, *, seen: Canary | None = None, facts: Facts | None = None) -> Decide:
    """It does not go on by itself; harm still takes it back. seen: of the leader's own, which it takes off itself."""

    def decide(state: ReleaseState) -> ReleaseState:
        canary = state.of(model).canary
        if seen is not None and (canary is None or canary.held or not _is(canary, seen, *_PHASES)):
            return state
        canary = _on_its_way(model, canary)
        held = _in(canary, held=made.reason or f"held by {made.by}", held_by="" if seen else made.by)
        if held == canary:
            return state
        return _moved(state, model, "held", canary.bundle, made, facts, canary=held)

    return decide


def resume(model: str, made: Note, *, seen: Canary | None = None, facts: Facts | None = None) -> Decide:
    """It goes on. The leader takes off nothing but its own holds."""

    def decide(state: ReleaseState) -> ReleaseState:
        canary = state.of(model).canary
        if seen is not None and (canary is None or canary.held_by or not _is(canary, seen, *_PHASES)):
            return state
        canary = _on_its_way(model, canary)
        if not canary.held:
            return state
        return _moved(state, model, "resumed", canary.bundle, made, facts, canary=_in(canary, held="", held_by=""))

    return decide


def approve(model: str, made: Note) -> Decide:
    """An operator wants the challenger promoted. The same one twice counts once."""

    def decide(state: ReleaseState) -> ReleaseState:
        canary = _on_its_way(model, state.of(model).canary)
        if canary.phase == "watch":
            raise Conflict(f"the release {canary.bundle.release} of {model} is promoted already", code="promoted")
        if made.by in canary.approvals:
            return state
        approved = _in(canary, approvals=(*canary.approvals, made.by))
        return _moved(state, model, "approved", canary.bundle, made, {}, canary=approved)

    return decide


def safe_mode_on(models: Collection[str], made: Note) -> Decide:
    """models: all public names, in whose histories it is noted. On twice is on once."""

    def decide(state: ReleaseState) -> ReleaseState:
        if state.safe_mode is not None:
            return state
        state = msgspec.structs.replace(state, safe_mode=made)
        for model in sorted({*models, *state.models}):
            state = _moved(state, model, "safe mode on", state.of(model).champion, made, {})
        return state

    return decide


def safe_mode_off(models: Collection[str], made: Note) -> Decide:
    """Challengers go on where they were: the time in safe mode, in which nobody got them, is none of theirs."""

    def decide(state: ReleaseState) -> ReleaseState:
        if state.safe_mode is None:
            return state
        away = max(0.0, made.at - state.safe_mode.at)
        state = msgspec.structs.replace(state, safe_mode=None)
        for model in sorted({*models, *state.models}):
            one = state.of(model)
            canary = one.canary
            if canary is not None:
                since = canary.stage_began + away if canary.stage_began else 0.0
                canary = _in(canary, began=canary.began + away, stage_began=since)
            state = _moved(state, model, "safe mode off", one.champion, made, {"seconds": away}, canary=canary)
        return state

    return decide


# What is said of a state.


def serves_the_same(one: Bundle, other: Bundle) -> bool:
    """Whether users could not tell them apart, whatever their numbers."""
    return msgspec.structs.replace(one, release=0, digest="") == msgspec.structs.replace(other, release=0, digest="")


def loaded(one: ModelRelease) -> list[Bundle]:
    """What the workers and the scorer server must have: what serves, what is tried, and what a rollback would need."""
    canary = [one.canary.bundle, one.canary.control] if one.canary else []
    return [one.champion, *canary, *one.previous[:1]]


def approvals_missing(canary: Canary, two_person: bool) -> int:
    """How many more operators must approve before it is promoted."""
    return max(0, 2 - len(canary.approvals)) if two_person else 0


_PHASES = ("preparing", "shadow", "canary", "watch")


def _back(state: ReleaseState, model: str, act: Act, made: Note, facts: Facts | None) -> ReleaseState:
    one = state.of(model)
    if one.canary is not None and one.canary.phase != "watch":
        return _moved(state, model, act, one.canary.bundle, made, facts, canary=None)
    if not one.previous:
        raise Conflict(
            f"{model} is served as the configuration says, and nothing is on its way: there is nothing to roll back",
            code="nothing_to_roll_back",
        )
    return _moved(
        state, model, act, one.champion, made, facts, champion=one.previous[0], previous=one.previous[1:], canary=None
    )


def _gone(act: Act, model: str, seen: Canary, made: Note, facts: Facts | None, *phases: str) -> Decide:
    def decide(state: ReleaseState) -> ReleaseState:
        if not _is(state.of(model).canary, seen, *phases):
            return state
        return _moved(state, model, act, seen.bundle, made, facts, canary=None)

    return decide


def _is(present: Canary | None, seen: Canary, *phases: str) -> bool:
    """Whether it is still as it was when the leader decided; a hold or an approval since is no matter."""
    return (
        present is not None
        and seen.phase in phases
        and (present.bundle, present.salt, present.phase, present.stage, present.stage_began)
        == (seen.bundle, seen.salt, seen.phase, seen.stage, seen.stage_began)
    )


def _entered(seen: Canary, at: float) -> Canary:
    """Its first users get it: time counts from here."""
    return _in(seen, phase="canary", began=at, stage=0, stage_began=at)


def _on_its_way(model: str, canary: Canary | None) -> Canary:
    if canary is None:
        raise NotFound(f"no release of {model} is on its way", code="no_challenger")
    return canary


def _veto_of(release: int, moves: tuple[Move, ...]) -> Move | None:
    return next((move for move in reversed(moves) if move.act == "vetoed" and move.release == release), None)


def _in(canary: Canary, **changed: object) -> Canary:
    return msgspec.structs.replace(canary, **changed)


def _moved(
    state: ReleaseState, model: str, act: Act, bundle: Bundle, made: Note, facts: Facts | None, **changed: object
) -> ReleaseState:
    one = state.of(model)
    move = Move(act=act, release=bundle.release, note=made, facts=facts or {})
    one = msgspec.structs.replace(one, **changed, moves=(*one.moves, move)[-MOVES_KEPT:])
    return msgspec.structs.replace(state, models={**state.models, model: one})
