"""POST /v1/chat/completions: parse, answer, and write it out whole or as a stream."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.api.answer import chunks, completion, headers, start_headers
from gateway.api.http import ClientGone, cancel, gone, json_response, read_body, until_gone
from gateway.api.openapi import body
from gateway.api.protocol import ChatBody, ChatRequest, parse_chat
from gateway.errors import ApiError
from gateway.serving import Answer, ChatService, Exchange

router = APIRouter()

# The status of a stream waits for the first candidate or this long, so that early failures keep their 4xx and 5xx.
_STATUS_WAIT_S = 2.0
_KEEP_ALIVE_S = 5.0

_encode = msgspec.json.Encoder().encode


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
    raw = await read_body(request, service.config.gateway.max_body_bytes)
    chat = parse_chat(raw)
    exchange = service.begin(chat, request.state.request_id)
    request.state.model = chat.model
    if chat.stream:
        return await _streamed(request, chat, exchange)
    try:
        answer = await until_gone(request, exchange.run())
    except ClientGone:
        return Response(status_code=499)
    return json_response(completion(answer, chat), headers=headers(answer))


async def _streamed(request: Request, chat: ChatRequest, exchange: Exchange) -> Response:
    work = asyncio.create_task(exchange.run())
    watch = asyncio.create_task(gone(request))
    first = asyncio.create_task(exchange.progress.first_candidate.wait())
    handed_over = False
    try:
        await asyncio.wait({work, watch, first}, timeout=_STATUS_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            return Response(status_code=499)
        # What is known now goes into the headers: all of the receipt, or what the plan says.
        found = headers(work.result()) if work.done() else start_headers(exchange.plan, exchange.reward_model)
        handed_over = True
    finally:
        await cancel(first)
        if not handed_over:
            await cancel(watch)
            await cancel(work)
    found |= {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(_events(chat, work, watch), headers=found, media_type="text/event-stream")


async def _events(chat: ChatRequest, work: asyncio.Task[Answer], watch: asyncio.Task[None]) -> AsyncIterator[bytes]:
    """Keep-alive comments while the best is being found, then the winner at once."""
    try:
        while not work.done():
            await asyncio.wait({work, watch}, timeout=_KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                return
            if not work.done():
                yield b": keep-alive\n\n"
        try:
            answer = work.result()
        except ApiError as error:
            yield _event(error.body())
            return
        yield b"".join(_event(chunk) for chunk in chunks(answer, chat)) + b"data: [DONE]\n\n"
    finally:
        await cancel(watch)
        await cancel(work)


def _event(body: object) -> bytes:
    return b"data: " + _encode(body) + b"\n\n"
