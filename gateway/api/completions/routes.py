"""POST /v1/completions: parse, answer every prompt, and write the answers out whole or as a stream."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.caller import Caller
from gateway.api.auth import caller_of
from gateway.api.completions.answer import joint_headers, text_completion
from gateway.api.completions.protocol import CompletionBody, CompletionRequest, Prompt, completion_request
from gateway.api.completions.stream import PromptWriter, Stream
from gateway.api.http import json_response, read_body, until_gone
from gateway.api.idempotency import once
from gateway.api.openapi import body
from gateway.api.protocol import parse_json
from gateway.api.session import named_by
from gateway.api.streaming import StreamWriter, stream_all
from gateway.errors import BadRequest
from gateway.ids import new_completion_id
from gateway.serving import ChatService, Exchange
from gateway.tasks import end
from gateway.workers.client import NotServed
from gateway.workers.pool import WorkerPool

router = APIRouter()

T = TypeVar("T")

_EXAMPLE = {"model": "bestow-demo", "prompt": "To keep a houseplant healthy, "}


@router.post(
    "/v1/completions",
    summary="Create text completions: for each prompt the best safe one of n candidates",
    description="OpenAI's legacy completions. Fields that are not listed pass to the worker. `max_tokens` is the "
    "profile's where it is absent, not OpenAI's 16. Each prompt is judged and logged by itself; with several, "
    "`guidance.prompts` holds the receipt of each, with the id that feedback takes.",
    openapi_extra=body(CompletionBody, _EXAMPLE),
)
async def create_completion(request: Request) -> Response:
    service: ChatService = request.app.state.service
    caller = caller_of(request, "chat")
    raw = await read_body(request, service.config.gateway.max_body_bytes)
    asked = completion_request(parse_json(raw), service.config.gateway.max_prompts)
    session = asked.common.session or named_by(request.headers)
    asked = replace(asked, common=replace(asked.common, session=session))
    pool = service.pools[service.models.get(asked.common.model, caller).policy]
    request.state.model = asked.common.model

    async def answer(request: Request) -> Response:
        texts = await until_gone(request, _together([_text(pool, prompt) for prompt in asked.prompts]))
        exchanges = _exchanges(request, service, caller, asked, texts)
        request.state.request_id = exchanges[0].id
        if asked.common.stream:
            return await stream_all(request, _written(asked, exchanges, texts))
        answers = await until_gone(request, _together([exchange.run() for exchange in exchanges]))
        return json_response(text_completion(answers, asked, texts), headers=joint_headers(answers))

    return await once(request, caller, raw, answer)


def _written(
    asked: CompletionRequest, exchanges: Sequence[Exchange], texts: Sequence[str]
) -> list[tuple[Exchange, StreamWriter]]:
    """Each exchange with the writer of its part of the stream."""
    shared = Stream(asked, exchanges)
    return [
        (exchange, PromptWriter(shared, exchange, number, text))
        for number, (exchange, text) in enumerate(zip(exchanges, texts, strict=True))
    ]


def _exchanges(
    request: Request, service: ChatService, caller: Caller, asked: CompletionRequest, texts: Sequence[str]
) -> list[Exchange]:
    """One for each prompt; the first has the request's id. Raises Forbidden or BadRequest."""
    tag = service.signer.tag(caller.tenant)
    return [
        service.begin(
            asked.of_prompt(prompt, text), new_completion_id(tag) if number else request.state.request_id, caller
        )
        for number, (prompt, text) in enumerate(zip(asked.prompts, texts, strict=True))
    ]


async def _text(pool: WorkerPool, prompt: Prompt) -> str:
    """How a prompt reads: the worker's tokenizer says it of token ids. Raises ApiError."""
    if isinstance(prompt, str):
        return prompt
    try:
        text = await pool.detokenize(prompt)
    except NotServed:
        raise BadRequest(
            "prompt: this model takes text only; its worker cannot say how token ids read", param="prompt"
        ) from None
    if not text:
        raise BadRequest("prompt: these token ids stand for no text", param="prompt")
    return text


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results, in order. The first failure is raised, and what still runs is cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await end(*tasks)
