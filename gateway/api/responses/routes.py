"""/v1/responses: make one, continue one, and read or delete what is stored."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.caller import Caller
from gateway.api.answer import completion, headers
from gateway.api.auth import caller_of
from gateway.api.http import json_response, read_body, until_gone
from gateway.api.idempotency import once
from gateway.api.openapi import body
from gateway.api.protocol import chat_request, parse_json
from gateway.api.responses.answer import started, uuid_part, whole
from gateway.api.responses.events import ResponsesWriter
from gateway.api.responses.items import Item, normalised, references, uuid_of
from gateway.api.responses.protocol import ResponsesBody, ResponsesRequest, responses_request
from gateway.api.responses.request import chat_form, in_our_words
from gateway.api.responses.store import ResponseStore, StoredResponse
from gateway.api.session import named_by
from gateway.api.streaming import stream
from gateway.errors import ApiError, BadRequest, NotFound
from gateway.ids import RESPONSE_PREFIX, interaction_id
from gateway.serving import ChatService, Exchange

router = APIRouter()

_MAX_REFERENCES = 100
_MAX_LIMIT = 100
_encode = msgspec.json.Encoder().encode

_EXAMPLE = {"model": "bestow-demo", "input": "How do I keep a houseplant healthy?"}


@router.post(
    "/v1/responses",
    summary="Create a response: the best safe one of n candidates",
    description="OpenAI's Responses API with function tools; fields that are not listed pass to the worker. The answer "
    "has OpenAI's shape, with the receipt under `guidance`; with `stream: true` it is a stream of typed events. A "
    "response is stored, so that `previous_response_id` can continue it, unless `store` is false.",
    openapi_extra=body(ResponsesBody, _EXAMPLE),
)
async def create_response(request: Request) -> Response:
    service: ChatService = request.app.state.service
    caller = caller_of(request, "chat")
    raw = await read_body(request, service.config.gateway.max_body_bytes)
    asked = responses_request(parse_json(raw))
    request.state.model = asked.body.model

    async def answer(request: Request) -> Response:
        return await _answer(request, service, caller, asked)

    return await once(request, caller, raw, answer)


async def _answer(request: Request, service: ChatService, caller: Caller, asked: ResponsesRequest) -> Response:
    request.state.request_id = service.answer_id(
        request.state.request_id, asked.body.model, caller.tenant, store=asked.store
    )
    store, uuid = _store(request), uuid_part(request.state.request_id)
    history, referable = await _conversation(asked, store, caller)
    new = normalised(asked.body.input, uuid, referable)
    form = chat_form(asked, history, new)
    try:
        chat = chat_request(form.body, len(_encode(form.body)))
        before = asked.body.previous_response_id
        chat = replace(
            chat,
            endpoint="responses",
            session=chat.session or named_by(request.headers),
            previous=interaction_id(before) if before else None,
        )
        exchange = service.begin(chat, request.state.request_id, caller)
        response = started(asked, exchange.id, int(exchange.created), exchange.plan.sampling, exchange.plan.tier)
        keeper = _Keeper(store, service, uuid, StoredResponse(caller.tenant, history, new, response))
        if chat.stream:
            writer = ResponsesWriter(response, chat, form.origins, service.now)
            return await _streamed(request, exchange, writer, keeper)
        found = await until_gone(request, exchange.run())
    except ApiError as error:
        raise in_our_words(error, form.origins) from error
    finished = await keeper.keep(whole(response, completion(found, chat), int(service.now())))
    return json_response(finished, headers=headers(found))


class _Keeper:
    """Stores a finished response where the client wants that, and says in it whether it is stored."""

    def __init__(self, store: ResponseStore, service: ChatService, uuid: str, begun: StoredResponse) -> None:
        self._begun = begun
        self._store = store
        self._service = service
        self._uuid = uuid

    async def keep(self, finished: dict[str, Any]) -> dict[str, Any]:
        if not finished["store"]:
            return finished
        if not self._service.log.privacy.policies.of(finished["model"], self._begun.tenant).store:
            return finished | {"store": False}
        kept = await self._store.put(self._uuid, msgspec.structs.replace(self._begun, response=finished))
        self._service.metrics.responses_stored.labels(kept).inc()
        return finished | {"store": kept == "stored"}


async def _streamed(request: Request, exchange: Exchange, writer: ResponsesWriter, keeper: _Keeper) -> Response:
    response = await stream(request, exchange, writer)
    response.frames = _to_the_last(response.frames, writer, keeper)
    return response


async def _to_the_last(
    frames: AsyncGenerator[bytes, None], writer: ResponsesWriter, keeper: _Keeper
) -> AsyncGenerator[bytes, None]:
    """The stream, then its last event, once it is known whether the response is stored."""
    async with aclosing(frames):
        async for frame in frames:
            yield frame
    if writer.response is not None:
        yield writer.last(await keeper.keep(writer.response))


async def _conversation(
    asked: ResponsesRequest, store: ResponseStore, caller: Caller
) -> tuple[list[Item], dict[str, Item]]:
    """The items of the conversation that is continued, and all stored ones that the input can refer to, by id."""
    history: list[Item] = []
    if asked.body.previous_response_id is not None:
        found = await _stored(store, caller, asked.body.previous_response_id, "previous_response_id")
        history = found.conversation
    referable = {item["id"]: item for item in history}
    missing = {uuid_of(identifier) for identifier in references(asked.body.input) if identifier not in referable}
    uuids = sorted(uuid for uuid in missing if uuid is not None)
    if len(uuids) > _MAX_REFERENCES:
        raise BadRequest(
            f"input: it refers to items of {len(uuids)} responses; at most {_MAX_REFERENCES}", param="input"
        )
    for found in (await store.get_all(caller.tenant, uuids)).values():
        referable |= {item["id"]: item for item in found.conversation}
    return history, referable


@router.get("/v1/responses/{response_id}", summary="A stored response")
async def get_response(request: Request, response_id: str) -> Response:
    caller = caller_of(request, "chat")
    if request.query_params.get("stream") == "true":
        raise BadRequest("stream: a stored response is not streamed again; leave it out", param="stream")
    return json_response((await _stored(_store(request), caller, response_id)).response)


@router.delete("/v1/responses/{response_id}", summary="Delete a stored response; those that continue it stay")
async def delete_response(request: Request, response_id: str) -> Response:
    caller = caller_of(request, "chat")
    if not await _store(request).delete(caller.tenant, _uuid(response_id, "response_id")):
        raise _not_found(response_id, "response_id")
    return json_response({"id": response_id, "object": "response", "deleted": True})


@router.post("/v1/responses/{response_id}/cancel", summary="Not served: there are no background responses")
async def cancel_response(request: Request, response_id: str) -> Response:
    await _stored(_store(request), caller_of(request, "chat"), response_id)
    raise BadRequest(
        "only background responses can be cancelled, and none are made here; close the connection to end one that runs",
        param="response_id",
        code="unsupported_operation",
    )


@router.get("/v1/responses/{response_id}/input_items", summary="What a stored response was made from")
async def list_input_items(request: Request, response_id: str) -> Response:
    found = await _stored(_store(request), caller_of(request, "chat"), response_id)
    query = request.query_params
    limit, order = query.get("limit", "20"), query.get("order", "desc")
    if not re.fullmatch(r"[1-9]\d{0,2}", limit) or int(limit) > _MAX_LIMIT:
        raise BadRequest(f"limit: it must be a whole number from 1 to {_MAX_LIMIT}", param="limit")
    if order not in ("asc", "desc"):
        raise BadRequest(f"order: {order!r} is none of asc, desc", param="order")
    return json_response(page([*found.history, *found.input], int(limit), order, query.get("after")))


def page(items: list[Item], limit: int, order: str, after: str | None) -> dict[str, Any]:
    """OpenAI's list of at most `limit` items behind the one named `after`. Raises BadRequest where it is none."""
    ordered = items if order == "asc" else items[::-1]
    begin = 0
    if after is not None:
        ids = [item["id"] for item in ordered]
        if after not in ids:
            raise BadRequest(f"after: {after!r} is no item of this response", param="after")
        begin = ids.index(after) + 1
    data = ordered[begin : begin + limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else "",
        "last_id": data[-1]["id"] if data else "",
        "has_more": begin + limit < len(ordered),
    }


def _store(request: Request) -> ResponseStore:
    service: ChatService = request.app.state.service
    return ResponseStore(request.app.state.redis, service.config.gateway.responses_ttl_s, service.log.erased)


async def _stored(store: ResponseStore, caller: Caller, response_id: str, param: str = "response_id") -> StoredResponse:
    found = await store.get(caller.tenant, _uuid(response_id, param))
    if found is None:
        raise _not_found(response_id, param)
    return found


def _uuid(response_id: str, param: str) -> str:
    if not response_id.startswith(RESPONSE_PREFIX) or interaction_id(response_id) is None:
        raise _not_found(response_id, param)
    return uuid_part(response_id)


def _not_found(response_id: str, param: str) -> NotFound:
    return NotFound(
        f"{param}: there is no stored response {response_id[:100]!r}; it may have expired, or was not stored",
        param=param,
        code="response_not_found",
    )
