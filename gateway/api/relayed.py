"""Requests that a worker answers by itself, for it samples no text: under the public model's name, and in time."""

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.caller import Caller
from gateway.api.http import json_response, until_gone
from gateway.errors import DeadlineExceeded, ModelNotFound, WorkerError
from gateway.serving import ChatService
from gateway.workers.client import NotServed

Fields = dict[str, msgspec.Raw]
"""The fields of a worker's answer; each value is its bytes, undecoded."""

_decode = msgspec.json.Decoder(Fields).decode


async def relayed(
    request: Request, caller: Caller, path: str, model: str, body: dict[str, Any], not_served: str
) -> Fields:
    """A worker's answer to `body` at `path`. A client that goes away ends the worker's work.

    Raises ModelNotFound where the caller has no such model, or its worker does not do this (`not_served` says what);
    DeadlineExceeded; the worker's own error.
    """
    service: ChatService = request.app.state.service
    pool = service.pools[service.models.get(model, caller).policy]
    request.state.model = model
    within_s = service.config.gateway.request_timeout_s
    try:
        async with asyncio.timeout(within_s):
            raw = await until_gone(request, pool.relay(path, body))
    except TimeoutError:
        raise DeadlineExceeded(f"the model's worker did not answer within {within_s:g} s", retry_after=5.0) from None
    except NotServed:
        raise ModelNotFound(f"The model {model!r} {not_served}.", param="model") from None
    try:
        return _decode(raw)
    except msgspec.DecodeError:
        raise WorkerError("the worker's answer is no JSON object") from None


def answered(fields: Fields, **changed: Any) -> Response:
    """The answer to the client: the worker's fields as they came, but for those changed here and those it left null."""
    return json_response({key: value for key, value in fields.items() if bytes(value) != b"null"} | changed)


def without_nulls(raw: msgspec.Raw) -> dict[str, Any]:
    """A small object, without the fields that hold nothing."""
    return {key: value for key, value in msgspec.json.decode(raw, type=dict[str, Any]).items() if value is not None}
