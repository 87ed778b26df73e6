"""Search: the interactions that a query means, with the votes on them, newest first, stream and archive as one."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.archive.reader import Archive
from gateway.log.query import Query
from gateway.log.records import Feedback, Interaction
from gateway.log.streams import CLOCK_SKEW_S, PAGE, Logged
from gateway.log.watermarks import entry_order

# Votes on archived answers cost a look at the files of each day.
STEP = 1000
# A page is decoded in one go on the event loop.
_SMALL_PAGE = 20
_SMALL_STEP = 100


@dataclass(frozen=True, slots=True)
class Found:
    """entry: of the stream, where reading on begins. votes: those that stand, oldest first."""

    entry: str
    record: Interaction
    votes: list[Feedback]


@dataclass(frozen=True, slots=True)
class Step:
    """Some were looked through. last: its last entry. looked: how many there were. found: of them, what matches."""

    last: str
    looked: int
    found: list[Found]


async def search(
    redis: Redis,
    shard: str,
    archive: Archive | None,
    query: Query,
    *,
    before: str | None = None,
    page: int = PAGE,
    step: int = STEP,
) -> AsyncGenerator[Step, None]:
    """Step by step, until all that can match was looked at. before: only what comes before this entry.

    page: how many are read at once. step: how many are looked through together.

    Raises redis.exceptions.RedisError, OSError and ConfigError where the archive cannot be read.
    """
    reader = streams.interactions(redis, shard, archive)
    logged: list[Logged[Interaction]] = []
    async for one in reader.newest(before, query.day, page):
        # It was made before it was logged, save for the difference of two clocks.
        if query.over(entry_order(one.entry)[0] / 1000 + CLOCK_SKEW_S):
            break
        logged.append(one)
        if len(logged) == step:
            yield await _step(redis, shard, archive, query, logged)
            logged = []
    if logged:
        yield await _step(redis, shard, archive, query, logged)


async def first(
    redis: Redis,
    shard: str,
    archive: Archive | None,
    query: Query,
    limit: int,
    on_progress: Callable[[int], None] = lambda looked: None,
) -> list[Found]:
    """The newest `limit`. on_progress: told how many more were looked at. Raises as `search` does."""
    found: list[Found] = []
    async with aclosing(search(redis, shard, archive, query)) as steps:
        async for step in steps:
            on_progress(step.looked)
            found += step.found
            if len(found) >= limit:
                break
    return found[:limit]


async def some(
    redis: Redis,
    shard: str,
    archive: Archive | None,
    query: Query,
    limit: int,
    before: str | None,
    *,
    seconds: float,
    clock: Callable[[], float],
) -> tuple[list[Found], str | None]:
    """At most `limit`, and the entry before which to go on; None: that was all.

    For a gateway: in small steps, so that requests do not wait, and no longer than `seconds` by the clock. Raises as
    `search` does.
    """
    end = clock() + seconds
    found: list[Found] = []
    every = search(redis, shard, archive, query, before=before, page=_SMALL_PAGE, step=_SMALL_STEP)
    async with aclosing(every) as steps:
        async for step in steps:
            found += step.found
            if len(found) >= limit:
                return found[:limit], found[limit - 1].entry
            if clock() >= end:
                return found, step.last
    return found, None


async def _step(
    redis: Redis, shard: str, archive: Archive | None, query: Query, logged: list[Logged[Interaction]]
) -> Step:
    taken = [one for one in logged if query.takes(one.record)]
    ids = [one.record.id for one in taken]
    votes = await streams.votes_of_all(redis, shard, ids, archive) if taken else []
    found = [
        Found(one.entry, one.record, its)
        for one, its in zip(taken, votes, strict=True)
        if query.matches(one.record, its)
    ]
    return Step(logged[-1].entry, len(logged), found)
