"""POST /tokenize and /detokenize, as vLLM has them: a text or a conversation as a model's tokens, and back."""

from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import caller_of
from gateway.api.http import read_body
from gateway.api.openapi import body
from gateway.api.protocol import OWNED, convert, parse_json, refuse_unsupported
from gateway.api.relayed import answered, relayed
from gateway.errors import BadRequest
from gateway.serving import ChatService

router = APIRouter()


class TokenizeBody(msgspec.Struct, frozen=True):
    """Either of prompt and messages; all other fields pass to the worker (tools, add_generation_prompt, ...)."""

    model: str
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(msgspec.Struct, frozen=True):
    """tokens: ids in the model's vocabulary."""

    model: str
    tokens: list[int]


@router.post(
    "/tokenize",
    summary="The tokens of a text, or of a conversation in the model's own template",
    description="Answers `tokens`, `count`, `max_model_len`, and `token_strs` where they were asked for.",
    openapi_extra=body(TokenizeBody, {"model": "bestow-demo", "prompt": "How do I keep a houseplant healthy?"}),
)
async def tokenize(request: Request) -> Response:
    caller = caller_of(request, "chat")
    sent = await _body(request)
    asked = convert(sent, TokenizeBody)
    refuse_unsupported(sent)
    if (asked.prompt is None) == (asked.messages is None):
        raise BadRequest("prompt: send either prompt or messages", param="prompt")
    return answered(await relayed(request, caller, "/tokenize", asked.model, _passed_on(sent), _NOT_SERVED))


@router.post(
    "/detokenize",
    summary="The text that tokens stand for",
    description="Answers `prompt`, the text.",
    openapi_extra=body(DetokenizeBody, {"model": "bestow-demo", "tokens": [261, 285, 81]}),
)
async def detokenize(request: Request) -> Response:
    caller = caller_of(request, "chat")
    sent = await _body(request)
    asked = convert(sent, DetokenizeBody)
    return answered(await relayed(request, caller, "/detokenize", asked.model, _passed_on(sent), _NOT_SERVED))


_NOT_SERVED = "has a worker that does not show its tokens"


async def _body(request: Request) -> dict[str, Any]:
    service: ChatService = request.app.state.service
    return parse_json(await read_body(request, service.config.gateway.max_body_bytes))


def _passed_on(sent: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in sent.items() if key not in OWNED}
