"""/admin/v1/keys: API keys. An admin of another tenant than `default` sees and manages that tenant's keys alone."""

import logging
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.access import Access
from gateway.access.caller import DEFAULT_TENANT, USUAL_SCOPES, Caller, Scope
from gateway.access.changes import Change, Decide, NewKey, T, create_key, revoke_key, rotate_key
from gateway.access.expiry import duration, expiry
from gateway.access.keys import described
from gateway.access.snapshot import Snapshot
from gateway.api import openapi
from gateway.api.auth import caller_of
from gateway.api.http import json_response, read_body
from gateway.api.protocol import convert, parse_json
from gateway.errors import Forbidden, NotFound

logger = logging.getLogger(__name__)

router = APIRouter()

MAX_BODY_BYTES = 65_536


class CreateKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/keys.

    tenant: whose key it is; none: the caller's own. expires: a duration (90d) or a date (2027-01-31); none: never.
    """

    name: str
    tenant: str | None = None
    scopes: tuple[Scope, ...] = USUAL_SCOPES
    expires: str | None = None


class RotateKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/keys/{id}/rotate. grace: how long the old key is good; "0": not at all."""

    grace: str = "24h"


_ROTATION = openapi.body(RotateKey, {"grace": "24h"})
_ROTATION["requestBody"]["required"] = False


_ROTATION = openapi.body(RotateKey, {"grace": "24h"})
_ROTATION["requestBody"]["required"] = False


@router.get("/admin/v1/keys", summary="List the API keys, revoked ones too; their secrets are kept nowhere")
async def list_keys(request: Request) -> Response:
    caller = caller_of(request, "admin")
    access: Access = request.app.state.access
    keys = sorted(access.known.keys.values(), key=lambda key: key.created)
    data = [described(key, access.now()) for key in keys if _manages(caller, key.tenant)]
    return json_response({"object": "list", "data": data})


@router.post(
    "/admin/v1/keys",
    status_code=201,
    summary="Make an API key; the answer's `key` is shown this once",
    openapi_extra=openapi.body(CreateKey, {"name": "web shop", "scopes": ["chat", "feedback"], "expires": "90d"}),
)
async def post_key(request: Request) -> Response:
    caller = caller_of(request, "admin")
    access: Access = request.app.state.access
    body = convert(parse_json(await read_body(request, MAX_BODY_BYTES)), CreateKey)
    tenant = caller.tenant if body.tenant is None else body.tenant
    if not _manages(caller, tenant):
        raise Forbidden(f"tenant: this API key manages the keys of its own tenant, {caller.tenant}", param="tenant")
    now = access.now()
    made = await access.change(
        create_key(
            name=body.name,
            tenant=tenant,
            scopes=body.scopes,
            expires=None if body.expires is None else expiry(body.expires, now),
            created_by=caller.actor,
            now=now,
        )
    )
    logger.info(
        "API key %s (%s) of tenant %s was made by %s",
        made.record.id,
        ", ".join(made.record.scopes),
        tenant,
        caller.actor,
    )
    return json_response(_shown_once(made, now), 201)


@router.post(
    "/admin/v1/keys/{key_id}/rotate",
    status_code=201,
    summary="Replace a key by a new one with the same name, tenant, scopes and lifetime",
    openapi_extra=_ROTATION,
)
async def post_rotation(request: Request, key_id: str) -> Response:
    caller = caller_of(request, "admin")
    access: Access = request.app.state.access
    raw = await read_body(request, MAX_BODY_BYTES)
    body = convert(parse_json(raw), RotateKey) if raw.strip() else RotateKey()
    now = access.now()
    rotation = rotate_key(key_id, grace_s=duration(body.grace, "grace"), created_by=caller.actor, now=now)
    made = await access.change(_own(caller, key_id, rotation))
    logger.info("API key %s was replaced by %s by %s", key_id, made.record.id, caller.actor)
    return json_response(_shown_once(made, now), 201)


@router.delete("/admin/v1/keys/{key_id}", summary="Revoke a key: it holds everywhere within about a second")
async def delete_key(request: Request, key_id: str) -> Response:
    caller = caller_of(request, "admin")
    access: Access = request.app.state.access
    now = access.now()
    revoked = await access.change(_own(caller, key_id, revoke_key(key_id, now=now)))
    logger.info("API key %s was revoked by %s", key_id, caller.actor)
    return json_response(described(revoked, now))


def _manages(caller: Caller, tenant: str) -> bool:
    return caller.tenant in (DEFAULT_TENANT, tenant)


def _own(caller: Caller, key_id: str, decide: Decide[T]) -> Decide[T]:
    """The same for keys that the caller manages; others do not exist for them."""

    def checked(found: Snapshot) -> Change[T]:
        key = found.keys.get(key_id)
        if key is not None and not _manages(caller, key.tenant):
            raise NotFound(f"there is no API key with the id {key_id!r}", code="key_not_found")
        return decide(found)

    return checked


def _shown_once(made: NewKey, now: float) -> dict[str, Any]:
    shown = {**described(made.record, now), "key": made.key}
    if made.old:
        shown["replaces"] = described(made.old, now)
    return shown
