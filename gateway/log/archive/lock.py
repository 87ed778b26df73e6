"""One archiver at a time, for all gateways: a lock in Redis that expires, and a token that fences it.

Two archivers would lose nothing, since each acknowledges only what it has written; they would write it twice. So what
changes a stream asks for the lock in the same script (`archiver.COMMIT`).
"""

from redis.asyncio import Redis

from gateway.log.keys import archiver_key
from gateway.shared.lock import Lock, LockLost

__all__ = ["HOLD_MS", "ArchiverLock", "LockLost"]

HOLD_MS = 60_000


class ArchiverLock(Lock):
    """token: unique to whoever holds it. Methods raise redis.exceptions.RedisError."""

    def __init__(self, redis: Redis, shard: str, token: str) -> None:
        super().__init__(redis, archiver_key(shard), token, HOLD_MS, "archiver")
