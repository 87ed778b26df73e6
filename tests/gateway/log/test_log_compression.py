"""Large records are compressed in the journal and in Redis; whoever reads sees no difference."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.archive.reader import Archive
from gateway.log.archive.store import LocalStore
from gateway.log.frames import Entry, Kind, parse
from gateway.log.keys import feedback_key, interactions_key, shadow_key
from gateway.log.records import Interaction, ScoreRecord, ShadowScores, encode, packed, plain
from gateway.log.sink import RedisSink
from tests.gateway.log.archive.archiving import archive
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD, interaction, thumb
from tests.gateway.log.running import running, stream_of

LONG = "All work and no play makes Jack a dull boy. " * 800


def large() -> Interaction:
    return interaction(messages=[{"role": "user", "content": LONG}])


@given(st.binary(), st.integers(0, 200))
def test_what_was_packed_comes_back_whatever_it_was(data: bytes, above: int) -> None:
    record = b"{" + data + b"}"
    assert plain(packed(record, above)) == record


def test_only_what_is_larger_is_compressed_and_nothing_at_zero() -> None:
    record = encode(large())
    assert len(packed(record, 16_384)) < len(record) // 4
    assert packed(record, len(record)) == record
    assert packed(record, 0) == record


def test_damaged_bytes_are_said_to_be() -> None:
    damaged = packed(encode(large()), 1)[:-9]
    with pytest.raises(ValueError, match="cannot be decompressed"):
        plain(damaged)


async def test_large_records_are_compressed_in_journal_and_stream_and_read_like_any_other(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    small, big = interaction(), large()
    async with running(tmp_path, redis) as (log, _):
        assert log.accept(small) and log.accept(big)
        assert await log.drained(20)
        [segment] = (tmp_path / "journal").glob("*.seg")
        first, second = parse(segment.read_bytes()[8:], final=True).entries
    assert first.payload == encode(small)
    assert second.payload == packed(encode(big), 16_384) != encode(big)
    assert [fields[b"d"] for fields in await stream_of(redis, interactions_key(SHARD))] == [
        first.payload,
        second.payload,
    ]
    assert [one.record async for one in streams.interactions(redis, SHARD).after()] == [small, big]
    found = await streams.interactions(redis, SHARD).find(big.id)
    assert found is not None and found.record == big


async def test_feedback_stays_plain_however_large_since_scripts_in_redis_read_it(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    vote = thumb(interaction().id, comment=LONG)
    async with running(tmp_path, redis) as (log, _):
        assert log.accept(vote)
        assert await log.drained(20)
    [fields] = await stream_of(redis, feedback_key(SHARD))
    assert fields[b"d"].startswith(b"{")
    [kept] = await streams.votes_of(redis, SHARD, vote.interaction)
    assert kept.comment == LONG


async def test_shadow_scores_may_be_compressed_too(tmp_path: Path, redis_server: RedisServer, redis: Redis) -> None:
    scores = {
        index: ScoreRecord(value=0.5, parts={f"part {number}": 0.25 for number in range(40)}) for index in range(9)
    }
    record = ShadowScores("s-1", interaction().id, 1.0, "r@1", "p@1", None, scores)
    async with running(tmp_path, redis, compress_above=1000) as (log, _):
        assert log.accept(record)
        assert await log.drained(20)
    [fields] = await stream_of(redis, shadow_key(SHARD))
    assert not fields[b"d"].startswith(b"{")
    assert [one.record async for one in streams.shadow(redis, SHARD).after()] == [record]


async def test_never_where_that_is_configured(tmp_path: Path, redis_server: RedisServer, redis: Redis) -> None:
    async with running(tmp_path, redis, compress_above=0) as (log, _):
        assert log.accept(large())
        assert await log.drained(20)
    [fields] = await stream_of(redis, interactions_key(SHARD))
    assert fields[b"d"].startswith(b"{")


async def test_the_archive_holds_plain_json(tmp_path: Path, redis_server: RedisServer, redis: Redis) -> None:
    small, big = interaction(), large()
    entries = [Entry(Kind.INTERACTION, packed(encode(record), 16_384)) for record in (small, big)]
    await RedisSink(redis, SHARD, archived=True).send(entries)
    store = LocalStore(tmp_path)
    await archive(redis, store)
    kept = Archive(lambda: store)
    assert [row.data for row in await asyncio.to_thread(lambda: list(kept.rows(Kind.INTERACTION)))] == [
        encode(small),
        encode(big),
    ]
    assert [one.record async for one in streams.interactions(redis, SHARD, kept).after()] == [small, big]


async def test_a_damaged_one_is_passed_over_and_counted(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    good = interaction()
    damaged = Entry(Kind.INTERACTION, packed(encode(large()), 16_384)[:-9])
    await RedisSink(redis, SHARD, archived=True).send([damaged, Entry(Kind.INTERACTION, encode(good))])
    reader = streams.interactions(redis, SHARD)
    assert [one.record for one in await reader.last(5)] == [good]
    assert reader.bad == 1
    store = LocalStore(tmp_path)
    await archive(redis, store)
    again = streams.interactions(redis, SHARD, Archive(lambda: store))
    assert [one.record async for one in again.after()] == [good]
    assert again.bad == 1
