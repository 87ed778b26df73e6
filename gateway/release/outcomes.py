"""What a logged record says of a canary: who was served, and what went well or badly for them. Pure.

    of an interaction   served; error, unsafe, slow; asked: what a repeated question is known by
    of feedback         up or down; complaint; unsafe

Counted are the users that the interaction's own record says are counted (`ReleaseRecord`), so the group is the one by
which they were answered, whatever the canary is by now. Nobody is named: digests are keyed by the canary's salt.

Errors are what a version can be to blame for: a status of 500 or more, or an answer that a failure made less than it
should have been. A client's mistake is none. A request that was turned away for want of room (429) was not served, and
what a full house took from an answer (`load`) is no failure: it hits both groups alike.
"""

from hashlib import blake2b

import msgspec

from gateway.ids import unix_seconds
from gateway.log.own_requests import is_own
from gateway.log.records import Feedback, Interaction
from gateway.release.counts import Signal
from gateway.release.route import unit_of
from gateway.release.state import Arm

# Feedback counts where it comes within a day of its answer: whose that was is remembered for as long.
FEEDBACK_WITHIN_S = 86_400
TURNED_AWAY = 429
UNSAFE_FLAG = "unsafe"
# Of `Interaction.degraded`: what a failure or a late answer does. The others are content's doing, or the load's.
FAILURES = frozenset(
    {
        "deadline",
        "guard_partial",
        "guard_unavailable",
        "prune_unavailable",
        "reward_partial",
        "reward_unavailable",
        "worker_partial",
    }
)


class Served(msgspec.Struct, frozen=True):
    """An interaction of a user that a canary counts. id, user, asked: digests. period: see `ReleaseRecord`.

    answered, at: when its id was made, and when the request came, which is about the same. asked: the same for the same
    user and messages; empty where they are not kept.
    """

    id: str
    user: str
    arm: Arm
    period: str
    answered: float
    at: float
    signals: tuple[Signal, ...] = ()
    asked: str = ""


class Said(msgspec.Struct, frozen=True):
    """Feedback. id: the interaction's, as `Served` has it. user: who said it; empty: nobody knows.

    answered, at: when the interaction's id was made, and when this was said.
    """

    id: str
    user: str
    answered: float
    at: float
    signals: tuple[Signal, ...]


def served(record: Interaction, model: str, canary: str, salt: str, slow_ms: float | None) -> Served | None:
    """None where the canary does not count it. model: its public name. canary: its name (`route.name_of`)."""
    release = record.release
    if release is None or record.model != model or release.canary != canary or not release.counted:
        return None
    if release.arm is None or record.user is None or record.status == TURNED_AWAY or is_own(record):
        return None
    user = user_digest(salt, record.tenant, record.user)
    asked = _digest(salt, user.encode() + msgspec.json.encode(record.messages)) if record.messages else ""
    return Served(
        id=id_digest(salt, record.id),
        user=user,
        arm=release.arm,
        period=release.period,
        answered=unix_seconds(record.id),
        at=record.created,
        signals=_signals(record, slow_ms),
        asked=asked,
    )


def said(record: Feedback, salt: str) -> Said | None:
    """None where it says nothing of the kind, comes too late, or takes back what was said: the first word stands."""
    signals = _meaning(record)
    if not signals or record.retracted:
        return None
    try:
        answered = unix_seconds(record.interaction)
    except ValueError:
        return None
    if record.created - answered > FEEDBACK_WITHIN_S:
        return None
    user = user_digest(salt, record.tenant, record.user) if record.user else ""
    return Said(id_digest(salt, record.interaction), user, answered, record.created, signals)


def user_digest(salt: str, tenant: str, user: str) -> str:
    return _digest(salt, (unit_of(tenant, user) or "").encode())


def id_digest(salt: str, interaction: str) -> str:
    return _digest(salt, interaction.encode())


def _signals(record: Interaction, slow_ms: float | None) -> tuple[Signal, ...]:
    found: list[Signal] = []
    if record.status >= 500 or record.degraded in FAILURES:
        found.append("error")
    if record.outcome == "refused_candidates" or (record.outcome == "blocked" and record.candidates):
        found.append("unsafe")
    if slow_ms is not None and record.outcome == "delivered" and record.timings.total_ms > slow_ms:
        found.append("slow")
    return tuple(found)


def _meaning(record: Feedback) -> tuple[Signal, ...]:
    match record.kind, record.value:
        case "thumbs", True:
            return ("up",)
        case "thumbs", False:
            return ("down", "complaint")
        case "flag", reason:
            return ("complaint", "unsafe") if reason == UNSAFE_FLAG else ("complaint",)
    return ()


def _digest(salt: str, text: bytes) -> str:
    """64 bits in hex."""
    return blake2b(text, key=blake2b(salt.encode(), digest_size=32).digest(), digest_size=8).hexdigest()
