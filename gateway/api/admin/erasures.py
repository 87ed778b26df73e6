"""Erasing a person over HTTP: DELETE /admin/v1/interactions orders it, /admin/v1/erasures/{id} says how far it is."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.admin.interactions import readable, sees
from gateway.api.auth import caller_of
from gateway.api.http import json_response
from gateway.api.protocol import convert
from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.log.erase.erasing import order_erasure
from gateway.log.erase.ledger import Ledger
from gateway.log.erase.orders import MAX_REASON, Order
from gateway.serving import ChatService
from gateway.signing import Signer

router = APIRouter()

_HASH = r"^[0-9a-f]{32}$"


class Erase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query parameters. tenant: none: the caller's own. reason: why, for whoever reads the order later."""

    user: str | None = None
    user_hash: Annotated[str, msgspec.Meta(pattern=_HASH)] | None = None
    tenant: str | None = None
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON)] = ""


@router.delete(
    "/admin/v1/interactions",
    status_code=202,
    summary="Erase all that is stored of a person until now",
    description="From streams, journals, archive, votes and caches, but for what a legal hold keeps; gateways begin at "
    "once, and `GET /admin/v1/erasures/{erasure}` says how far they are. An admin of another tenant than default "
    "erases of its own users.",
)
async def erase_interactions(request: Request) -> Response:
    caller = caller_of(request, "admin")
    service: ChatService = request.app.state.service
    asked = convert(dict(request.query_params), Erase, strict=False)
    tenant = caller.tenant if asked.tenant is None else asked.tenant
    if not sees(caller, tenant):
        raise Forbidden(f"tenant: this API key erases of its own tenant, {caller.tenant}", param="tenant")
    redis: Redis = request.app.state.redis
    user = _hash_of(asked, request.app.state.signer)
    config = service.config
    async with readable():
        order = await order_erasure(
            redis, config.log, config.data_dir, tenant, user, by=caller.actor, now=service.now(), reason=asked.reason
        )
    return json_response(described(order), 202)


@router.get("/admin/v1/erasures/{erasure}", summary="How far the erasing of a person is")
async def get_erasure(request: Request, erasure: str) -> Response:
    caller = caller_of(request, "admin")
    service: ChatService = request.app.state.service
    async with readable():
        orders = await Ledger(request.app.state.redis, service.config.log, service.config.data_dir).orders()
    found = next((order for order in orders if order.id == erasure and sees(caller, order.tenant)), None)
    if found is None:
        raise NotFound(f"there is no erasure with the id {erasure!r}", param="erasure", code="erasure_not_found")
    return json_response(described(found))


def described(order: Order) -> dict[str, Any]:
    """An order for operators; it names nobody."""
    return {
        "object": "erasure",
        "id": order.id,
        "tenant": order.tenant,
        "status": order.status,
        "ordered": {"by": order.by, "at": int(order.at), "reason": order.reason or None},
        "before": int(order.before),
        "finished": None if order.finished is None else int(order.finished),
        "counts": order.counts,
        "outstanding": order.outstanding,
        "holds": order.holds,
        "replays": order.replays,
    }


def _hash_of(asked: Erase, signer: Signer) -> str:
    """The person. Raises BadRequest where nobody is named, or twice."""
    if asked.user is not None and asked.user_hash is not None:
        raise BadRequest("user_hash: it names the same thing as user; give one of them", param="user_hash")
    found = asked.user_hash or signer.hash_user(asked.user)
    if found is None:
        raise BadRequest("user: it is missing or empty; it names the person to erase", param="user")
    return found
