"""Journal, Redis and archive together: journaled = archived + unarchived, and nothing lost when Redis forgets."""

import time
from pathlib import Path

from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.frames import Kind
from gateway.log.journal import Journal
from gateway.log.keys import archived_key, interactions_key
from tests.gateway.log.archive.archiving import archive, archive_in, interactions_read, store_in
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD, assert_equations_hold, interaction, sample, thumb
from tests.gateway.log.running import accept_many, running
from tests.waiting import until


def journaled_ids(folder: Path) -> set[bytes]:
    """What the journal of a stopped gateway holds."""
    journal = Journal(folder / "journal", segment_bytes=1_000_000, keep_bytes=None, clock=time.time)
    for owner in journal.orphans():
        journal.adopt(owner)
    found = set()
    for segment in journal.segments:
        found |= {entry.payload for entry in segment.read(8, max_bytes=100_000_000).entries}
    journal.close()
    return found


async def read_ids(redis: Redis, folder: Path) -> set[str]:
    return {record.id for record in (await interactions_read(redis, archive_in(folder)))[0]}


async def test_a_segment_goes_when_its_records_are_archived_and_not_before(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis, segment_bytes=20_000, keep_bytes=0) as (log, registry):
        ids: set[str] = set()
        for _ in range(3):
            ids |= accept_many(log, 20)
            assert await log.drained(5)
        log.accept(thumb(next(iter(ids))))
        assert await log.drained(5)
        assert len(list((tmp_path / "journal").glob("*.seg"))) > 2
        assert sample(registry, "unarchived") == 61
        await archive(redis, store_in(tmp_path))
        await until(lambda: sample(registry, "archived") == 61)
        assert (sample(registry, "unarchived"), sample(registry, "released")) == (0, 0)
        await until(lambda: not list((tmp_path / "journal").glob("*.seg")))
        # It goes on behind.
        ids |= accept_many(log, 10)
        assert await log.drained(5)
        assert sample(registry, "unarchived") == 10
        assert_equations_hold(registry)
    assert len(journaled_ids(tmp_path)) == 10
    assert await read_ids(redis, tmp_path) == ids


