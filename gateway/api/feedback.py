"""/v1/feedback: what people say of an answer. The rules of each kind, and the routes."""

from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import openapi
from gateway.api.http import json_response, read_body
from gateway.api.protocol import convert, parse_json
from gateway.errors import BadRequest, Unauthorized, Unavailable
from gateway.ids import is_completion_id, new_uuid7, unix_seconds
from gateway.log.records import Feedback, FeedbackKind
from gateway.serving import ChatService
from gateway.signing import TOKEN_PREFIX, FeedbackGrant

router = APIRouter()

_MAX_BODY_BYTES = 262_144
_MAX_TEXT = 32_768
_MAX_TAGS = 16
_MAX_TAG = 64
_MAX_USER = 256
_MAX_INDEX = 1023
# Clocks of gateways and clients differ a little.
_CLOCK_SLACK_S = 300.0


class FeedbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/feedback. `token`: a feedback token, for senders that cannot set headers."""

    id: str
    kind: FeedbackKind
    value: bool | int | str | None = None
    candidate: int | None = None
    over: int | None = None
    user: str | None = None
    tags: list[str] = []
    comment: str | None = None
    token: str | None = None


@router.post(
    "/v1/feedback",
    status_code=202,
    summary="Say what a person thought of an answer; a new vote replaces the old",
    openapi_extra=openapi.body(FeedbackBody, {"id": "chatcmpl-...", "kind": "thumbs", "value": True}),
)
async def post_feedback(request: Request) -> Response:
    service: ChatService = request.app.state.service
    body = convert(parse_json(await read_body(request, _MAX_BODY_BYTES)), FeedbackBody)
    grant = _grant(request, service, body.token, body.id)
    record = to_record(body, service, grant, retracted=False)
    _store(service, record)
    return json_response({"object": "feedback", "status": "accepted", **_shown(record)}, 202)


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
    grant = _grant(request, service, body.token, interaction)
    record = to_record(body, service, grant, retracted=True)
    _store(service, record)
    return json_response({"object": "feedback", "status": "retracted", **_shown(record)}, 202)


@router.get("/v1/feedback/{interaction}", summary="What is stored of an answer's feedback")
async def get_feedback(request: Request, interaction: str) -> Response:
    service: ChatService = request.app.state.service
    _check_id(interaction, service.now())
    _grant(request, service, request.query_params.get("token"), interaction)
    votes = await service.log.votes(interaction)
    return json_response(
        {"object": "list", "id": interaction, "partial": votes.partial, "data": [_shown(one) for one in votes.feedback]}
    )


def to_record(body: FeedbackBody, service: ChatService, grant: FeedbackGrant | None, *, retracted: bool) -> Feedback:
    """A checked record. Raises BadRequest naming the field and the limit."""
    now = service.now()
    _check_id(body.id, now)
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
        interaction=body.id,
        created=now,
        kind=body.kind,
        value=body.value,
        candidate=body.candidate,
        over=body.over,
        user=grant.user if grant else service.signer.hash_user(body.user),
        tags=body.tags,
        comment=body.comment,
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


def _check_id(identifier: str, now: float) -> None:
    if not is_completion_id(identifier):
        raise _bad("id", "it is not the id of a chat completion (chatcmpl-<uuid>)")
    if unix_seconds(identifier) > now + _CLOCK_SLACK_S:
        raise _bad("id", "it is from the future; no answer can have it yet")


def _grant(request: Request, service: ChatService, in_body: str | None, interaction: str) -> FeedbackGrant | None:
    """What a feedback token allows, where one was sent. Raises Unauthorized where it is no good for this answer."""
    token = in_body
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credential.startswith(TOKEN_PREFIX):
        token = credential
    if token is None:
        return None
    grant = service.signer.read_token(token, service.now())
    if grant is None:
        raise Unauthorized("the feedback token is not valid, or has expired", param="token")
    if grant.interaction != interaction:
        raise Unauthorized("the feedback token belongs to another answer", param="token")
    return grant


def _store(service: ChatService, record: Feedback) -> None:
    if not service.log.accept(record):
        raise Unavailable("feedback cannot be stored just now; send it again shortly", retry_after=2.0)
    service.metrics.feedback.labels(record.kind).inc()


def _shown(record: Feedback) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": record.interaction,
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
