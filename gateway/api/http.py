"""HTTP odds and ends that every endpoint shares: bodies with a limit, JSON answers, clients that go away."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import ApiError, BodyTooLarge

T = TypeVar("T")

# A body somewhat over the limit is read to its end and thrown away, so that the connection stays usable and the client
# sees the answer instead of a reset; one far over it is not worth reading.
_DRAIN_FACTOR = 8

_encode = msgspec.json.Encoder().encode


class ClientGone(Exception):
    """The client closed the connection; nobody reads an answer."""


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body. Raises BodyTooLarge where it is over `limit` bytes."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit * _DRAIN_FACTOR:
        raise _too_large(limit)
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
        headers["retry-after"] = f"{error.retry_after:g}"
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
        await cancel(watch)
        await cancel(task)


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has cleaned up."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
