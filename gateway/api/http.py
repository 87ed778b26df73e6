"""HTTP odds and ends that every endpoint shares: bodies with a limit, JSON answers, clients that go away."""

import asyncio
import math
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway.errors import ApiError, BadRequest, BodyTooLarge, RequestTimeout
from gateway.tasks import end

T = TypeVar("T")

# A body somewhat over the limit is read to its end and thrown away, so that the connection stays usable and the client
# sees the answer instead of a reset; one far over it is not worth reading.
_DRAIN_FACTOR = 8
# A body that comes slower than this is an attack or a broken line; each holds memory and a connection.
_BODY_WITHIN_S = 60.0

_encode = msgspec.json.Encoder().encode


class ClientGone(Exception):
    """The client closed the connection; nobody reads an answer."""


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body. Raises BodyTooLarge where it is over `limit` bytes, RequestTimeout where it is too slow.

    Raises BadRequest where it is compressed, ClientGone where the client leaves before it has sent everything.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise BadRequest("content-encoding: send the body as it is, not compressed", param="content-encoding")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit * _DRAIN_FACTOR:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(_BODY_WITHIN_S):
            return await _read(request, limit)
    except TimeoutError:
        raise RequestTimeout(f"the body did not arrive within {_BODY_WITHIN_S:g} s", retry_after=1.0) from None
    except ClientDisconnect:
        raise ClientGone from None


async def _read(request: Request, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size <= limit:
            pieces.append(piece)
        else:
            pieces.clear()
        if size > limit * _DRAIN_FACTOR:
            break
    if size > limit:
        raise _too_large(limit)
    return b"".join(pieces)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit} bytes, the most that is accepted")


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(_encode(body), status, headers, media_type="application/json")


def error_response(error: ApiError) -> Response:
    """An error in OpenAI's shape; `x-should-retry` and Retry-After tell OpenAI's clients whether to try again."""
    headers = {"x-should-retry": "true" if error.retry_after is not None else "false"}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return json_response(error.body(), error.status, headers)


async def gone(request: Request) -> None:
    """Returns when the client has closed the connection. Call only after the body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled where the client goes away first. Raises ClientGone then."""
    task = asyncio.create_task(work)
    watch = asyncio.create_task(gone(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        await end(watch)
        await end(task)
