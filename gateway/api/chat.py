"""POST /v1/chat/completions: parse, answer, and write it out whole or as a stream."""

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.answer import completion, headers
from gateway.api.auth import caller_of
from gateway.api.chat_stream import ChatWriter
from gateway.api.http import json_response, read_body, until_gone
from gateway.api.idempotency import once
from gateway.api.openapi import body
from gateway.api.protocol import ChatBody, parse_chat
from gateway.api.session import named_by
from gateway.api.streaming import stream
from gateway.serving import ChatService

router = APIRouter()

_EXAMPLE = {"model": "bestow-demo", "messages": [{"role": "user", "content": "How do I keep a houseplant healthy?"}]}


@router.post(
    "/v1/chat/completions",
    summary="Create a chat completion: the best safe one of n candidates",
    description="OpenAI's chat completions. Fields that are not listed pass to the worker. The answer has OpenAI's "
    "shape, with the receipt under `guidance`; with `stream: true` it is a stream of server-sent events.",
    openapi_extra=body(ChatBody, _EXAMPLE),
)
async def create_chat_completion(request: Request) -> Response:
    service: ChatService = request.app.state.service
    caller = caller_of(request, "chat")
    raw = await read_body(request, service.config.gateway.max_body_bytes)
    chat = parse_chat(raw)
    chat = replace(chat, session=chat.session or named_by(request.headers))

    async def answer(request: Request) -> Response:
        exchange = service.begin(chat, request.state.request_id, caller)
        request.state.request_id = exchange.id
        # Not before: a metric's label is no place for whatever a client calls a model.
        request.state.model = chat.model
        if chat.stream:
            return await stream(request, exchange, ChatWriter(exchange, chat))
        found = await until_gone(request, exchange.run())
        return json_response(completion(found, chat), headers=headers(found))

    return await once(request, caller, raw, answer)
