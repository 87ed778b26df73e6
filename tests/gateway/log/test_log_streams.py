import pytest
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.connection import without_password
from gateway.log.frames import Entry, Kind
from gateway.log.keys import interactions_key, votes_key
from gateway.log.records import Interaction, encode
from gateway.log.sink import RedisSink
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD, interaction, thumb


async def send(redis: Redis, *records: Interaction) -> None:
    await RedisSink(redis, SHARD).send([Entry(Kind.INTERACTION, encode(record)) for record in records])


async def test_bad_entries_are_passed_over_and_counted(
    redis_server: RedisServer, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    good, better = interaction(), interaction()
    await send(redis, good)
    key = interactions_key(SHARD)
    await redis.xadd(key, {"v": "1", "d": "{not json"})
    await redis.xadd(key, {"v": "1", "d": '{"id": 3}'})
    await redis.xadd(key, {"v": "99", "d": encode(good)})
    await redis.xadd(key, {"something": "else"})
    await redis.xadd(key, {"v": "one", "d": encode(good)})
    await send(redis, better)
    reader = streams.interactions(redis, SHARD)
    assert [one.record async for one in reader.after()] == [good, better]
    assert reader.bad == 5
    assert caplog.text.count("passed over") == 1
    newest = streams.interactions(redis, SHARD)
    assert [one.record for one in await newest.last(2)] == [good, better]


async def test_duplicates_are_read_once(redis_server: RedisServer, redis: Redis) -> None:
    records = [interaction() for _ in range(300)]
    await send(redis, *records, *records[:250])
    reader = streams.interactions(redis, SHARD)
    assert [one.record.id async for one in reader.after()] == [record.id for record in records]
    assert reader.duplicates == 250
    # From the end: what was sent last comes last, each once.
    last = await streams.interactions(redis, SHARD).last(260)
    assert len({one.record.id for one in last}) == 260


async def test_reading_goes_on_behind_an_entry(redis_server: RedisServer, redis: Redis) -> None:
    first, second = interaction(), interaction()
    await send(redis, first)
    reader = streams.interactions(redis, SHARD)
    (seen,) = [one async for one in reader.after()]
    await send(redis, second)
    assert [one.record async for one in reader.after(seen.entry)] == [second]


async def test_a_follower_sees_both_streams_and_only_what_is_new(redis_server: RedisServer, redis: Redis) -> None:
    old, new = interaction(), interaction()
    await send(redis, old)
    interactions, feedback = streams.interactions(redis, SHARD), streams.feedback(redis, SHARD)
    after = (await interactions.newest_entry(), await feedback.newest_entry())
    follower = streams.Follower(redis, SHARD, interactions=interactions, feedback=feedback, after=after)
    assert await follower.next(block_ms=1) == []
    vote = thumb(old.id)
    await RedisSink(redis, SHARD).send([Entry(Kind.FEEDBACK, encode(vote)), Entry(Kind.INTERACTION, encode(new))])
    assert await follower.next(block_ms=1000) == [new, vote]
    assert await follower.next(block_ms=1) == []


async def test_an_unreadable_vote_does_not_hide_the_others(redis_server: RedisServer, redis: Redis) -> None:
    vote = thumb("chatcmpl-1")
    await RedisSink(redis, SHARD).send([Entry(Kind.FEEDBACK, encode(vote))])
    await redis.hset(votes_key(SHARD, "chatcmpl-1"), "broken", "{")
    assert await streams.votes_of(redis, SHARD, "chatcmpl-1") == [vote]


async def test_all_keys_of_a_shard_lie_in_one_slot_of_a_cluster() -> None:
    assert {votes_key("7", "chatcmpl-1").split("}")[0], interactions_key("7").split("}")[0]} == {"bestow:{log-7"}


def test_an_address_is_shown_without_its_password() -> None:
    assert without_password("redis://user:secret@host:1/0?password=secret") == "redis://host:1/0"
