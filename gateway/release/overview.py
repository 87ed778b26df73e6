"""A model's release as operators read it: plain data for the admin API. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.release.counts import Counts
from gateway.release.judging import Decision
from gateway.release.outlook import Outlook
from gateway.release.settings import ReleaseConfig
from gateway.release.shadowing import Shadowed
from gateway.release.state import Bundle, Canary, ModelRelease, Move
from gateway.shared.note import Note

NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a challenger beside the state. share: of all users, who get it. None: cannot be read now."""

    share: float
    waits_for: str
    approvals_needed: int
    counts: Counts = NOTHING
    decision: Decision | None = None
    outlook: Outlook | None = None
    shadowed: Shadowed | None = None


def described(
    model: str, policy: str, one: ModelRelease, safe_mode: Note | None, settings: ReleaseConfig, known: Known | None
) -> dict[str, Any]:
    return {
        "object": "release",
        "model": model,
        "policy": policy,
        "safe_mode": described_note(safe_mode),
        "champion": bundle(one.champion),
        "challenger": _challenger(one.canary, settings, known) if one.canary and known else None,
        "previous": [bundle(before) for before in one.previous],
        "moves": [_move(move) for move in reversed(one.moves)],
    }


def bundle(one: Bundle) -> dict[str, Any]:
    """Without the scorer's settings: the list of scorers has them."""
    return {
        "release": one.release,
        "policy": one.policy or None,
        "served_as": one.served_as,
        "path": one.path,
        "reward": one.reward,
        "settings": one.settings,
        "digest": one.digest or None,
    }


def described_note(made: Note | None) -> dict[str, Any] | None:
    return {"by": made.by, "at": int(made.at), "reason": made.reason or None} if made else None


def _challenger(canary: Canary, settings: ReleaseConfig, known: Known) -> dict[str, Any]:
    said, shadowed = known.decision, known.shadowed
    decision = {"act": said.act, "why": said.why} if said else None
    if shadowed is not None:
        decision = {"act": shadowed.act, "why": shadowed.why}
    counts = known.counts
    return {
        "bundle": bundle(canary.bundle),
        "control": bundle(canary.control),
        "phase": canary.phase,
        "stage": canary.stage + 1 if canary.phase in ("canary", "watch") else None,
        "stages": settings.stages,
        "share": known.share,
        "began": int(canary.began),
        "stage_began": int(canary.stage_began) if canary.stage_began else None,
        "held": canary.held or None,
        "held_by": canary.held_by or None,
        "approvals": list(canary.approvals),
        "approvals_needed": known.approvals_needed,
        "waits_for": known.waits_for or None,
        "users": {"challenger": counts.challenger.users, "control": counts.control.users},
        "interactions": {"challenger": counts.challenger.interactions, "control": counts.control.interactions},
        "decision": decision,
        "signals": [_signal(reading) for reading in said.readings] if said else [],
        "outlook": msgspec.to_builtins(known.outlook) if known.outlook else None,
        "shadow": shadowed.facts if shadowed else None,
    }


def _signal(reading: Any) -> dict[str, Any]:
    return {
        "signal": reading.signal,
        "says": str(reading),
        "value": reading.value,
        "low": reading.low,
        "high": reading.high,
        "e_value": reading.e_value,
        "limit": reading.limit,
        "harm": reading.harm,
        "ok": reading.ok,
        "challenger": list(reading.challenger),
        "control": list(reading.control),
    }


def _move(move: Move) -> dict[str, Any]:
    facts: Mapping[str, Any] = move.facts
    return {"act": move.act, "release": move.release, "note": described_note(move.note), "facts": dict(facts)}
