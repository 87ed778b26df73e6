"""The reading side: records out of the streams and of the archive, as if they were one, for tools and for training.

With an `Archive`, a reader goes on where a stream is trimmed. Files are read in a thread, and what they raise (OSError,
ConfigError) is raised.

Delivery is at least once, so readers de-duplicate by record id. Every schema version up to ours is read as ours
(`migrations`). An entry that cannot be read (not JSON, a newer version) is passed over, counted and warned about once;
it never stops a reader.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar, cast

import msgspec
from redis.asyncio import Redis

from gateway.ids import unix_seconds
from gateway.log.archive.parts import Row, row_of
from gateway.log.archive.reader import Archive, Days, every_day
from gateway.log.frames import Kind
from gateway.log.keys import archived_key, feedback_key, interactions_key, stream_key, votes_key
from gateway.log.records import (
    Feedback,
    Interaction,
    ShadowScores,
    decode_feedback,
    decode_interaction,
    decode_shadow,
    decode_vote,
)
from gateway.log.votes import merge, standing
from gateway.log.watermarks import entry_order, parse_watermarks

logger = logging.getLogger(__name__)

PAGE = 200
BLOCK_MS = 1000
REMEMBERED = 1_000_000
CLOCK_SKEW_S = 60.0

R = TypeVar("R", Interaction, Feedback, ShadowScores)


class Logged(msgspec.Struct, Generic[R], frozen=True):
    """A record and the stream entry it was first found in; entry ids begin with Redis's time in ms."""

    entry: str
    record: R


