"""How far a webhook has come, in Redis: so that a restart loses nothing, and one gateway at a time sends.

A lock that expires, and a hash: the last entry of the feedback stream that is dealt with, since when the receiver takes
nothing, and the entries that were put aside to be tried again. Only who holds the lock can change it.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.log.keys import webhook_key, webhook_lock_key
from gateway.shared.lock import Lock

HOLD_MS = 60_000
_ENTRY = "entry"
_FAILING = "failing_since"
_RETRY = "retry:"

# KEYS: lock, hash. ARGV: token, ms, how many fields to set, their names and values, names to delete. Were this refused
# by a Redis without memory, a vote that was delivered would be delivered again and again: see `shared.lock`.
_SAVE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('LOCKLOST another gateway has taken over')
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('HDEL', KEYS[2], '-')
local set = tonumber(ARGV[3])
for i = 4, 2 + 2 * set, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
for i = 4 + 2 * set, #ARGV do
  redis.call('HDEL', KEYS[2], ARGV[i])
end
return 1
"""


class LeaseLost(RedisError):
    """Another gateway has taken over."""


class Retry(msgspec.Struct, frozen=True):
    """An entry that was put aside. since: its first failure; at: when to try again. Both in seconds since 1970."""

    since: float
    at: float
    attempts: int


class Place(msgspec.Struct, frozen=True):
    """entry: None where this webhook is new. retries: by the entry's id."""

    entry: str | None = None
    failing_since: float | None = None
    retries: dict[str, Retry] = {}


class PlaceStore:
    """One webhook's place. token: unique to whoever holds it. Methods raise redis.exceptions.RedisError."""

    def __init__(self, redis: Redis, shard: str, name: str, token: str) -> None:
        self._redis = redis
        self._lock = Lock(redis, webhook_lock_key(shard, name), token, HOLD_MS, "gateway")
        self._key = webhook_key(shard, name)

    async def take(self) -> bool:
        """Hold it, for longer where it is held already. False where another does."""
        return await self._lock.take()

    async def release(self) -> None:
        await self._lock.release()

    async def read(self) -> Place:
        fields: Any = await self._redis.hgetall(self._key)
        known = {key.decode(): value for key, value in fields.items()}
        entry, failing = known.get(_ENTRY), known.get(_FAILING)
        return Place(
            entry.decode() if entry else None,
            float(failing) if failing else None,
            {
                key.removeprefix(_RETRY): msgspec.json.decode(value, type=Retry)
                for key, value in known.items()
                if key.startswith(_RETRY)
            },
        )

    async def save(
        self,
        *,
        entry: str | None = None,
        failing_since: float | None = None,
        works: bool = False,
        retries: Mapping[str, Retry] | None = None,
        done: Collection[str] = (),
    ) -> None:
        """Write what is given, and hold it for longer. works: the receiver takes votes again. done: retries to forget.

        Raises LeaseLost.
        """
        fields = {_RETRY + key: msgspec.json.encode(retry).decode() for key, retry in (retries or {}).items()}
        if entry is not None:
            fields[_ENTRY] = entry
        if failing_since is not None:
            fields[_FAILING] = repr(failing_since)
        pairs = [text for pair in fields.items() for text in pair]
        gone = [_RETRY + key for key in done] + ([_FAILING] if works else [])
        arguments = (self._lock.token, str(HOLD_MS), str(len(fields)), *pairs, *gone)
        try:
            await self._redis.eval(_SAVE, 2, self._lock.key, self._key, *arguments)
        except ResponseError as error:
            if "LOCKLOST" in str(error):
                raise LeaseLost("another gateway has taken over") from None
            raise
