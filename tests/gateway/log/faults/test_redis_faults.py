"""One Redis that is killed, stands still, is full, or fails over, under load: lag, and nothing else."""

import asyncio
import signal
from pathlib import Path

import pytest

from gateway.log.connection import connect
from gateway.log.keys import interactions_key
from gateway.log.shipper import HEARTBEAT_S
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.faults.steady import assert_all_there, steady
from tests.gateway.log.log_samples import SHARD
from tests.gateway.log.redis_fleets import Watched, asked
from tests.waiting import until


async def test_redis_is_killed_three_times(stopped_redis: RedisServer, tmp_path: Path) -> None:
    stopped_redis.start("--appendfsync", "everysec")
    async with connect(stopped_redis.url) as redis:
        async with steady(tmp_path, redis) as load:
            for _ in range(3):
                stopped_redis.kill()
                await load.more(0.5)
                assert not load.log.health().redis and load.log.health().pending > 0
                await asyncio.to_thread(stopped_redis.start, "--appendfsync", "everysec")
                await until(lambda: load.log.health().redis)
                await load.more(0.5)
        assert load.refused == 0
    await assert_all_there(stopped_redis.url, load)


@pytest.mark.parametrize("seconds", [2.0, pytest.param(30.0, marks=pytest.mark.slow)])
async def test_redis_stands_still(redis_server: RedisServer, tmp_path: Path, seconds: float) -> None:
    async with connect(redis_server.url) as redis:
        async with steady(tmp_path, redis) as load:
            redis_server.signal(signal.SIGSTOP)
            try:
                await load.more(seconds)
                assert load.log.health().pending > 0
            finally:
                redis_server.signal(signal.SIGCONT)
            await until(lambda: load.log.health().redis)
        assert load.refused == 0
    await assert_all_there(redis_server.url, load)


async def test_redis_is_full(redis_server: RedisServer, tmp_path: Path) -> None:
    async with connect(redis_server.url) as redis:
        assert (await redis.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        async with steady(tmp_path, redis) as load:
            await redis.config_set("maxmemory", int((await redis.info("memory"))["used_memory"]) + 200_000)
            await until(lambda: load.count("ship_errors_total") >= 3)
            await load.more(1.0)
            assert load.log.health().pending > 0
            await redis.config_set("maxmemory", 0)
            await until(lambda: load.log.health().redis)
        assert load.refused == 0
    await assert_all_there(redis_server.url, load)


async def test_the_master_is_killed_and_its_replica_takes_over(watched: Watched, tmp_path: Path) -> None:
    async with connect(watched.url) as redis:
        async with steady(tmp_path, redis) as load:
            watched.one.kill()
            await until(lambda: not load.log.health().redis)
            await until(lambda: load.log.health().redis, 60)
            assert watched.master_port() == watched.other.port
        assert load.refused == 0
        await assert_all_there(watched.url, load)


async def test_what_only_the_dead_master_had_is_shipped_again(watched: Watched, tmp_path: Path) -> None:
    async with connect(watched.url) as redis:
        async with steady(tmp_path, redis) as load:
            with asked(watched.one) as admin:
                # Those that are connected stay; the replica, cut off, does not get in again.
                admin.config_set("requirepass", "of-the-master-alone")
                admin.execute_command("CLIENT", "KILL", "TYPE", "replica")
            shipped = load.count("shipped_total", kind="interaction")
            await until(lambda: load.count("shipped_total", kind="interaction") > shipped + 200)
            watched.one.kill()
            await until(lambda: load.count("rewound_total") >= 100, 60)
        assert load.refused == 0
        await assert_all_there(watched.url, load)


async def test_what_the_old_master_took_after_a_failover_is_shipped_again(watched: Watched, tmp_path: Path) -> None:
    async with connect(watched.url) as redis:
        async with steady(tmp_path, redis) as load:
            await asyncio.to_thread(watched.fail_over)
            # Until somebody notices, the old master acknowledges what it is about to lose.
            with asked(watched.other) as master:
                before = master.xlen(interactions_key(SHARD))
                await until(lambda: master.xlen(interactions_key(SHARD)) > before)
            await load.more(2 * HEARTBEAT_S)
        assert load.refused == 0
        await assert_all_there(watched.url, load)
    assert watched.master_port() == watched.other.port


async def test_redis_and_the_disk_are_both_gone_for_a_while(stopped_redis: RedisServer, tmp_path: Path) -> None:
    gone = tmp_path / "data"
    gone.write_text("a file where the folder should be")
    stopped_redis.start()
    async with connect(stopped_redis.url) as redis:
        async with steady(gone, redis, queue_records=1500) as load:
            assert load.count("bypassed_total") > 0
            stopped_redis.kill()
            await until(lambda: load.refused > 0)
            assert load.log.health().queued == 1500
            await asyncio.to_thread(stopped_redis.start)
            await until(lambda: load.log.health().queued < 1000)
            gone.unlink()
            await until(lambda: load.log.health().journal)
            await load.more(0.5)
            assert load.count("journaled_total") > 0
        assert load.count("dropped_total", reason="queue_full") == load.refused
