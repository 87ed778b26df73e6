"""A gateway's copy of the keys, in front of a real Redis."""

import asyncio
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.access import cache, store
from gateway.access.access import Access
from gateway.access.changes import NewKey, create_key, revoke_key, set_tenant
from gateway.access.door import Rules
from gateway.errors import BadRequest, Unauthorized, Unavailable
from tests.gateway.log.conftest import RedisServer
from tests.waiting import until

POLL_S = 0.02


async def make(redis: Redis, name: str = "n") -> NewKey:
    return await store.change(
        redis,
        create_key(name=name, tenant="default", scopes=["chat"], expires=None, created_by="", now=time.time()),
    )


@asynccontextmanager
async def following(redis: Redis, folder: Path, registry: CollectorRegistry | None = None) -> AsyncIterator[Access]:
    access = Access(redis, folder, Rules(loopback=True), registry or CollectorRegistry(), poll_s=POLL_S)
    await access.start()
    try:
        yield access
    finally:
        await access.close()


def refused(access: Access, key: str) -> bool:
    try:
        access.identify(key)
    except Unauthorized:
        return True
    return False


async def test_the_first_key_shuts_the_door_and_a_revocation_follows(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    async with following(redis, tmp_path) as access:
        assert access.open_to_all and access.identify(None).has("admin")
        made = await make(redis)
        await until(lambda: not access.open_to_all)
        assert access.identify(made.key).key_id == made.record.id
        assert refused(access, "none needed")
        await store.change(redis, revoke_key(made.record.id, now=time.time()))
        await until(lambda: refused(access, made.key))
        assert not access.open_to_all


async def test_two_gateways_and_many_writers_agree(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    async with following(redis, tmp_path / "a") as one, following(redis, tmp_path / "b") as other:
        made = await asyncio.gather(*(make(redis, f"n{number}") for number in range(8)))
        assert sum(key.first for key in made) == 1
        await until(lambda: len(one.known.keys) == len(other.known.keys) == 8)
        assert one.known == other.known and one.known.version == 8
        assert await store.read_version(redis) == 8


async def test_the_last_known_keys_count_while_redis_is_away_and_after_a_restart(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    registry = CollectorRegistry()
    async with following(redis, tmp_path, registry) as access:
        made = await make(redis)
        await until(lambda: access.known.has_keys)
        redis_server.kill()
        await until(lambda: (registry.get_sample_value("bestow_access_poll_failures_total") or 0) > 0)
        assert access.identify(made.key).key_id and refused(access, "none needed")
        assert access.health()["redis"] != "ready" and access.health()["keys"] == 1
        with pytest.raises(Unavailable):
            await access.change(revoke_key(made.record.id, now=time.time()))
    file = cache.cache_file(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made.key.rpartition("_")[2] not in file.read_text()
    async with following(redis, tmp_path) as again:
        assert again.identify(made.key).key_id and refused(again, "none needed")
        redis_server.start()
        await until(lambda: again.health()["redis"] == "ready")


async def test_nobody_is_let_in_while_it_is_not_known_who_may(redis: Redis, tmp_path: Path) -> None:
    async with following(redis, tmp_path) as access:
        assert not access.ready and not access.open_to_all
        with pytest.raises(Unavailable):
            access.identify(None)
        with pytest.raises(Unavailable):
            access.identify("bk_aaaaaaaaaa_b")


async def test_an_emptied_redis_opens_nothing_until_a_new_key_is_made(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    async with following(redis, tmp_path) as access:
        made = await make(redis)
        await until(lambda: access.known.has_keys)
        await redis.flushall()
        await asyncio.sleep(POLL_S * 5)
        assert not access.open_to_all and access.identify(made.key).key_id
        fresh = await make(redis)
        await until(lambda: refused(access, made.key))
        assert access.identify(fresh.key).key_id


async def test_a_change_made_here_is_known_here_at_once(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    access = Access(redis, tmp_path, Rules(loopback=True), CollectorRegistry(), poll_s=60)
    await access.start()
    made = await access.change(
        create_key(name="n", tenant="default", scopes=["chat"], expires=None, created_by="", now=time.time())
    )
    assert access.identify(made.key).key_id
    await access.change(set_tenant("default", ["m"], None))
    assert access.identify(made.key).models == frozenset({"m"})
    await access.close()


async def test_a_change_that_is_refused_changes_nothing(redis_server: RedisServer, redis: Redis) -> None:
    with pytest.raises(BadRequest):
        await store.change(
            redis, create_key(name="n", tenant="x", scopes=["chat"], expires=None, created_by="", now=time.time())
        )
    assert await store.read_version(redis) == 0


async def test_records_of_another_version_are_no_keys_and_no_open_door(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    await redis.hset(store.KEYS, "x", b'{"shape": "unknown"}')
    await redis.hset(store.TENANTS, "default", b"{}")
    await redis.incr(store.VERSION)
    async with following(redis, tmp_path) as access:
        assert access.known.unreadable == 1 and not access.open_to_all and refused(access, "none needed")
        assert access.known.tenant("default").models == ()  # type: ignore[union-attr]


async def test_a_damaged_copy_on_disk_is_as_good_as_none(redis: Redis, tmp_path: Path) -> None:
    cache.cache_file(tmp_path).write_text('{"version": ')
    async with following(redis, tmp_path) as access:
        assert not access.ready
