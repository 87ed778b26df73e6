"""/v1/feedback: what people say of an answer. The rules of each kind, and the routes.

Feedback needs a key with the scope `feedback`, or the answer's feedback token; and an id that this installation gave to
an answer of the same tenant. An answer's id counts with any of its prefixes and is stored with `chatcmpl-`.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.caller import Caller
from gateway.api import openapi
from gateway.api.auth import caller_of, set_caller
from gateway.api.http import json_response, read_body
from gateway.api.protocol import convert, parse_json, says
from gateway.errors import BadRequest, Conflict, NotFound, Unauthorized, Unavailable
from gateway.ids import interaction_id, new_uuid7, unix_seconds
from gateway.log.records import Feedback, FeedbackKind
from gateway.serving import ChatService
from gateway.signing import TOKEN_PREFIX, FeedbackGrant, Signer

router = APIRouter()

_MAX_BODY_BYTES = 262_144
_MAX_TEXT = 32_768
_MAX_TAGS = 16
_MAX_TAG = 64
_MAX_USER = 256
_MAX_INDEX = 1023
# Clocks of gateways and clients differ a little.
_CLOCK_SLACK_S = 300.0


@dataclass(frozen=True, slots=True)
class Target:
    """An answer that feedback is for. sent: its id as the client wrote it."""

    sent: str
    interaction: str
    tenant: str
    grant: FeedbackGrant | None


class FeedbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person thought of an answer."""

    id: Annotated[str, says("The answer's, with its prefix: `chatcmpl-`, `cmpl-` or `resp_`.")]
    kind: Annotated[FeedbackKind, says("What is said; it decides what `value` is.")]
    value: Annotated[
        bool | int | str | None,
        says(
            "thumbs: true (up) or false. rating: 1 to 8. preference: its strength, 1 to 4. correction: the answer as "
            "it should have been. comment: a text. flag: the reason, such as `unsafe`."
        ),
    ] = None
    candidate: Annotated[
        int | None, says("Which candidate, by its index; none: the delivered one.", minimum=0, maximum=_MAX_INDEX)
    ] = None
    over: Annotated[int | None, says("A preference: `candidate` is better than this one.", minimum=0)] = None
    user: Annotated[str | None, says("Who says it, in your words; a feedback token goes before it.")] = None
    tags: Annotated[list[str], says("Labels of your own.", maxItems=_MAX_TAGS)] = []
    comment: Annotated[str | None, says("A remark beside the value.", maxLength=_MAX_TEXT)] = None
    token: Annotated[str | None, says("The feedback token, for senders that cannot set headers.")] = None


@router.post(
    "/v1/feedback",
    status_code=202,
    summary="Say what a person thought of an answer; a new vote replaces the old",
    openapi_extra=openapi.body(FeedbackBody, {"id": "chatcmpl-...", "kind": "thumbs", "value": True}),
)
async def post_feedback(request: Request) -> Response:
    service: ChatService = request.app.state.service
    body = convert(parse_json(await read_body(request, _MAX_BODY_BYTES)), FeedbackBody)
    target = _target(request, service, body.token, body.id)
    record = to_record(body, service, target, retracted=False)
    _store(service, record)
    return json_response({"object": "feedback", "status": "accepted", **_shown(record, target)}, 202)


@router.delete(
    "/v1/feedback/{interaction}", summary="Take a vote back: the same kind, candidates, user and flag reason"
)
async def delete_feedback(request: Request, interaction: str) -> Response:
    service: ChatService = request.app.state.service
    query: dict[str, Any] = dict(request.query_params)
    for key in ("candidate", "over"):
        if key in query:
            query[key] = _whole_number(query[key], key)
    body = convert({**query, "id": interaction}, FeedbackBody)
    target = _target(request, service, body.token, interaction)
    record = to_record(body, service, target, retracted=True)
    _store(service, record)
    return json_response({"object": "feedback", "status": "retracted", **_shown(record, target)}, 202)


@router.get("/v1/feedback/{interaction}", summary="What is stored of an answer's feedback")
async def get_feedback(request: Request, interaction: str) -> Response:
    service: ChatService = request.app.state.service
    target = _target(request, service, request.query_params.get("token"), interaction)
    votes = await service.log.votes(target.interaction)
    own = [_shown(one, target) for one in votes.feedback if one.tenant == target.tenant]
    return json_response({"object": "list", "id": interaction, "partial": votes.partial, "data": own})


