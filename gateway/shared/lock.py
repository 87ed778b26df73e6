"""One holder at a time: a lock in Redis that expires, taken and kept by scripts that any Redis allows.

A Redis without memory refuses the first write of a script that could take more; it allows what comes behind one that
cannot. Only so can somebody begin who makes room.
"""

from redis.asyncio import Redis
from redis.exceptions import RedisError

# KEYS: lock. ARGV: token, ms. Whoever holds it already holds it for longer.
_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# KEYS: lock, counter. ARGV: token, ms, the least the counter has. The new holder's number, 0 where another holds it.
_TAKE_FENCED = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if tonumber(redis.call('GET', KEYS[2]) or '0') < tonumber(ARGV[3]) then
  redis.call('SET', KEYS[2], ARGV[3])
end
return redis.call('INCR', KEYS[2])
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
    """Another has taken over."""


class Lock:
    """token: unique to whoever holds it. who: of holders, for the error. Methods raise redis.exceptions.RedisError."""

    def __init__(self, redis: Redis, key: str, token: str, hold_ms: int, who: str) -> None:
        self._redis = redis
        self.key = key
        self.token = token
        self._hold_ms = str(hold_ms)
        self._who = who

    async def take(self) -> bool:
        """False where another holds it."""
        return bool(await self._redis.eval(_TAKE, 1, self.key, self.token, self._hold_ms))

    async def take_fenced(self, counter: str, least: int) -> int | None:
        """Its number, higher than that of any holder before and than `least`; None where another holds it.

        counter: a key in the same slot.
        """
        keys = (self.key, counter)
        fence = await self._redis.eval(_TAKE_FENCED, len(keys), *keys, self.token, self._hold_ms, str(least))
        return int(fence) or None

    async def keep(self) -> None:
        """Hold it for longer. Raises LockLost."""
        if not await self._redis.eval(_KEEP, 1, self.key, self.token, self._hold_ms):
            raise LockLost(f"another {self._who} has taken over")

    async def release(self) -> None:
        await self._redis.eval(_RELEASE, 1, self.key, self.token)
