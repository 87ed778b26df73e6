"""Stored responses in Redis: what previous_response_id, retrieving and item references read.

    bestow:{responses}:<tenant>:<uuid>  ->  StoredResponse, compact JSON, with an expiry

A record carries its whole conversation flattened, so that continuing one is a single GET however long it is. The key
holds the tenant: another tenant's id finds nothing, just as an unknown or an expired one. Redis may be away; nothing
here waits for it longer than a second.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Literal, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.api.responses.items import Item
from gateway.errors import Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

WITHIN_S = 1.0
MAX_BYTES = 4_194_304
_RETRY_AFTER_S = 5.0

Kept = Literal["stored", "too_large", "unavailable", "erased"]


class StoredResponse(msgspec.Struct, frozen=True):
    """history: the items of the conversation before this request, oldest first. input: this request's.

    response: the Response object as the client got it, output included. Instructions are in it alone: they are not
    part of the conversation.
    """

    tenant: str
    history: list[Item]
    input: list[Item]
    response: dict[str, Any]

    @property
    def conversation(self) -> list[Item]:
        """All items, the output last."""
        return [*self.history, *self.input, *self.response["output"]]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(StoredResponse).decode


class ResponseStore:
    """ttl_s: seconds a response is kept after it was made. erased: whether it is of somebody who is being erased."""

    def __init__(self, redis: Redis, ttl_s: int, erased: Callable[[bytes], bool] = lambda _: False) -> None:
        self._redis = redis
        self._erased = erased
        self._ttl_s = ttl_s

    async def put(self, uuid: str, stored: StoredResponse) -> Kept:
        """Keep a response. Never raises for Redis: it says what became of it."""
        data = _encode(stored)
        if len(data) > MAX_BYTES:
            return "too_large"
        if self._erased(data):
            return "erased"
        try:
            await _soon(self._redis.set(_key(stored.tenant, uuid), data, ex=self._ttl_s))
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("a response was not stored: %s: %s", type(error).__name__, error)
            return "unavailable"
        return "stored"

    async def get(self, tenant: str, uuid: str) -> StoredResponse | None:
        """Raises Unavailable where Redis does not answer."""
        return (await self.get_all(tenant, [uuid])).get(uuid)

    async def get_all(self, tenant: str, uuids: Collection[str]) -> dict[str, StoredResponse]:
        """Those of the responses that there are, by UUID. Raises Unavailable where Redis does not answer."""
        if not uuids:
            return {}
        found: list[Any] = await self._asked(self._redis.mget([_key(tenant, uuid) for uuid in uuids]))
        return {uuid: _decode(data) for uuid, data in zip(uuids, found, strict=True) if data is not None}

    async def delete(self, tenant: str, uuid: str) -> bool:
        """Whether there was one. Raises Unavailable where Redis does not answer."""
        return bool(await self._asked(self._redis.delete(_key(tenant, uuid))))

    async def _asked(self, command: Awaitable[T]) -> T:
        try:
            return await _soon(command)
        except (RedisError, OSError, TimeoutError):
            raise Unavailable(
                "stored responses cannot be read just now; try again shortly", retry_after=_RETRY_AFTER_S
            ) from None


def _key(tenant: str, uuid: str) -> str:
    return f"bestow:{{responses}}:{tenant}:{uuid}"


async def _soon(command: Awaitable[T]) -> T:
    """The command's result. Raises TimeoutError after a second.

    Not asyncio.timeout: redis-py 8.1 now and then swallows a cancellation, and then would be waited for.
    """
    task = asyncio.ensure_future(command)
    try:
        await asyncio.wait({task}, timeout=WITHIN_S)
        if not task.done():
            raise TimeoutError(f"Redis did not answer within {WITHIN_S:g} s")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_forget)


def _forget(task: "asyncio.Future[Any]") -> None:
    """Look at the outcome, so that asyncio does not complain that nobody did."""
    if not task.cancelled():
        task.exception()
