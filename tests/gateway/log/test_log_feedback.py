import signal
import time
from pathlib import Path

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.log.feedback import FeedbackStore, Votes
from gateway.log.frames import Entry, Kind
from gateway.log.records import encode
from gateway.log.sink import RedisSink
from gateway.log.writer import RecordLog
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD, settings, thumb

ABOUT = "chatcmpl-01990000-0000-7000-8000-000000000001"


async def test_a_vote_is_seen_at_once_and_after_it_was_shipped(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    log = RecordLog(settings(), tmp_path, redis, CollectorRegistry())
    await log.start()
    first, second = thumb(ABOUT), thumb(ABOUT, value=False)
    log.accept(first)
    assert await log.votes(ABOUT) == Votes([first])
    assert await log.drained(5)
    assert await log.votes(ABOUT) == Votes([first])
    log.accept(second)
    assert await log.votes(ABOUT) == Votes([second])
    log.accept(thumb(ABOUT, retracted=True))
    assert await log.votes(ABOUT) == Votes([])
    assert await log.drained(5)
    assert await log.votes(ABOUT) == Votes([])
    await log.close(1)


async def test_votes_of_several_people_stand_beside_each_other(redis_server: RedisServer, redis: Redis) -> None:
    store = FeedbackStore(redis, SHARD)
    stored, mine = thumb(ABOUT, user="ada"), thumb(ABOUT, user="bob")
    await RedisSink(redis, SHARD).send([Entry(Kind.FEEDBACK, encode(stored))])
    store.remember(mine)
    assert await store.of(ABOUT) == Votes([stored, mine])
    assert await store.of("chatcmpl-other") == Votes([])


async def test_an_older_vote_in_memory_does_not_hide_a_newer_one_in_redis(
    redis_server: RedisServer, redis: Redis
) -> None:
    store = FeedbackStore(redis, SHARD)
    older, newer = thumb(ABOUT, value=True), thumb(ABOUT, value=False)
    await RedisSink(redis, SHARD).send([Entry(Kind.FEEDBACK, encode(newer))])
    store.remember(older)
    assert await store.of(ABOUT) == Votes([newer])


async def test_without_redis_own_votes_are_shown_as_partial(stopped_redis: RedisServer, redis: Redis) -> None:
    store = FeedbackStore(redis, SHARD)
    vote = thumb(ABOUT)
    store.remember(vote)
    assert await store.of(ABOUT) == Votes([vote], partial=True)


async def test_a_redis_that_does_not_answer_is_not_waited_for_long(redis_server: RedisServer, redis: Redis) -> None:
    store = FeedbackStore(redis, SHARD, timeout_s=0.2)
    redis_server.signal(signal.SIGSTOP)
    began = time.monotonic()
    assert await store.of(ABOUT) == Votes([], partial=True)
    assert time.monotonic() - began < 1.0


async def test_memory_is_bounded_and_shipped_votes_leave_it() -> None:
    store = FeedbackStore(None, SHARD, remembered=3)
    votes = [thumb(f"chatcmpl-{number}") for number in range(5)]
    for vote in votes:
        store.remember(vote)
    assert [bool((await store.of(vote.interaction)).feedback) for vote in votes] == [False, False, True, True, True]
    changed = thumb(votes[4].interaction)
    store.remember(changed)
    store.forget(votes)
    assert (await store.of(votes[3].interaction)).feedback == []
    assert (await store.of(votes[4].interaction)).feedback == [changed]


async def test_votes_are_whole_again_at_the_first_read_after_a_restart(
    stopped_redis: RedisServer, redis: Redis
) -> None:
    # With everysec a killed Redis may lose what it has just acknowledged, and here no shipper stands by to mend that.
    stopped_redis.start("--appendfsync", "always")
    store = FeedbackStore(redis, SHARD)
    vote = thumb(ABOUT)
    await RedisSink(redis, SHARD).send([Entry(Kind.FEEDBACK, encode(vote))])
    stopped_redis.kill()
    stopped_redis.start()
    assert await store.of(ABOUT) == Votes([vote])
