"""Who changed something that all gateways share, when, and why."""

import msgspec

from gateway.errors import BadRequest

MAX_REASON = 500


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """by: the key or the command. at: seconds since 1970. reason: where they gave one."""

    by: str
    at: float
    reason: str = ""


def note(by: str, at: float, reason: str | None) -> Note:
    """Raises BadRequest where the reason is too long."""
    reason = reason or ""
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise BadRequest(f"reason: at most {MAX_REASON} printable characters", param="reason")
    return Note(by, at, reason)


def because(made: Note) -> str:
    """The reason as it ends a sentence of the log."""
    return f": {made.reason}" if made.reason else ""
