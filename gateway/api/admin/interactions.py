"""/admin/v1/interactions: what was logged, of one's own tenant; an admin of the tenant `default` sees all tenants'.

Each call is noted in the audit log before it is answered; what cannot be noted is not answered.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.caller import DEFAULT_TENANT, Caller
from gateway.api.auth import caller_of
from gateway.api.http import json_response
from gateway.api.protocol import convert
from gateway.errors import BadRequest, ConfigError, Forbidden, NotFound, Unavailable
from gateway.ids import interaction_id
from gateway.log import audit, search, streams
from gateway.log.archive.reader import Archive
from gateway.log.audit import Action, AuditEntry
from gateway.log.export import moment
from gateway.log.query import Query, Said
from gateway.log.records import Feedback, Interaction, Outcome
from gateway.serving import ChatService
from gateway.signing import Signer

router = APIRouter()

# A page of an answer may be shorter for it; the next call goes on.
LOOK_S = 2.0
_ENTRY = r"^[1-9][0-9]{0,15}-[0-9]{1,16}$"


class Filters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query parameters; see `log.query.Query`."""

    text: str | None = None
    regex: str | None = None
    model: str | None = None
    tenant: str | None = None
    user: str | None = None
    user_hash: str | None = None
    profile: str | None = None
    policy: str | None = None
    outcome: Outcome | None = None
    degraded: bool | None = None
    flagged: str | None = None
    feedback: Said | None = None
    min_reward: float | None = None
    max_reward: float | None = None
    since: str | None = None
    until: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    after: Annotated[str, msgspec.Meta(pattern=_ENTRY)] | None = None


@router.get(
    "/admin/v1/interactions",
    summary="Search what was logged, newest first",
    description="Redis and the archive as one; all that is given must hold. Needs the scope `read-logs`, and shows its "
    "key's tenant alone; an admin of the tenant default sees all tenants. A search through much may answer a short or "
    "empty page, which still has an `after` to go on with.",
)
async def list_interactions(request: Request) -> Response:
    caller = caller_of(request, "read-logs")
    service: ChatService = request.app.state.service
    asked = convert(dict(request.query_params), Filters, strict=False)
    query = _query(asked, caller, request.app.state.signer)
    redis, archive = request.app.state.redis, request.app.state.log_archive
    async with readable():
        found, after = await search.some(
            redis,
            service.config.log.shard,
            archive,
            query,
            asked.limit,
            asked.after,
            seconds=LOOK_S,
            clock=time.monotonic,
        )
    await _note(request, caller, "search", query.described, query.tenant, len(found))
    data = [described(one.record, one.votes) for one in found]
    return json_response({"object": "list", "data": data, "has_more": after is not None, "after": after})


@router.get(
    "/admin/v1/interactions/{interaction}",
    summary="One interaction, with the feedback on it",
    description="Needs the scope `read-logs`. By the answer's id, whatever endpoint gave it.",
)
async def get_interaction(request: Request, interaction: str) -> Response:
    caller = caller_of(request, "read-logs")
    service: ChatService = request.app.state.service
    identifier = interaction_id(interaction)
    if identifier is None:
        raise BadRequest(
            "interaction: it is not the id of an answer (chatcmpl-<uuid>, cmpl-<uuid> or resp_<uuid>)",
            param="interaction",
        )
    redis, shard = request.app.state.redis, service.config.log.shard
    archive: Archive | None = request.app.state.log_archive
    async with readable():
        logged = await streams.interactions(redis, shard, archive).find(identifier)
        votes = await streams.votes_of(redis, shard, identifier, archive) if logged else []
    if logged is None or not sees(caller, logged.record.tenant):
        raise NotFound(
            f"there is no interaction {interaction} in the log", param="interaction", code="interaction_not_found"
        )
    await _note(request, caller, "read", identifier, logged.record.tenant, 1)
    return json_response(described(logged.record, votes))


def described(record: Interaction, votes: list[Feedback]) -> dict[str, Any]:
    """An interaction for operators: all that is logged of it."""
    return {
        "object": "interaction",
        "id": record.id,
        "interaction": msgspec.to_builtins(record, str_keys=True),
        "feedback": msgspec.to_builtins(votes, str_keys=True),
    }


def _query(asked: Filters, caller: Caller, signer: Signer) -> Query:
    """Raises BadRequest, and Forbidden where it asks for another tenant's."""
    tenant = asked.tenant
    if tenant is None and not _sees_all(caller):
        tenant = caller.tenant
    if tenant is not None and not sees(caller, tenant):
        raise Forbidden(f"tenant: this API key reads what its own tenant, {caller.tenant}, has logged", param="tenant")
    if asked.user is not None and asked.user_hash is not None:
        raise BadRequest("user_hash: it names the same thing as user; give one of them", param="user_hash")
    return Query(
        text=asked.text,
        regex=asked.regex,
        model=asked.model,
        tenant=tenant,
        user=asked.user_hash if asked.user is None else signer.hash_user(asked.user) or "",
        profile=asked.profile,
        policy=asked.policy,
        outcome=asked.outcome,
        degraded=asked.degraded,
        flagged=asked.flagged,
        feedback=asked.feedback,
        min_reward=asked.min_reward,
        max_reward=asked.max_reward,
        since=_moment("since", asked.since),
        until=_moment("until", asked.until),
    )


def _sees_all(caller: Caller) -> bool:
    return caller.tenant == DEFAULT_TENANT and caller.has("admin")


def sees(caller: Caller, tenant: str) -> bool:
    """Whether a tenant's records are the caller's business."""
    return caller.tenant == tenant or _sees_all(caller)


def _moment(name: str, text: str | None) -> Any:
    try:
        return None if text is None else moment(text)
    except ValueError:
        raise BadRequest(
            f"{name}: it must be a day or a time, such as 2027-03-01 or 2027-03-01T12:00", param=name
        ) from None


async def _note(request: Request, caller: Caller, action: Action, target: str, tenant: str | None, count: int) -> None:
    """Raises Unavailable where it cannot be noted."""
    service: ChatService = request.app.state.service
    entry = AuditEntry(
        at=service.now(),
        actor=caller.actor,
        action=action,
        tenant=tenant,
        target=target,
        count=count,
        detail="admin API",
    )
    await audit.note(request.app.state.redis, service.config.log.shard, entry)


@asynccontextmanager
async def readable() -> AsyncIterator[None]:
    """What Redis and the archive raise becomes Unavailable."""
    try:
        yield
    except (RedisError, OSError, ConfigError) as error:
        raise Unavailable(
            f"the log cannot be read: {' '.join(str(error).split())}", code="log_unavailable", retry_after=2.0
        ) from error