def to_record(body: FeedbackBody, service: ChatService, target: Target, *, retracted: bool) -> Feedback:
    """A checked record. Raises BadRequest naming the field and the limit."""
    for name in ("candidate", "over"):
        index = getattr(body, name)
        if index is not None and not 0 <= index <= _MAX_INDEX:
            raise _bad(name, f"{index} is no candidate's index; they count from 0")
    if len(body.tags) > _MAX_TAGS or any(len(tag) > _MAX_TAG for tag in body.tags):
        raise _bad("tags", f"at most {_MAX_TAGS} tags of at most {_MAX_TAG} characters")
    if body.comment is not None and len(body.comment) > _MAX_TEXT:
        raise _bad("comment", f"at most {_MAX_TEXT} characters")
    if body.user is not None and len(body.user) > _MAX_USER:
        raise _bad("user", f"at most {_MAX_USER} characters")
    if not retracted:
        check_value(body)
    if (body.kind == "preference") != (body.over is not None):
        raise _bad("over", "a preference names the candidate it is `over`; other kinds do not")
    if body.kind == "preference" and (body.candidate is None or body.candidate == body.over):
        raise _bad("candidate", "a preference names two different candidates, `candidate` and `over`")
    return Feedback(
        id=new_uuid7(),
        interaction=target.interaction,
        created=service.now(),
        kind=body.kind,
        value=body.value,
        candidate=body.candidate,
        over=body.over,
        user=target.grant.user if target.grant else service.signer.hash_user(body.user),
        tags=body.tags,
        comment=body.comment,
        tenant=target.tenant,
        retracted=retracted,
    )


def check_value(body: FeedbackBody) -> None:
    """Each kind's values. Raises BadRequest naming `value`."""
    value = body.value
    match body.kind:
        case "thumbs":
            if not isinstance(value, bool):
                raise _bad("value", "thumbs are true (up) or false (down)")
        case "rating":
            _in_range(value, 1, 8, "a rating is a whole number from 1 to 8")
        case "preference":
            _in_range(value, 1, 4, "a preference's strength is a whole number from 1 to 4")
        case "correction" | "comment":
            if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
                raise _bad("value", f"a {body.kind} is a text of 1 to {_MAX_TEXT} characters")
        case "flag":
            if not isinstance(value, str) or not 0 < len(value) <= _MAX_TAG:
                raise _bad("value", f"a flag's value is its reason, 1 to {_MAX_TAG} characters, such as 'unsafe'")


def _in_range(value: Any, low: int, high: int, rule: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _bad("value", rule)


def _target(request: Request, service: ChatService, in_body: str | None, sent: str) -> Target:
    """Which answer is meant, where the sender may say something of it.

    Raises Unauthorized, Forbidden, BadRequest for what is no answer's id, NotFound for one that was never given out,
    Conflict for one of which nothing is kept.
    """
    signer: Signer = request.app.state.signer
    interaction = interaction_id(sent)
    grant = _grant(request, signer, in_body, interaction, service.now())
    if grant:
        set_caller(request, Caller(grant.tenant, None, frozenset({"feedback"})))
    tenant = grant.tenant if grant else caller_of(request, "feedback").tenant
    if interaction is None:
        raise _bad("id", "it is not the id of an answer (chatcmpl-<uuid>, cmpl-<uuid> or resp_<uuid>)")
    if unix_seconds(interaction) > service.now() + _CLOCK_SLACK_S:
        raise _bad("id", "it is from the future; no answer can have it yet")
    if signer.issued(interaction, tenant, stored=False):
        raise Conflict(
            f"nothing is kept of the answer {sent}: its request said store: false, or what is configured for its model "
            "or tenant does; it takes no feedback",
            param="id",
            code="interaction_not_stored",
        )
    if not signer.issued(interaction, tenant):
        raise NotFound(
            f"there is no answer {sent}; feedback is for the ids of answers that were given here",
            param="id",
            code="interaction_not_found",
        )
    return Target(sent, interaction, tenant, grant)


def _grant(
    request: Request, signer: Signer, in_body: str | None, interaction: str | None, now: float
) -> FeedbackGrant | None:
    """What a feedback token allows, where one was sent. Raises Unauthorized where it is no good for this answer."""
    token = in_body
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credential.startswith(TOKEN_PREFIX):
        token = credential
    if token is None:
        return None
    grant = signer.read_token(token, now)
    if grant is None:
        raise Unauthorized("the feedback token is not valid, or has expired", param="token")
    if grant.interaction != interaction:
        raise Unauthorized("the feedback token belongs to another answer", param="token")
    return grant


def _store(service: ChatService, record: Feedback) -> None:
    if not service.log.accept(record):
        raise Unavailable("feedback cannot be stored just now; send it again shortly", retry_after=2.0)
    service.metrics.feedback.labels(record.kind).inc()


def _shown(record: Feedback, target: Target) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": target.sent,
        "feedback_id": record.id,
        "kind": record.kind,
        "value": record.value,
        "created": int(record.created),
        "user": record.user,
    }
    for key in ("candidate", "over", "comment"):
        if getattr(record, key) is not None:
            shown[key] = getattr(record, key)
    if record.tags:
        shown["tags"] = record.tags
    return shown


def _whole_number(text: str, name: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise _bad(name, "it must be a whole number")
    return int(text)


def _bad(field: str, reason: str) -> BadRequest:
    return BadRequest(f"{field}: {reason}", param=field)
