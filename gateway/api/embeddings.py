"""POST /v1/embeddings: passed to a worker that makes them, and its answer back.

Nothing is generated, so nothing is guarded, judged or logged; requests are counted as all others are.
"""

from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import caller_of
from gateway.api.http import read_body
from gateway.api.openapi import body
from gateway.api.protocol import OWNED, convert, parse_json, refuse_unsupported
from gateway.api.relayed import answered, relayed, without_nulls
from gateway.errors import BadRequest, WorkerError
from gateway.serving import ChatService

router = APIRouter()

EMBEDDINGS_PATH = "/v1/embeddings"

# vLLM's other forms are not JSON.
_ENCODINGS = ("float", "base64")
_EXAMPLE = {"model": "your-embedding-model", "input": "How do I keep a houseplant healthy?"}


class EmbeddingBody(msgspec.Struct, frozen=True):
    """The fields that Bestow acts on or OpenAI documents; all others pass to the worker.

    input: a text, a list of texts, token ids, or a list of lists of these.
    """

    model: str
    input: str | list[Any] | None = None
    dimensions: int | None = None
    encoding_format: str | None = None
    user: str | None = None


@router.post(
    "/v1/embeddings",
    summary="Turn texts into vectors, where a worker of the model does that",
    description="OpenAI's embeddings, passed to the model's worker. Fields that are not listed pass too. No text is "
    "generated: there is no guard, no choice, and nothing is logged but that there was a request.",
    openapi_extra=body(EmbeddingBody, _EXAMPLE),
)
async def create_embeddings(request: Request) -> Response:
    service: ChatService = request.app.state.service
    caller = caller_of(request, "chat")
    sent = parse_json(await read_body(request, service.config.gateway.max_body_bytes))
    asked = convert(sent, EmbeddingBody)
    check(asked, sent)
    passed_on = {key: value for key, value in sent.items() if key not in OWNED}
    passed_on["cache_salt"] = service.signer.cache_salt(caller.tenant)
    fields = await relayed(request, caller, EMBEDDINGS_PATH, asked.model, passed_on, "does not make embeddings")
    if "data" not in fields or "usage" not in fields:
        raise WorkerError("the worker's answer holds no embeddings")
    return answered(fields, model=asked.model, usage=without_nulls(fields["usage"]))


def check(asked: EmbeddingBody, sent: dict[str, Any]) -> None:
    """Raises BadRequest naming the field."""
    refuse_unsupported(sent)
    if not asked.input and sent.get("messages") is None:
        raise BadRequest("input: it is missing or empty; send a text, token ids, or a list of these", param="input")
    if asked.encoding_format not in (None, *_ENCODINGS):
        raise BadRequest(
            f"encoding_format: {asked.encoding_format!r} is none of {', '.join(_ENCODINGS)}", param="encoding_format"
        )