class StreamReader(Generic[R]):
    """Reads one stream, each record once. All methods raise redis.exceptions.RedisError.

    archive: where its older entries are; None: they are not looked for.
    bad: entries passed over. duplicates: entries whose record was seen before. A reader remembers the last
    `remembered` record ids, so use one reader for reading on where another call ended.
    """

    def __init__(
        self,
        redis: Redis,
        shard: str,
        kind: Kind,
        decode: Callable[[bytes, int], R],
        archive: Archive | None = None,
        *,
        remembered: int = REMEMBERED,
    ) -> None:
        self._redis = redis
        self._shard = shard
        self._kind = kind
        self._key = stream_key(shard, kind)
        self._decode: Callable[[bytes, int], R] = decode
        self._archive = archive
        self._remembered = remembered
        self._seen: dict[str, None] = {}
        self.bad = 0
        self.duplicates = 0

    async def newest_entry(self) -> str:
        """Where to follow from in order to see only what comes later; "0-0" on an empty stream."""
        reply: Any = await self._redis.xrevrange(self._key, count=1)
        return _text(reply[0][0]) if reply else "0-0"

    async def length(self) -> int:
        """Entries in Redis, duplicates included."""
        return int(await self._redis.xlen(self._key))

    async def archived(self, days: Days = every_day) -> int:
        """Entries in the archive, duplicates included; see `after`."""
        archive = self._archive
        if archive is None:
            return 0
        return await archive.in_thread(lambda: archive.total(self._kind, days))

    async def last(self, count: int) -> list[Logged[R]]:
        """The newest `count` records, oldest first."""
        found: list[Logged[R]] = []
        end = "+"
        while len(found) < count:
            page: Any = await self._redis.xrevrange(self._key, max=end, count=max(PAGE // 4, min(count, PAGE)))
            for identifier, fields in page:
                logged = self._read(identifier, fields)
                if logged is not None and len(found) < count:
                    found.append(logged)
            if not page:
                break
            end = "(" + _text(page[-1][0])
        # What was moved meanwhile was in the archive before it left the stream.
        if len(found) < count and self._archive is not None:
            rows = self._archive.rows(self._kind, newest_first=True)
            async for logged in self._archived(self._archive, rows):
                found.append(logged)
                if len(found) == count:
                    break
        return found[::-1]

    async def find(self, interaction_id: str) -> Logged[R] | None:
        """The first record that is about an interaction."""
        _, reached = await self._page_back("+", 1)
        # A look into the archive costs less than to go through the stream in vain.
        if reached is not None and _may_be_archived(interaction_id, reached):
            archived = await self._find_archived(interaction_id)
            if archived is not None:
                return archived
        # It cannot have been logged before it was made, save for the difference of two clocks.
        start = f"{max(0, int((unix_seconds(interaction_id) - CLOCK_SKEW_S) * 1000))}-0"
        async for logged in self._in_stream(start):
            if interaction_id in (logged.record.id, getattr(logged.record, "interaction", None)):
                return logged
        return await self._find_archived(interaction_id)

    async def _find_archived(self, interaction_id: str) -> Logged[R] | None:
        archive = self._archive
        if archive is None:
            return None
        for row in await archive.in_thread(lambda: archive.about(self._kind, [interaction_id])):
            if (found := self._read_data(row.entry, row.version, row.data)) is not None:
                return found
        return None

    async def after(self, entry: str = "0-0", days: Days = every_day) -> AsyncIterator[Logged[R]]:
        """All records behind `entry`, oldest first, through the stream's present end.

        days: of the archive, only those about interactions of these (UTC).
        """
        asked = self._archive is None
        while True:
            page, reached = await self._page(entry)
            if self._archive is not None and (not asked or (reached and entry_order(reached) > entry_order(entry))):
                asked = True
                rows = self._archive.rows(self._kind, after=entry, days=days)
                async for logged in self._archived(self._archive, rows):
                    yield logged
                # Behind the watermark the archive may have gaps, and the stream may have what is in it too.
                entry = max(entry, reached or entry, key=entry_order)
                continue
            if not page:
                return
            for logged in self.read_page(page):
                yield logged
            entry = _text(page[-1][0])

    async def newest(
        self, before: str | None = None, days: Days = every_day, page: int = PAGE
    ) -> AsyncIterator[Logged[R]]:
        """All records, newest first; those before an entry. days: see `after`. page: how many are read at once."""
        end = "+" if before is None else f"({before}"
        while True:
            entries, reached = await self._page_back(end, page)
            archived = entry_order(reached) if reached and self._archive is not None else (-1, 0)
            own = [(identifier, fields) for identifier, fields in entries if entry_order(_text(identifier)) > archived]
            for logged in self.read_page(own):
                yield logged
            if len(own) < len(entries) or not entries:
                break
            end = "(" + _text(entries[-1][0])
        # Up to the watermark the archive has all, and only it has the right order where Redis lost some.
        if self._archive is not None:
            rows = self._archive.rows(self._kind, before=before, newest_first=True, days=days)
            async for logged in self._archived(self._archive, rows, page):
                yield logged

    async def _in_stream(self, entry: str) -> AsyncIterator[Logged[R]]:
        while page := (await self._page(entry))[0]:
            for logged in self.read_page(page):
                yield logged
            entry = _text(page[-1][0])

    async def _page(self, entry: str) -> tuple[Any, str | None]:
        """Entries of the stream behind one, and how far it is archived, both at the same moment."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.xrange(self._key, min="(" + entry, count=PAGE)
        return await self._page_of(pipeline)

    async def _page_back(self, end: str, count: int) -> tuple[Any, str | None]:
        """The same, of those up to an end, newest first."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.xrevrange(self._key, max=end, count=count)
        return await self._page_of(pipeline)

    async def _page_of(self, pipeline: Any) -> tuple[Any, str | None]:
        pipeline.hgetall(archived_key(self._shard))
        page, fields = await cast("Awaitable[list[Any]]", pipeline.execute())
        return page, parse_watermarks(fields, self._shard).of(self._key)

    async def _archived(self, archive: Archive, rows: Iterator[Row], size: int = PAGE) -> AsyncIterator[Logged[R]]:
        """The new records among rows of the archive."""
        while page := await archive.in_thread(lambda: list(islice(rows, size))):
            for row in page:
                if (logged := self._read_data(row.entry, row.version, row.data)) is not None:
                    yield logged

    def read_page(self, page: Sequence[Any]) -> list[Logged[R]]:
        """The new records among entries as Redis gave them."""
        return [logged for logged in (self._read(identifier, fields) for identifier, fields in page) if logged]

    def _read(self, identifier: bytes | str, fields: dict[Any, Any] | None) -> Logged[R] | None:
        row = row_of(_text(identifier), fields or {})
        return self._read_data(row.entry, row.version, row.data)

    def _read_data(self, entry: str, version: int, data: bytes) -> Logged[R] | None:
        try:
            record = self._decode(data, version)
        except (UnicodeDecodeError, msgspec.DecodeError) as error:
            self._passed_over(entry, error)
            return None
        if record.id in self._seen:
            self.duplicates += 1
            return None
        self._seen[record.id] = None
        if len(self._seen) > self._remembered:
            del self._seen[next(iter(self._seen))]
        return Logged(entry, record)

    def _passed_over(self, identifier: str, error: Exception) -> None:
        self.bad += 1
        if self.bad == 1:
            logger.warning("Entry %s of %s is passed over, and others like it: %s.", identifier, self._key, error)


def interactions(redis: Redis, shard: str, archive: Archive | None = None) -> StreamReader[Interaction]:
    return StreamReader(redis, shard, Kind.INTERACTION, decode_interaction, archive)


def shadow(redis: Redis, shard: str, archive: Archive | None = None) -> StreamReader[ShadowScores]:
    return StreamReader(redis, shard, Kind.SHADOW, decode_shadow, archive)


def feedback(redis: Redis, shard: str, archive: Archive | None = None) -> StreamReader[Feedback]:
    return StreamReader(redis, shard, Kind.FEEDBACK, decode_feedback, archive)


class Follower:
    """New interactions and feedback of one shard as they come, each once.

    Begins behind the entries given. `next` raises redis.exceptions.RedisError and can be called again after it.
    """

    def __init__(
        self,
        redis: Redis,
        shard: str,
        *,
        interactions: StreamReader[Interaction],
        feedback: StreamReader[Feedback],
        after: tuple[str, str],
    ) -> None:
        self._redis = redis
        self._readers: dict[str, StreamReader[Interaction] | StreamReader[Feedback]] = {
            interactions_key(shard): interactions,
            feedback_key(shard): feedback,
        }
        self._positions = dict(zip(self._readers, after, strict=True))

    async def next(self, block_ms: int = BLOCK_MS) -> list[Interaction | Feedback]:
        """What has arrived, interactions first; empty after `block_ms` without any."""
        positions: dict[Any, Any] = dict(self._positions)
        reply: Any = await self._redis.xread(positions, count=PAGE, block=block_ms)
        pages = {_text(key): page for key, page in _pairs(reply)}
        arrived: list[Interaction | Feedback] = []
        for key, reader in self._readers.items():
            page = pages.get(key, [])
            arrived += [logged.record for logged in reader.read_page(page)]
            if page:
                self._positions[key] = _text(page[-1][0])
        return arrived


async def latest_votes(redis: Redis, shard: str, interaction_id: str, archive: Archive | None = None) -> list[Feedback]:
    """The latest record of each vote, retractions included. Raises redis.exceptions.RedisError."""
    (votes,) = await _votes(redis, shard, [interaction_id], archive)
    return votes


async def votes_of(redis: Redis, shard: str, interaction_id: str, archive: Archive | None = None) -> list[Feedback]:
    """The current votes on an interaction, oldest first. Raises redis.exceptions.RedisError."""
    return standing(await latest_votes(redis, shard, interaction_id, archive))


async def votes_of_all(
    redis: Redis, shard: str, interaction_ids: Sequence[str], archive: Archive | None = None
) -> list[list[Feedback]]:
    """`votes_of` for many interactions in one round trip, and one look into the archive."""
    return [standing(votes) for votes in await _votes(redis, shard, interaction_ids, archive)]


async def votes_in_redis(
    redis: Redis, shard: str, interaction_ids: Sequence[str]
) -> tuple[list[list[Feedback]], str | None]:
    """The votes on each interaction that are not archived, and how far feedback is archived (None: Redis cannot say).

    A vote leaves Redis after it has come to the archive: so ask here first, and `votes_in_archive` then.
    """
    pipeline = redis.pipeline(transaction=False)
    for identifier in interaction_ids:
        pipeline.hgetall(votes_key(shard, identifier))
    pipeline.hgetall(archived_key(shard))
    *hashes, fields = await cast("Awaitable[list[dict[bytes, bytes]]]", pipeline.execute())
    reached = parse_watermarks(fields, shard).of(feedback_key(shard))
    return [_decodable(votes.values()) for votes in hashes], reached


async def votes_in_archive(
    archive: Archive, interaction_ids: Sequence[str], reached: str | None
) -> dict[str, list[Feedback]]:
    """All archived votes on interactions. reached: as `votes_in_redis` says it."""
    asked = [identifier for identifier in interaction_ids if _may_be_archived(identifier, reached)]
    found: dict[str, list[Feedback]] = {}
    rows = await archive.in_thread(lambda: archive.about(Kind.FEEDBACK, asked)) if asked else []
    for row in rows:
        try:
            vote = decode_feedback(row.data, row.version)
        except msgspec.DecodeError as error:
            logger.warning("An archived vote is passed over: %s.", error)
            continue
        found.setdefault(vote.interaction, []).append(vote)
    return found


async def _votes(
    redis: Redis, shard: str, interaction_ids: Sequence[str], archive: Archive | None
) -> list[list[Feedback]]:
    held, reached = await votes_in_redis(redis, shard, interaction_ids)
    archived = await votes_in_archive(archive, interaction_ids, reached) if archive else {}
    return [
        list(merge(archived.get(identifier, []), votes).values())
        for identifier, votes in zip(interaction_ids, held, strict=True)
    ]


def _may_be_archived(interaction_id: str, reached: str | None) -> bool:
    """Whether votes on an answer may be in the archive. reached: how far feedback is; None: Redis does not know."""
    try:
        made = unix_seconds(interaction_id)
    except ValueError:
        return False
    return reached is None or (made - CLOCK_SKEW_S) * 1000 <= entry_order(reached)[0]


def _decodable(values: Iterable[bytes]) -> list[Feedback]:
    votes = []
    for value in values:
        try:
            votes.append(decode_vote(value))
        except msgspec.DecodeError as error:
            logger.warning("A vote is passed over: %s.", error)
    return votes


def _pairs(reply: Any) -> list[tuple[bytes, Any]]:
    """XREAD answers a list of pairs (RESP2), a mapping (RESP3), or None after a time-out."""
    if isinstance(reply, dict):
        return [(key, page[0] if page and isinstance(page[0], list) else page) for key, page in reply.items()]
    return [(key, page) for key, page in reply or []]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
