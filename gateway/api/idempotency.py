"""Idempotency keys: a request that is sent again does not sample again.

A client that gives up waiting sends its request once more, and n candidates are sampled twice. With the header
`Idempotency-Key` the second one gets the first one's answer: live while it is being made, from memory or Redis
afterwards. So a request with a key is worked on to its end even when its client has gone: the retry is expected. Only
good answers are kept; a failed request may be tried again with the same key.

    same gateway, running    the retry follows the same answer as it grows
    another gateway, running 409 with Retry-After: OpenAI's clients wait and ask again
    finished                 replayed, with `x-bestow-replayed: true`
    another body             400: a key names one request

Redis away: each gateway knows its own keys only.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Scope

from gateway.access.caller import Caller
from gateway.api.http import error_response, until_gone
from gateway.errors import ApiError, BadRequest, Conflict
from gateway.tasks import end
from gateway.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

HEADER = "idempotency-key"
REPLAYED = (b"x-bestow-replayed", b"true")
MAX_KEY = 255
MAX_KEPT_BYTES = 1_048_576
KEPT_HERE = 256
_REDIS_WAIT_S = 1.0
_RUNNING = b"running"

Handler = Callable[[Request], Awaitable[Response]]


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it lies in Redis."""

    fingerprint: str
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(eq=False)
class Recording:
    """A response as it is being made: whoever follows it sees all of it from the start."""

    fingerprint: str
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    done: bool = False
    started: asyncio.Event = field(default_factory=asyncio.Event)
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, message: Message) -> None:
        """Where the response is sent to (ASGI)."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], [*self.headers, *message.get("headers", ())]
            self.started.set()
        elif message["type"] == "http.response.body":
            self.chunks.append(message.get("body", b""))
            self._news()

    def end(self) -> None:
        self.done = True
        self.started.set()
        self._news()

    async def follow(self) -> AsyncIterator[bytes]:
        position = 0
        while True:
            grown = self._grown
            while position < len(self.chunks):
                position += 1
                yield self.chunks[position - 1]
            if self.done:
                return
            await grown.wait()

    def _news(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


class Idempotency:
    """The keys that this gateway knows. redis: where gateways share them. ttl_s: how long an answer is kept.

    running_s: the longest that a request can take. erased: whether an answer is of somebody who is being erased.
    """

    def __init__(
        self, redis: Redis, metrics: Metrics, *, ttl_s: int, running_s: float, erased: Callable[[bytes], bool]
    ) -> None:
        self._redis = redis
        self._erased = erased
        self._metrics = metrics
        self._ttl_s = ttl_s
        self._running_ms = int(running_s * 1000) + 10_000
        self._known: OrderedDict[str, Recording] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    async def once(self, request: Request, tenant: str, raw: bytes, handler: Handler) -> Response:
        """The response to a request: what `handler` makes of it, or what it made of it before.

        Raises BadRequest for a key that cannot be one or belongs to another request, Conflict where another gateway
        is at work on it, ClientGone, and what `handler` raises.
        """
        key = request.headers.get(HEADER)
        if key is None:
            return await handler(request)
        if not 0 < len(key) <= MAX_KEY or not key.isprintable():
            raise BadRequest(f"{HEADER}: 1 to {MAX_KEY} printable characters", param=HEADER)
        path = request.scope["path"].encode()
        fingerprint = hashlib.sha256(path + b"\0" + raw).hexdigest()
        name = f"bestow:{{idempotency}}:{hashlib.sha256(f'{tenant}:{key}'.encode()).hexdigest()}"
        recording = self._known.get(name)
        outcome = "joined"
        if recording is None:
            # Known before anything is awaited: two requests with one key must not both begin.
            recording = self._remember(name, Recording(fingerprint))
            outcome = await until_gone(request, self._begin(name, recording, request, handler))
        elif recording.done:
            outcome = "replayed"
        if recording.fingerprint != fingerprint:
            self._metrics.idempotency.labels("reused").inc()
            raise BadRequest(
                f"{HEADER}: this key was used for another request; each request needs a key of its own",
                param=HEADER,
                code="idempotency_key_reused",
            )
        self._metrics.idempotency.labels(outcome).inc()
        await until_gone(request, _event(recording.started))
        if not recording.status:
            raise _in_progress()
        return _replay(recording, replayed=outcome != "fresh")

    def forget_erased(self) -> None:
        """Forget the answers to who is being erased."""
        for name, recording in list(self._known.items()):
            if recording.done and self._erased(b"".join(recording.chunks)):
                del self._known[name]

    async def close(self) -> None:
        """End what still runs without a client."""
        for task in list(self._tasks):
            await end(task)

    async def _begin(self, name: str, recording: Recording, request: Request, handler: Handler) -> str:
        """Fill the recording of a key that this gateway did not know. Returns how."""
        try:
            stored = await self._claim(name)
        except BaseException:
            self._forget(name, recording)
            recording.end()
            raise
        if isinstance(stored, _Stored):
            recording.fingerprint = stored.fingerprint
            recording.status, recording.headers, recording.chunks = stored.status, stored.headers, [stored.body]
            recording.end()
            return "replayed"
        task = asyncio.create_task(self._work(name, recording, request.scope, handler))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return "fresh"

    async def _work(self, name: str, recording: Recording, scope: Scope, handler: Handler) -> None:
        """Make the response, whoever listens, and keep it where it is a good one."""
        recording.headers = [(b"x-request-id", scope["state"]["request_id"].encode())]
        try:
            try:
                response = await handler(Request(scope, _never))
            except ApiError as error:
                response = error_response(error)
            await response(scope, _never, recording.take)
        except Exception:
            logger.exception("request %s failed", scope["state"]["request_id"])
            if not recording.started.is_set():
                failed = ApiError("the gateway failed on this request; its log has the reason")
                await error_response(failed)(scope, _never, recording.take)
        finally:
            if not recording.started.is_set():
                recording.status = 503
            recording.end()
            good = 200 <= recording.status < 300 and not scope["state"].get("failed")
            good = good and not self._erased(b"".join(recording.chunks))
            size = sum(map(len, recording.chunks))
            if not good:
                self._forget(name, recording)
            await self._settle(name, recording if good and size <= MAX_KEPT_BYTES else None)

    def _remember(self, name: str, recording: Recording) -> Recording:
        self._known[name] = recording
        while len(self._known) > KEPT_HERE:
            done = next((key for key, one in self._known.items() if one.done), None)
            if done is None:
                break
            del self._known[done]
        return recording

    def _forget(self, name: str, recording: Recording) -> None:
        if self._known.get(name) is recording:
            del self._known[name]

    async def _claim(self, name: str) -> _Stored | None:
        """What Redis has of a key; None where it is ours now. Raises Conflict where another gateway is at it."""
        try:
            async with asyncio.timeout(_REDIS_WAIT_S):
                if await self._redis.set(name, _RUNNING, nx=True, px=self._running_ms):
                    return None
                found = await self._redis.get(name)
        except (RedisError, OSError, TimeoutError):
            self._metrics.idempotency.labels("unshared").inc()
            return None
        if found == _RUNNING:
            self._metrics.idempotency.labels("conflict").inc()
            raise _in_progress()
        try:
            return msgspec.msgpack.decode(found if isinstance(found, bytes) else b"", type=_Stored)
        except msgspec.DecodeError:
            return None

    async def _settle(self, name: str, recording: Recording | None) -> None:
        """Keep the answer for other gateways and later, or set the key free."""
        try:
            async with asyncio.timeout(_REDIS_WAIT_S):
                if recording is None:
                    await self._redis.delete(name)
                else:
                    stored = _Stored(
                        recording.fingerprint, recording.status, recording.headers, b"".join(recording.chunks)
                    )
                    await self._redis.set(name, msgspec.msgpack.encode(stored), ex=self._ttl_s)
        except (RedisError, OSError, TimeoutError):
            self._metrics.idempotency.labels("unshared").inc()


async def once(request: Request, caller: Caller, raw: bytes, handler: Handler) -> Response:
    """`Idempotency.once` of this application, for this caller's tenant."""
    keys: Idempotency = request.app.state.idempotency
    return await keys.once(request, caller.tenant, raw, handler)


def _replay(recording: Recording, *, replayed: bool) -> Response:
    response = StreamingResponse(recording.follow(), recording.status)
    response.raw_headers = [*recording.headers, *([REPLAYED] if replayed else [])]
    return response


def _in_progress() -> Conflict:
    return Conflict(
        "a request with this idempotency key is being answered; ask again shortly",
        param=HEADER,
        code="idempotency_in_progress",
        retry_after=1.0,
    )


async def _event(event: asyncio.Event) -> None:
    await event.wait()


async def _never() -> Message:
    """The connection of a request that no client's leaving ends."""
    await asyncio.Event().wait()
    raise AssertionError("never")
