"""What each operation answers and which errors it can give: for the OpenAPI page. A test finds routes missing here."""

from dataclasses import dataclass
from typing import Any, get_args

import msgspec

from gateway.api import admin_shapes, release_shapes, shapes
from gateway.control.control import ScorerNotLoaded
from gateway.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    Conflict,
    ContentBlocked,
    ContextTooLong,
    DeadlineExceeded,
    Forbidden,
    GuardUnavailable,
    ModelNotFound,
    NotFound,
    RateLimited,
    RequestTimeout,
    Unauthorized,
    Unavailable,
    WorkerError,
)
from gateway.log.erase.orders import MAX_REASON as ERASE_REASON
from gateway.log.query import Said
from gateway.log.records import Outcome
from gateway.shared.note import MAX_REASON
from gateway.workers.adapters import AdapterNotLoaded

Errors = tuple[type[ApiError], ...]
Query = dict[str, dict[str, Any]]

CALLED: Errors = (Unauthorized, Forbidden, Unavailable)
SENT: Errors = (*CALLED, BadRequest, RequestTimeout, BodyTooLarge)
RELAYED: Errors = (*SENT, ModelNotFound, RateLimited, WorkerError, DeadlineExceeded)
SAMPLED: Errors = (*RELAYED, ContextTooLong, ContentBlocked, GuardUnavailable)


@dataclass(frozen=True)
class Operation:
    """tag: its chapter on the page. answer: what it answers with `status`, or None where that is no JSON.

    receipt: the answer has the x-bestow headers. stream: it can be an event stream, described so. once: takes an
    Idempotency-Key. query: parameters (name -> schema with description). open: needs no API key. also: other answers.
    """

    tag: str
    answer: type[msgspec.Struct] | None
    errors: Errors = ()
    status: int = 200
    receipt: bool = False
    stream: str | None = None
    once: bool = False
    query: Query | None = None
    open: bool = False
    also: tuple[tuple[int, type[msgspec.Struct], str], ...] = ()


