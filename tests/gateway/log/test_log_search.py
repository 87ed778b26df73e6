"""Search over streams and archive on a real Redis."""

from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from gateway.log import search, streams
from gateway.log.archive.reader import Archive
from gateway.log.keys import archived_key, interactions_key
from gateway.log.query import Query
from gateway.log.records import SCHEMA_VERSION, Interaction, encode
from gateway.log.streams import CLOCK_SKEW_S
from tests.gateway.log.archive.archiving import archive, archive_in, ids, send, store_in
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD, interaction, thumb


def spoken(text: str, **changes: Any) -> Interaction:
    return interaction(messages=[{"role": "user", "content": text}], **changes)


async def newest(redis: Redis, its: Archive | None, before: str | None = None, page: int = 2) -> list[str]:
    reader = streams.interactions(redis, SHARD, its)
    return [logged.record.id async for logged in reader.newest(before, page=page)]


async def test_stream_and_archive_are_one_newest_first(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    records = [interaction() for _ in range(9)]
    await send(redis, *records[:3])
    await archive(redis, store_in(tmp_path))
    await send(redis, *records[3:6])
    await archive(redis, store_in(tmp_path))
    await send(redis, *records[6:])
    assert await newest(redis, archive_in(tmp_path)) == ids(records)[::-1]
    assert await newest(redis, None) == ids(records[6:])[::-1]


async def test_from_any_place_on_nothing_is_missed_or_doubled(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    records = [interaction() for _ in range(7)]
    await send(redis, *records[:4], records[1])
    await archive(redis, store_in(tmp_path))
    await send(redis, *records[4:])
    its = archive_in(tmp_path)
    reader = streams.interactions(redis, SHARD, its)
    logged = [one async for one in reader.newest(page=1)]
    expected = [one.record.id for one in logged]
    assert sorted(expected) == sorted(ids(records))
    for place, one in enumerate(logged):
        rest = await newest(redis, its, one.entry)
        # What was logged twice is found where it was logged last; begun behind that, where it was logged first.
        assert [identifier for identifier in rest if identifier != records[1].id] == [
            identifier for identifier in expected[place + 1 :] if identifier != records[1].id
        ]


async def test_what_redis_has_again_after_it_was_archived_comes_once(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    """As after a failover to a replica that was behind: old entries are back, others are in the archive alone."""
    records = [interaction() for _ in range(6)]
    await send(redis, *records)
    held: Any = await redis.xrange(interactions_key(SHARD))
    entries = [entry for entry, _ in held]
    await archive(redis, store_in(tmp_path))
    for entry, record in list(zip(entries, records, strict=True))[:3]:
        await redis.execute_command(  # type: ignore[no-untyped-call]
            "XADD", "back", entry, "v", SCHEMA_VERSION, "d", encode(record)
        )
    await redis.rename("back", interactions_key(SHARD))
    assert await redis.exists(archived_key(SHARD))
    its = archive_in(tmp_path)
    assert await newest(redis, its) == ids(records)[::-1]
    assert await newest(redis, its, entries[4].decode()) == ids(records[:4])[::-1]


async def test_what_matches_is_found_with_its_votes_in_both(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    old, new = spoken("The old needle"), spoken("A new needle")
    await send(redis, old, spoken("hay"), thumb(old.id, False))
    await archive(redis, store_in(tmp_path))
    await send(redis, spoken("hay"), new, late := thumb(old.id, True, user="bob", comment="Fine needle."))
    looked: list[int] = []
    its = archive_in(tmp_path)
    found = await search.first(redis, SHARD, its, Query(text="needle"), 10, looked.append)
    assert [one.record.id for one in found] == [new.id, old.id]
    assert [vote.value for vote in found[1].votes] == [False, True]
    assert sum(looked) == 4
    said = await search.first(redis, SHARD, its, Query(text="fine"), 10)
    assert [(one.record.id, one.votes[-1].id) for one in said] == [(old.id, late.id)]
    down = await search.first(redis, SHARD, its, Query(feedback="down"), 10)
    assert [one.record.id for one in down] == [old.id]
    none = await search.first(redis, SHARD, its, Query(feedback="none"), 1)
    assert [one.record.id for one in none] == [new.id]


async def test_it_ends_where_nothing_can_match_any_more(redis_server: RedisServer, redis: Redis) -> None:
    since = datetime(2027, 3, 1, tzinfo=UTC)
    at = since.timestamp()
    for made, logged in ((at - 9000, at - 2 * CLOCK_SKEW_S), (at - 5, at - 5), (at, at), (at - 1, at + 100)):
        record = interaction(created=made)
        await redis.xadd(
            interactions_key(SHARD), {"v": SCHEMA_VERSION, "d": encode(record)}, id=f"{int(logged * 1000)}-1"
        )
    steps = [step async for step in search.search(redis, SHARD, None, Query(since=since), page=1, step=1)]
    assert [len(step.found) for step in steps] == [0, 1, 0]


async def test_a_gateway_looks_no_longer_than_it_may(redis_server: RedisServer, redis: Redis) -> None:
    first = spoken("needle")
    await send(redis, first, *[interaction() for _ in range(250)])
    ticks = count()
    before: str | None = None
    pages: list[list[str]] = []
    while True:
        found, before = await search.some(
            redis, SHARD, None, Query(text="needle"), 5, before, seconds=1.0, clock=lambda: float(next(ticks))
        )
        pages.append([one.record.id for one in found])
        if before is None:
            break
    assert pages == [[], [], [first.id], []]


async def test_a_page_is_no_longer_than_its_limit(redis_server: RedisServer, redis: Redis) -> None:
    await send(redis, *(records := [interaction() for _ in range(5)]))
    found, before = await search.some(redis, SHARD, None, Query(), 2, None, seconds=9.0, clock=lambda: 0.0)
    assert ids([one.record for one in found]) == [records[4].id, records[3].id]
    found, before = await search.some(redis, SHARD, None, Query(), 9, before, seconds=9.0, clock=lambda: 0.0)
    assert (ids([one.record for one in found]), before) == (ids(records[:3])[::-1], None)
