"""A change in Redis that is made as if nobody else were changing anything."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError, WatchError

T = TypeVar("T")

_TRIES = 20


async def transact(redis: Redis, watched: str, attempt: Callable[[Any], Awaitable[T]], what: str) -> T:
    """Run `attempt` until nobody else changed the key `watched` meanwhile; its result.

    It gets a pipeline whose commands are sent at once; after its `multi()` they are queued, and done all or none when
    it returns. Whoever writes what it reads must change `watched`. what: what is changed, for the error.
    Raises RedisError, and what `attempt` raises.
    """
    async with redis.pipeline(transaction=True) as pipe:
        for _ in range(_TRIES):
            await pipe.watch(watched)
            result = await attempt(pipe)
            if not len(pipe):
                return result
            try:
                await pipe.execute()
            except WatchError:
                continue
            return result
    raise RedisError(f"others change {what} without a pause; try again")
