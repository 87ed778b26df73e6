"""How many votes have come in since a moment, in Redis and in the archive."""

from redis.asyncio import Redis

from gateway.log.archive.reader import Archive
from gateway.log.streams import feedback


async def feedback_since(redis: Redis, shard: str, archive: Archive | None, since: float, most: int) -> int:
    """since: seconds since 1970. Counts no further than `most`. Raises RedisError, OSError."""
    found = 0
    async for logged in feedback(redis, shard, archive).newest():
        if int(logged.entry.partition("-")[0]) < since * 1000 or found >= most:
            break
        found += 1
    return found
