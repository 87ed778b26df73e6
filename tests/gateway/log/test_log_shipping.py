"""The whole way, accept -> journal -> Redis, with a real Redis that is away, killed, stopped or full."""

import asyncio
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.keys import interactions_key
from gateway.log.records import Interaction, Record
from gateway.log.writer import RecordLog
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import (
    SHARD,
    assert_equations_hold,
    interaction,
    sample,
    settings,
    thumb,
    total_dropped,
)
from tests.gateway.log.running import accept_many, running
from tests.waiting import until


async def logged_ids(redis: Redis) -> tuple[set[str], int]:
    """Unique interactions in the stream, and how many came more than once."""
    reader = streams.interactions(redis, SHARD)
    return {logged.record.id async for logged in reader.after()}, reader.duplicates


async def test_200_interactions_and_50_thumbs_are_exactly_in_the_streams(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    records: list[Record] = [interaction() for _ in range(200)]
    records += [thumb(record.id) for record in records[:50]]

    async def request(log: RecordLog, record: Record) -> None:
        await asyncio.sleep(0)
        assert log.accept(record)

    async with running(tmp_path, redis) as (log, registry):
        await asyncio.gather(*(request(log, record) for record in records))
        assert await log.drained(5)
        assert_equations_hold(registry)
    assert await streams.interactions(redis, SHARD).length() == 200
    assert await streams.feedback(redis, SHARD).length() == 50
    read: list[Record] = [one.record async for one in streams.interactions(redis, SHARD).after()]
    read += [one.record async for one in streams.feedback(redis, SHARD).after()]
    assert sorted(read, key=lambda one: one.id) == sorted(records, key=lambda one: one.id)
    assert sample(registry, "shipped_total", kind="interaction") == 200
    assert sample(registry, "shipped_total", kind="feedback") == 50


async def test_a_record_is_in_redis_soon_after_it_was_accepted(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis) as (log, _):
        accept_many(log, 1)
        assert await log.drained(5)
        waits = []
        for _ in range(10):
            began = time.monotonic()
            accept_many(log, 1)
            assert await log.drained(5)
            waits.append(time.monotonic() - began)
    assert sorted(waits)[5] < 0.2


async def test_redis_away_at_the_start_is_lag_and_not_loss(
    tmp_path: Path, stopped_redis: RedisServer, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, redis) as (log, registry):
        ids = accept_many(log, 300)
        await until(lambda: sample(registry, "ship_errors_total") >= 3)
        health = log.health()
        assert (health.redis, health.journal, health.pending, health.dropped) == (False, True, 300, 0)
        assert sample(registry, "ship_lag_seconds") > 0
        assert_equations_hold(registry)
        stopped_redis.start()
        assert await log.drained(10)
        assert log.health().redis
        assert log.health().lag_s == 0
    assert await logged_ids(redis) == (ids, 0)
    assert caplog.text.count("Trying again") == 1
    assert caplog.text.count("works again") == 1


async def test_redis_killed_and_restarted_in_the_middle_loses_nothing(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    ids: set[str] = set()
    async with running(tmp_path, redis) as (log, _):
        for part in range(20):
            ids |= accept_many(log, 50)
            if part == 8:
                redis_server.kill()
            if part == 12:
                redis_server.start()
            await asyncio.sleep(0.02)
        assert await log.drained(15)
    assert (await logged_ids(redis))[0] == ids


async def test_what_redis_forgot_in_a_crash_is_shipped_again(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis, segment_bytes=20_000) as (log, registry):
        ids = accept_many(log, 30)
        assert await log.drained(5)
        kept = redis_server.append_only_file
        early = kept.read_bytes()
        ids |= accept_many(log, 30)
        vote = thumb(next(iter(ids)))
        log.accept(vote)
        assert await log.drained(5)
        redis_server.kill()
        kept.write_bytes(early)
        redis_server.start()
        await until(lambda: sample(registry, "rewound_total") >= 31)
        assert await log.drained(10)
        assert_equations_hold(registry)
        assert await streams.votes_of(redis, SHARD, vote.interaction) == [vote]
    assert (await logged_ids(redis))[0] == ids


async def test_an_emptied_redis_is_filled_from_the_segments_that_were_kept(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis) as (log, _):
        ids = accept_many(log, 40)
        assert await log.drained(5)
    redis_server.kill()
    redis_server.forget()
    redis_server.start()
    async with running(tmp_path, redis) as (log, registry):
        await until(lambda: sample(registry, "rewound_total") == 40)
        assert await log.drained(5)
    assert await logged_ids(redis) == (ids, 0)


async def test_without_an_archive_entries_trimmed_by_others_are_not_shipped_again(
    tmp_path: Path, stopped_redis: RedisServer, redis: Redis
) -> None:
    stopped_redis.start("--appendfsync", "always")  # So that nothing is lost for another reason.
    async with running(tmp_path, redis, archive={"enabled": False}) as (log, registry):
        for _ in range(3):
            accept_many(log, 10)
            assert await log.drained(5)
        await redis.xtrim(interactions_key(SHARD), maxlen=5, approximate=False)
        stopped_redis.kill()
        stopped_redis.start()
        accept_many(log, 1)
        assert await log.drained(10)
        await redis.xtrim(interactions_key(SHARD), maxlen=0, approximate=False)
        stopped_redis.kill()
        stopped_redis.start()
        accept_many(log, 1)
        assert await log.drained(10)
        assert sample(registry, "rewound_total") == 0
    assert await streams.interactions(redis, SHARD).length() == 1


async def test_a_redis_that_stands_still_for_a_while_loses_nothing(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis) as (log, _):
        ids = accept_many(log, 20)
        redis_server.signal(signal.SIGSTOP)
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            ids |= accept_many(log, 5)
            await asyncio.sleep(0.05)
        assert log.health().pending > 0
        redis_server.signal(signal.SIGCONT)
        assert await log.drained(10)
    assert (await logged_ids(redis))[0] == ids


async def test_a_full_redis_is_waited_for_and_warned_of_once(
    tmp_path: Path, redis_server: RedisServer, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, redis) as (log, registry):
        await until(lambda: log.health().redis)
        await redis.config_set("maxmemory", "1kb")
        ids = accept_many(log, 30)
        await until(lambda: sample(registry, "ship_errors_total") >= 3)
        assert not log.health().redis
        await redis.config_set("maxmemory", "0")
        assert await log.drained(10)
    assert await logged_ids(redis) == (ids, 0)
    assert caplog.text.count("Trying again") == 1


async def test_a_read_only_redis_is_waited_for(tmp_path: Path, redis_server: RedisServer, redis: Redis) -> None:
    async with running(tmp_path, redis) as (log, registry):
        await until(lambda: log.health().redis)
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        ids = accept_many(log, 30)
        await until(lambda: sample(registry, "ship_errors_total") >= 2)
        await redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
        assert await log.drained(10)
    assert (await logged_ids(redis))[0] == ids


async def test_two_gateways_share_a_data_directory(tmp_path: Path, redis_server: RedisServer, redis: Redis) -> None:
    async with running(tmp_path, redis) as (one, registry), running(tmp_path, redis) as (other, other_registry):
        ids = accept_many(one, 100) | accept_many(other, 100)
        assert await one.drained(5)
        assert await other.drained(5)
        assert sample(registry, "adopted_total") == sample(other_registry, "adopted_total") == 0
    assert await logged_ids(redis) == (ids, 0)


async def test_a_killed_gateways_records_are_shipped_once_by_the_next(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    script = f"""
        import asyncio, os, signal
        from pathlib import Path
        from prometheus_client import CollectorRegistry
        from gateway.config import LogConfig
        from gateway.log.writer import RecordLog
        from tests.gateway.log.log_samples import interaction, sample

        async def main():
            registry = CollectorRegistry()
            log = RecordLog(LogConfig(), Path({str(tmp_path)!r}), None, registry)
            await log.start()
            for number in range(100):
                log.accept(interaction(model=f"m{{number}}"))
            while sample(registry, "journaled_total") < 100:
                await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(script))
    assert await process.wait() == -signal.SIGKILL
    async with running(tmp_path, redis) as (_, registry), running(tmp_path, redis) as (_, other_registry):
        await until(lambda: sample(registry, "adopted_total") + sample(other_registry, "adopted_total") == 100)
        await until(lambda: sample(registry, "pending") + sample(other_registry, "pending") == 0)
    reader = streams.interactions(redis, SHARD)
    models = [logged.record.model async for logged in reader.after()]
    assert models == [f"m{number}" for number in range(100)]
    assert reader.duplicates == 0


async def test_what_a_closing_gateway_could_not_ship_the_next_one_ships(
    tmp_path: Path, stopped_redis: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis, close_s=0.1) as (log, registry):
        ids = accept_many(log, 50)
    assert sample(registry, "journaled_total") == 50
    assert not log.accept(interaction())
    assert sample(registry, "dropped_total", reason="closed") == 1
    stopped_redis.start()
    async with running(tmp_path, redis) as (_, second):
        await until(lambda: sample(second, "shipped_total", kind="interaction") == 50)
    assert await logged_ids(redis) == (ids, 0)


async def test_a_journal_that_cannot_be_taken_over_keeps_no_other_back(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    (tmp_path / "journal" / "00000000-0000-7000-8000-000000000000.00000000.seg").mkdir(parents=True)
    async with running(tmp_path, None) as (log, _):
        ids = accept_many(log, 10)
    async with running(tmp_path, redis) as (log, registry):
        await until(lambda: sample(registry, "shipped_total", kind="interaction") == 10)
    assert await logged_ids(redis) == (ids, 0)


async def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    log = RecordLog(settings(queue_records=100), tmp_path, None, registry)
    taken = [log.accept(interaction()) for _ in range(130)]
    assert taken == [True] * 100 + [False] * 30
    assert sample(registry, "dropped_total", reason="queue_full") == 30
    assert_equations_hold(registry)
    await log.start()
    await log.close(2)
    assert sample(registry, "journaled_total") == 100
    assert_equations_hold(registry)


async def test_without_a_writable_disk_records_go_to_redis_from_memory(
    tmp_path: Path, redis_server: RedisServer, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "data"
    blocked.write_text("a file where the folder should be")
    async with running(blocked, redis) as (log, registry):
        ids = accept_many(log, 100)
        vote = thumb(next(iter(ids)))
        log.accept(vote)
        assert await log.drained(5)
        assert not log.health().journal
        assert sample(registry, "bypassed_total") == 101
        assert_equations_hold(registry)
        blocked.unlink()
        await until(lambda: log.accept(interaction()) and log.health().journal)
    assert ids <= (await logged_ids(redis))[0]
    assert await streams.votes_of(redis, SHARD, vote.interaction) == [vote]
    assert caplog.text.count("Trying again") == 1


async def test_with_neither_disk_nor_redis_records_wait_in_memory_then_drop(
    tmp_path: Path, stopped_redis: RedisServer, redis: Redis
) -> None:
    blocked = tmp_path / "data"
    blocked.write_text("")
    async with running(blocked, redis, queue_records=100) as (log, registry):
        ids = accept_many(log, 100)
        await until(lambda: log.health().queued == 100)
        assert not log.accept(interaction())
        assert sample(registry, "dropped_total", reason="queue_full") == 1
        stopped_redis.start()
        assert await log.drained(10)
        assert_equations_hold(registry)
    assert (await logged_ids(redis))[0] == ids


async def test_a_journal_deleted_under_a_running_gateway_is_survived(
    tmp_path: Path, stopped_redis: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis) as (log, registry):
        accept_many(log, 10)
        await until(lambda: sample(registry, "pending") == 10)
        for path in (tmp_path / "journal").iterdir():
            path.unlink()
        await until(lambda: sample(registry, "lost_total") == 10)
        ids = accept_many(log, 10)
        stopped_redis.start()
        assert await log.drained(10)
    assert (await logged_ids(redis))[0] == ids


async def test_a_record_that_is_no_json_is_mended_or_dropped_alone(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    half_pair = interaction(messages=[{"role": "user", "content": "half \ud83d of a pair"}])
    strange = interaction(parameters={"path": tmp_path})
    hopeless = interaction(parameters={"x": float("nan"), "path": "\ud83d"})
    plain = interaction()
    async with running(tmp_path, redis) as (log, registry):
        for record in (half_pair, strange, hopeless, plain):
            assert log.accept(record)
        assert await log.drained(5)
        assert sample(registry, "dropped_total", reason="unencodable") == total_dropped(registry) == 1
    read: dict[str, Interaction] = {
        one.record.id: one.record async for one in streams.interactions(redis, SHARD).after()
    }
    assert set(read) == {half_pair.id, strange.id, plain.id}
    assert read[half_pair.id].messages[0]["content"] == "half ? of a pair"
    assert read[plain.id] == plain