_TOKEN = {"type": "string", "description": "A feedback token, for senders that cannot set headers."}
_VOTE: Query = {
    "kind": {
        "type": "string",
        "enum": ["thumbs", "rating", "preference", "correction", "comment", "flag"],
        "description": "Of which kind the vote was. Always needed.",
    },
    "candidate": {"type": "integer", "minimum": 0, "maximum": 1023, "description": "As in the vote."},
    "over": {"type": "integer", "minimum": 0, "maximum": 1023, "description": "As in the vote."},
    "user": {"type": "string", "maxLength": 256, "description": "As in the vote."},
    "value": {"type": "string", "description": "The reason, of a flag."},
    "token": _TOKEN,
}
_BATCH: Query = {
    "dry_run": {"type": "boolean", "default": False, "description": "Check the lines; store nothing."},
    "tenant": {"type": "string", "description": "Whose answers these are, where not the key's; needs the scope admin."},
}
_PAGE: Query = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20, "description": "Most items."},
    "order": {"type": "string", "enum": ["asc", "desc"], "default": "desc", "description": "Oldest or newest first."},
    "after": {"type": "string", "description": "The id of the item before the first of this page."},
}
_INTERACTIONS: Query = {
    "text": {"type": "string", "description": "Words that all occur in prompt, candidates or feedback, in any case."},
    "regex": {"type": "string", "description": "A regular expression (RE2), in any case."},
    "model": {"type": "string", "description": "Of this model."},
    "tenant": {"type": "string", "description": "Of this tenant; another than the key's needs an admin of `default`."},
    "user": {"type": "string", "description": "Of this user, as the application names them."},
    "user_hash": {"type": "string", "description": "Of this user, as the log names them."},
    "profile": {"type": "string", "description": "By this profile: name or name@N."},
    "policy": {"type": "string", "description": "By this policy: name or name@N."},
    "outcome": {"type": "string", "enum": list(get_args(Outcome)), "description": "How it ended."},
    "degraded": {"type": "boolean", "description": "Whether it was degraded."},
    "flagged": {"type": "string", "description": "A category that a guard flagged in it."},
    "feedback": {
        "type": "string",
        "enum": list(get_args(Said)),
        "description": "What people said: up or down (thumbs), flag; none: nobody said anything.",
    },
    "min_reward": {"type": "number", "description": "Least reward of the delivered answer."},
    "max_reward": {"type": "number", "description": "Most."},
    "since": {"type": "string", "description": "From this day or time on (ISO 8601, UTC)."},
    "until": {"type": "string", "description": "Before this day or time."},
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20, "description": "Most interactions."},
    "after": {"type": "string", "description": "The `after` of the page before."},
}
_ERASE: Query = {
    "user": {"type": "string", "description": "The person, as the application names them. This or user_hash."},
    "user_hash": {"type": "string", "description": "The person, as the log names them: 32 hexadecimal digits."},
    "tenant": {"type": "string", "description": "Whose user it is; none: the key's."},
    "reason": {"type": "string", "maxLength": ERASE_REASON, "description": "Why, for whoever reads the order later."},
}
_REASON: Query = {"reason": {"type": "string", "maxLength": MAX_REASON, "description": "Why, for the log."}}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/v1/chat/completions"): Operation(
        "chat",
        shapes.ChatCompletion,
        (*SAMPLED, Conflict),
        receipt=True,
        once=True,
        stream="`chat.completion.chunk` objects as server-sent events, then `data: [DONE]`. `guidance` is on the last "
        "chunk that has a finish_reason. Comments (`: keep-alive`) come while candidates are judged. An error after "
        'the first byte is an event `data: {"error": ...}`, and the last.',
    ),
    ("POST", "/v1/completions"): Operation(
        "chat",
        shapes.TextCompletion,
        (*SAMPLED, Conflict),
        receipt=True,
        once=True,
        stream="`text_completion` objects as server-sent events, then `data: [DONE]`.",
    ),
    ("POST", "/v1/responses"): Operation(
        "responses",
        shapes.ResponseObject,
        (*SAMPLED, NotFound, Conflict),
        receipt=True,
        once=True,
        stream="OpenAI's typed events; `response.completed` or `response.incomplete` holds the whole response.",
    ),
    ("GET", "/v1/responses/{response_id}"): Operation(
        "responses",
        shapes.ResponseObject,
        (*CALLED, BadRequest, NotFound),
        query={"stream": {"type": "boolean", "description": "Not served: a 400 where it is true."}},
    ),
    ("DELETE", "/v1/responses/{response_id}"): Operation("responses", shapes.DeletedResponse, (*CALLED, NotFound)),
    ("POST", "/v1/responses/{response_id}/cancel"): Operation("responses", None, (*CALLED, BadRequest, NotFound)),
    ("GET", "/v1/responses/{response_id}/input_items"): Operation(
        "responses", shapes.InputItems, (*CALLED, BadRequest, NotFound), query=_PAGE
    ),
    ("POST", "/v1/embeddings"): Operation("models", shapes.Embeddings, RELAYED),
    ("POST", "/tokenize"): Operation("models", shapes.Tokens, RELAYED),
    ("POST", "/detokenize"): Operation("models", shapes.Detokenized, RELAYED),
    ("GET", "/v1/models"): Operation("models", shapes.ModelList, CALLED),
    ("GET", "/v1/models/{model}"): Operation("models", shapes.Model, (*CALLED, ModelNotFound)),
    ("POST", "/v1/feedback"): Operation(
        "feedback", shapes.AcceptedVote, (*SENT, NotFound, Conflict, RateLimited), status=202
    ),
    ("POST", "/v1/feedback/batch"): Operation(
        "feedback", shapes.BatchResult, (*SENT, RateLimited), status=202, query=_BATCH
    ),
    ("DELETE", "/v1/feedback/{interaction}"): Operation(
        "feedback", shapes.AcceptedVote, (*CALLED, BadRequest, NotFound, Conflict, RateLimited), status=202, query=_VOTE
    ),
    ("GET", "/v1/feedback/{interaction}"): Operation(
        "feedback", shapes.VoteList, (*CALLED, BadRequest, NotFound, Conflict), query={"token": _TOKEN}
    ),
    ("GET", "/admin/v1/keys"): Operation("admin", admin_shapes.KeyList, CALLED),
    ("POST", "/admin/v1/keys"): Operation("admin", admin_shapes.NewKeyObject, SENT, status=201),
    ("POST", "/admin/v1/keys/{key_id}/rotate"): Operation(
        "admin", admin_shapes.NewKeyObject, (*SENT, NotFound), status=201
    ),
    ("DELETE", "/admin/v1/keys/{key_id}"): Operation("admin", admin_shapes.KeyObject, (*CALLED, NotFound)),
    ("GET", "/admin/v1/tenants"): Operation("admin", admin_shapes.TenantList, CALLED),
    ("PUT", "/admin/v1/tenants/{name}"): Operation("admin", admin_shapes.TenantObject, SENT),
    ("DELETE", "/admin/v1/tenants/{name}"): Operation(
        "admin", admin_shapes.DeletedTenant, (*CALLED, BadRequest, NotFound)
    ),
    ("GET", "/admin/v1/workers"): Operation("admin", admin_shapes.WorkerList, CALLED),
    ("POST", "/admin/v1/workers"): Operation("admin", admin_shapes.WorkerObject, (*SENT, Conflict), status=201),
    ("POST", "/admin/v1/workers/{worker_id}/drain"): Operation("admin", admin_shapes.WorkerObject, (*SENT, NotFound)),
    ("POST", "/admin/v1/workers/{worker_id}/undrain"): Operation("admin", admin_shapes.WorkerObject, (*SENT, NotFound)),
    ("DELETE", "/admin/v1/workers/{worker_id}"): Operation(
        "admin", admin_shapes.RemovedWorker, (*CALLED, BadRequest, NotFound), query=_REASON
    ),
    ("GET", "/admin/v1/adapters"): Operation("admin", admin_shapes.AdapterList, CALLED),
    ("POST", "/admin/v1/adapters"): Operation(
        "admin", admin_shapes.AdapterObject, (*SENT, Conflict, AdapterNotLoaded), status=201
    ),
    ("DELETE", "/admin/v1/adapters/{policy}/{name}"): Operation(
        "admin", admin_shapes.DeletedAdapter, (*CALLED, BadRequest, NotFound, Conflict), query=_REASON
    ),
    ("GET", "/admin/v1/profiles"): Operation("admin", admin_shapes.ProfileList, CALLED),
    ("GET", "/admin/v1/profiles/{name}"): Operation("admin", admin_shapes.ProfileObject, (*CALLED, NotFound)),
    ("PUT", "/admin/v1/profiles/{name}"): Operation("admin", admin_shapes.ProfileObject, (*SENT, Conflict)),
    ("GET", "/admin/v1/profiles/{name}/history"): Operation("admin", admin_shapes.ProfileHistory, (*CALLED, NotFound)),
    ("POST", "/admin/v1/profiles/{name}/revert"): Operation(
        "admin", admin_shapes.ProfileObject, (*SENT, NotFound, Conflict)
    ),
    ("GET", "/admin/v1/interactions"): Operation(
        "admin", admin_shapes.InteractionList, (*CALLED, BadRequest), query=_INTERACTIONS
    ),
    ("DELETE", "/admin/v1/interactions"): Operation(
        "admin", admin_shapes.ErasureObject, (*CALLED, BadRequest), status=202, query=_ERASE
    ),
    ("GET", "/admin/v1/erasures/{erasure}"): Operation("admin", admin_shapes.ErasureObject, (*CALLED, NotFound)),
    ("GET", "/admin/v1/interactions/{interaction}"): Operation(
        "admin", admin_shapes.InteractionObject, (*CALLED, BadRequest, NotFound)
    ),
    ("GET", "/admin/v1/scorers"): Operation("admin", admin_shapes.ScorerList, CALLED),
    ("GET", "/admin/v1/scorers/{name}"): Operation("admin", admin_shapes.ScorerObject, (*CALLED, NotFound)),
    ("PUT", "/admin/v1/scorers/{name}"): Operation(
        "admin",
        admin_shapes.ScorerObject,
        (*SENT, Conflict, ScorerNotLoaded),
        also=((202, admin_shapes.ScorerObject, "It is still being loaded."),),
    ),
    ("DELETE", "/admin/v1/scorers/{name}"): Operation(
        "admin", admin_shapes.DeletedScorer, (*CALLED, BadRequest, NotFound, Conflict), query=_REASON
    ),
    ("GET", "/admin/v1/models/{model}/card"): Operation("admin", admin_shapes.ModelCardObject, (*CALLED, NotFound)),
    ("PUT", "/admin/v1/models/{model}/card"): Operation("admin", admin_shapes.ModelCardObject, (*SENT, ModelNotFound)),
    ("DELETE", "/admin/v1/models/{model}/card"): Operation(
        "admin", admin_shapes.DeletedCard, (*CALLED, BadRequest, NotFound), query=_REASON
    ),
    ("GET", "/admin/v1/releases"): Operation("admin", release_shapes.ReleaseList, CALLED),
    ("GET", "/admin/v1/releases/{model}"): Operation("admin", release_shapes.ReleaseObject, (*CALLED, ModelNotFound)),
    ("POST", "/admin/v1/releases/{model}"): Operation(
        "admin", release_shapes.ReleaseObject, (*SENT, ModelNotFound, Conflict), status=202
    ),
    **{
        ("POST", f"/admin/v1/releases/{{model}}/{act}"): Operation(
            "admin", release_shapes.ReleaseObject, (*SENT, ModelNotFound, NotFound, Conflict)
        )
        for act in ("promote", "rollback", "veto", "hold", "resume")
    },
    ("POST", "/admin/v1/safe-mode"): Operation("admin", release_shapes.SafeModeObject, SENT),
    ("DELETE", "/admin/v1/safe-mode"): Operation(
        "admin", release_shapes.SafeModeObject, (*CALLED, BadRequest), query=_REASON
    ),
    ("GET", "/healthz"): Operation("health", shapes.Health, open=True),
    ("GET", "/readyz"): Operation(
        "health", shapes.Readiness, open=True, also=((503, shapes.Readiness, "Something is missing; this says what."),)
    ),
    ("GET", "/metrics"): Operation("health", None, open=True),
}
