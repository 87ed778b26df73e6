"""Keys and tenants in Redis: two hashes and a version that grows with each change.

All three share a hash tag, so that a cluster keeps them in one slot. Functions raise redis.exceptions.RedisError.
"""

from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis

from gateway.access.changes import Decide
from gateway.access.snapshot import Snapshot, from_raw
from gateway.shared.transaction import transact

KEYS = "bestow:{access}:keys"
TENANTS = "bestow:{access}:tenants"
VERSION = "bestow:{access}:version"

T = TypeVar("T")


async def read_version(redis: Redis) -> int:
    """0 where nothing was ever stored."""
    return int(await redis.get(VERSION) or 0)


async def read(redis: Redis) -> Snapshot:
    """All of it, at one moment."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.get(VERSION)
        pipe.hgetall(KEYS)
        pipe.hgetall(TENANTS)
        version, keys, tenants = await pipe.execute()
    return from_raw(version, keys, tenants)


async def change(redis: Redis, decide: Decide[T]) -> T:
    """Do what `decide` says of what is stored, all or nothing, as if nobody else were changing anything.

    Raises what `decide` raises.
    """

    async def attempt(pipe: Any) -> T:
        decided = decide(from_raw(await pipe.get(VERSION), await pipe.hgetall(KEYS), await pipe.hgetall(TENANTS)))
        if decided.keys or decided.tenants or decided.removed_tenants:
            pipe.multi()
            for key in decided.keys:
                pipe.hset(KEYS, key.id, msgspec.json.encode(key))
            for tenant in decided.tenants:
                pipe.hset(TENANTS, tenant.name, msgspec.json.encode(tenant))
            for name in decided.removed_tenants:
                pipe.hdel(TENANTS, name)
            pipe.incr(VERSION)
        return decided.result

    return await transact(redis, VERSION, attempt, "the API keys")
