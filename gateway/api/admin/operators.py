"""Who may manage what all tenants share, and the note that each such change carries."""

import msgspec
from starlette.requests import Request

from gateway.access.caller import DEFAULT_TENANT, Caller
from gateway.api.auth import caller_of
from gateway.api.http import read_body
from gateway.api.protocol import convert, parse_json
from gateway.errors import Forbidden
from gateway.workers.fleet import Fleet
from gateway.workers.fleet_state import Note, note

MAX_BODY_BYTES = 65_536


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body, where there is one. reason: why, for whoever reads the list later."""

    reason: str | None = None


def operator(request: Request) -> Caller:
    """An admin of the tenant default. Raises Unauthorized, Forbidden, Unavailable."""
    caller = caller_of(request, "admin")
    if caller.tenant != DEFAULT_TENANT:
        raise Forbidden(
            "workers and adapters are shared by all tenants: managed with an admin key of the tenant default"
        )
    return caller


async def read_reason(request: Request) -> str | None:
    """Of an optional body. Raises BadRequest."""
    raw = await read_body(request, MAX_BODY_BYTES)
    return convert(parse_json(raw), Reason).reason if raw.strip() else None


def made_by(caller: Caller, fleet: Fleet, reason: str | None) -> Note:
    """Raises BadRequest where the reason is too long."""
    return note(caller.actor, fleet.now(), reason)
