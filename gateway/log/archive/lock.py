"""One archiver at a time, for all gateways: a lock in Redis that expires, and a token that fences it.

Two archivers would lose nothing, since each acknowledges only what it has written; they would write it twice. So what
changes a stream asks for the lock in the same script (`archiver.COMMIT`).
"""

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.log.keys import archiver_key

HOLD_MS = 60_000

# A Redis without memory refuses the first write of a script that could take more; it allows what comes behind one that
# cannot. Only so can an archiver begin that makes room.
_TAKE = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

_KEEP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
"""


class LockLost(RedisError):
    """Another archiver has taken over."""


class ArchiverLock:
    """token: unique to whoever holds it. Methods raise redis.exceptions.RedisError."""

    def __init__(self, redis: Redis, shard: str, token: str) -> None:
        self._redis = redis
        self.key = archiver_key(shard)
        self.token = token

    async def take(self) -> bool:
        """False where another holds it."""
        return bool(await self._redis.eval(_TAKE, 1, self.key, self.token, str(HOLD_MS)))

    async def keep(self) -> None:
        """Hold it for longer. Raises LockLost."""
        if not await self._redis.eval(_KEEP, 1, self.key, self.token, str(HOLD_MS)):
            raise LockLost("another archiver has taken over")

    async def release(self) -> None:
        await self._redis.eval(_RELEASE, 1, self.key, self.token)
