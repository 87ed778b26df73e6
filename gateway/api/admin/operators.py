"""Who may manage what all tenants share, and the note that each such change carries."""

from typing import Any

import msgspec
from starlette.requests import Request

from gateway.access.caller import Caller
from gateway.api.auth import caller_of
from gateway.api.http import read_body
from gateway.api.protocol import convert, parse_json
from gateway.errors import Forbidden
from gateway.shared.note import Note, note

MAX_BODY_BYTES = 65_536


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body, where there is one. reason: why, for whoever reads the list later."""

    reason: str | None = None


def operator(request: Request) -> Caller:
    """An admin of the tenant default. Raises Unauthorized, Forbidden, Unavailable."""
    caller = caller_of(request, "admin")
    if not caller.operates:
        raise Forbidden("this is shared by all tenants: it is managed with an admin key of the tenant default")
    return caller


async def read_reason(request: Request) -> str | None:
    """Of an optional body. Raises BadRequest."""
    raw = await read_body(request, MAX_BODY_BYTES)
    return convert(parse_json(raw), Reason).reason if raw.strip() else None


def made_by(caller: Caller, now: float, reason: str | None) -> Note:
    """now: seconds since 1970. Raises BadRequest where the reason is too long."""
    return note(caller.actor, now, reason)


def described_note(made: Note) -> dict[str, Any]:
    """A note as operators read it."""
    return {"by": made.by, "at": int(made.at), "reason": made.reason or None}