async def test_by_unique_ids_all_that_was_journaled_is_archived_or_pending(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    accepted: set[str] = set()
    async with running(tmp_path, redis, segment_bytes=10_000) as (log, registry):
        for part in range(6):
            accepted |= accept_many(log, 20)
            assert await log.drained(5)
            if part in (1, 3):
                await archive(redis, store_in(tmp_path))
        await until(lambda: sample(registry, "archived") == 80)
        assert sample(registry, "journaled_total") == len(accepted) == 120
        assert sample(registry, "unarchived") == 40
    rows = {row.data for row in archive_in(tmp_path).rows(Kind.INTERACTION)}
    assert len(rows) == 80
    assert len(rows | journaled_ids(tmp_path)) == 120
    assert len(rows & journaled_ids(tmp_path)) == 0


async def test_a_redis_that_lost_its_tail_gets_what_was_not_archived_again(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis, segment_bytes=20_000) as (log, registry):
        ids = accept_many(log, 30)
        assert await log.drained(5)
        await archive(redis, store_in(tmp_path))
        await until(lambda: sample(registry, "archived") == 30)
        ids |= accept_many(log, 30)
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
        assert sample(registry, "rewound_total") <= 61  # Nothing of what is archived.
        assert await log.drained(10)
        await archive(redis, store_in(tmp_path))
        await until(lambda: sample(registry, "archived") == 91)
        assert sample(registry, "unarchived") == 0
    assert await read_ids(redis, tmp_path) == ids
    assert await streams.votes_of(redis, SHARD, vote.interaction, archive_in(tmp_path)) == [vote]


async def test_entries_lost_with_a_crash_do_not_count_as_archived_when_later_ones_are(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    """A stopped gateway's records vanish with Redis's tail; others' are archived before it comes back."""
    kept = redis_server.append_only_file
    async with running(tmp_path / "other", redis) as (other, _):
        ids = accept_many(other, 5)
        assert await other.drained(5)
    early = kept.read_bytes()
    async with running(tmp_path, redis) as (log, _):
        ids |= accept_many(log, 10)
        assert await log.drained(5)
    redis_server.kill()
    kept.write_bytes(early)
    redis_server.start()
    async with running(tmp_path / "other", redis) as (other, registry):
        ids |= accept_many(other, 5)
        assert await other.drained(5)
        await archive(redis, store_in(tmp_path))
        await until(lambda: sample(registry, "unarchived") == 0)
    async with running(tmp_path, redis) as (log, registry):
        await until(lambda: sample(registry, "rewound_total") == 10)
        assert await log.drained(5)
    assert await read_ids(redis, tmp_path) == ids


async def test_an_emptied_redis_gets_all_again_that_is_not_archived(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis, segment_bytes=10_000) as (log, _):
        ids = accept_many(log, 20)
        assert await log.drained(5)
        await archive(redis, store_in(tmp_path))
        ids |= accept_many(log, 20)
        assert await log.drained(5)
    redis_server.kill()
    redis_server.forget()
    redis_server.start()
    # Another gateway was faster: the stream is there again, and younger.
    async with running(tmp_path / "other", redis) as (other, _):
        ids |= accept_many(other, 1)
        assert await other.drained(5)
        await archive(redis, store_in(tmp_path))
    async with running(tmp_path, redis) as (log, registry):
        await until(lambda: sample(registry, "rewound_total") >= 20)
        assert await log.drained(5)
    assert await read_ids(redis, tmp_path) == ids


async def test_entries_trimmed_by_the_archiver_are_not_shipped_again(
    tmp_path: Path, stopped_redis: RedisServer, redis: Redis
) -> None:
    stopped_redis.start("--appendfsync", "always")  # So that nothing is lost for another reason.
    async with running(tmp_path, redis) as (log, registry):
        for _ in range(3):
            accept_many(log, 10)
            assert await log.drained(5)
            await archive(redis, store_in(tmp_path))
            log.accept(thumb(interaction().id))
            assert await log.drained(5)
            stopped_redis.kill()
            stopped_redis.start()
        await until(lambda: log.health().redis)
        accept_many(log, 1)
        assert await log.drained(10)
        assert sample(registry, "rewound_total") == 0


async def test_what_somebody_else_trims_is_shipped_again(
    tmp_path: Path, stopped_redis: RedisServer, redis: Redis
) -> None:
    stopped_redis.start("--appendfsync", "always")
    async with running(tmp_path, redis) as (log, registry):
        ids = accept_many(log, 10)
        assert await log.drained(5)
        await redis.xtrim(interactions_key(SHARD), maxlen=0, approximate=False)
        stopped_redis.kill()
        stopped_redis.start()
        await until(lambda: sample(registry, "rewound_total") == 10)
        assert await log.drained(5)
    assert await read_ids(redis, tmp_path) == ids


async def test_a_full_redis_is_lag_and_archiving_ends_it(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis) as (log, registry):
        ids = accept_many(log, 3000)
        assert await log.drained(15)
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", used - 50_000)
        ids |= accept_many(log, 50)
        await until(lambda: sample(registry, "ship_errors_total") >= 2)
        assert sample(registry, "pending") == 50
        await archive(redis, store_in(tmp_path))
        assert await log.drained(10)
        assert sample(registry, "dropped_total") == 0
    assert await read_ids(redis, tmp_path) == ids


async def test_a_journal_of_a_stopped_gateway_knows_what_was_archived_meanwhile(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis) as (log, _):
        ids = accept_many(log, 20)
        assert await log.drained(5)
    await archive(redis, store_in(tmp_path))
    async with running(tmp_path, redis) as (log, registry):
        await until(lambda: sample(registry, "archived") == 20)
        assert sample(registry, "taken_over_total") == 20
        assert sample(registry, "rewound_total") == 0
    assert not list((tmp_path / "journal").glob("*.seg"))
    assert await read_ids(redis, tmp_path) == ids


async def test_watermarks_of_old_runs_are_forgotten(tmp_path: Path, redis_server: RedisServer, redis: Redis) -> None:
    for number in range(200):
        await redis.hset(archived_key(SHARD), f"run{number}/FEEDBACK", f"{number}-0")
    await archive(redis, store_in(tmp_path))
    left = await redis.hgetall(archived_key(SHARD))
    assert len(left) == 96
    assert b"run199/FEEDBACK" in left
