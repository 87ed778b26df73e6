"""The reading side: records out of the streams, for tools and for training.

Delivery is at least once, so readers de-duplicate by record id. An entry that cannot be read (not JSON, another
schema version) is passed over, counted and warned about once; it never stops a reader.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import msgspec
from redis.asyncio import Redis

from gateway.log.keys import feedback_key, interactions_key, shadow_key, votes_key
from gateway.log.records import (
    SCHEMA_VERSION,
    Feedback,
    Interaction,
    ShadowScores,
    decode_feedback,
    decode_interaction,
    decode_shadow,
)
from gateway.log.votes import merge, standing

logger = logging.getLogger(__name__)

PAGE = 200
BLOCK_MS = 1000
REMEMBERED = 1_000_000

R = TypeVar("R", Interaction, Feedback, ShadowScores)


class Logged(msgspec.Struct, Generic[R], frozen=True):
    """A record and the stream entry it was first found in; entry ids begin with Redis's time in ms."""

    entry: str
    record: R


class StreamReader(Generic[R]):
    """Reads one stream, each record once. All methods raise redis.exceptions.RedisError.

    bad: entries passed over. duplicates: entries whose record was seen before. A reader remembers the last
    `remembered` record ids, so use one reader for reading on where another call ended.
    """

    def __init__(self, redis: Redis, key: str, decode: Callable[[bytes], R], *, remembered: int = REMEMBERED) -> None:
        self._redis = redis
        self._key = key
        self._decode: Callable[[bytes], R] = decode
        self._remembered = remembered
        self._seen: dict[str, None] = {}
        self.bad = 0
        self.duplicates = 0

    async def newest_entry(self) -> str:
        """Where to follow from in order to see only what comes later; "0-0" on an empty stream."""
        reply: Any = await self._redis.xrevrange(self._key, count=1)
        return _text(reply[0][0]) if reply else "0-0"

    async def length(self) -> int:
        """Entries, duplicates included."""
        return int(await self._redis.xlen(self._key))

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
        return found[::-1]

    async def after(self, entry: str = "0-0") -> AsyncIterator[Logged[R]]:
        """All records behind `entry`, oldest first, through the stream's present end."""
        while True:
            page: Any = await self._redis.xrange(self._key, min="(" + entry, count=PAGE)
            if not page:
                return
            for logged in self.read_page(page):
                yield logged
            entry = _text(page[-1][0])

    def read_page(self, page: Sequence[Any]) -> list[Logged[R]]:
        """The new records among entries as Redis gave them."""
        return [logged for logged in (self._read(identifier, fields) for identifier, fields in page) if logged]

    def _read(self, identifier: bytes | str, fields: dict[Any, Any] | None) -> Logged[R] | None:
        try:
            version = int((fields or {})[b"v"])
            if version != SCHEMA_VERSION:
                raise ValueError(f"it has schema version {version}, and this program reads {SCHEMA_VERSION}")
            record = self._decode((fields or {})[b"d"])
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            self._passed_over(_text(identifier), error)
            return None
        if record.id in self._seen:
            self.duplicates += 1
            return None
        self._seen[record.id] = None
        if len(self._seen) > self._remembered:
            del self._seen[next(iter(self._seen))]
        return Logged(_text(identifier), record)

    def _passed_over(self, identifier: str, error: Exception) -> None:
        self.bad += 1
        if self.bad == 1:
            logger.warning("Entry %s of %s is passed over, and others like it: %s.", identifier, self._key, error)


def interactions(redis: Redis, shard: str) -> StreamReader[Interaction]:
    return StreamReader(redis, interactions_key(shard), decode_interaction)


def shadow(redis: Redis, shard: str) -> StreamReader[ShadowScores]:
    return StreamReader(redis, shadow_key(shard), decode_shadow)


def feedback(redis: Redis, shard: str) -> StreamReader[Feedback]:
    return StreamReader(redis, feedback_key(shard), decode_feedback)


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


async def latest_votes(redis: Redis, shard: str, interaction_id: str) -> list[Feedback]:
    """The latest record of each vote, retractions included. Raises redis.exceptions.RedisError."""
    (votes,) = await _votes(redis, shard, [interaction_id])
    return votes


async def votes_of(redis: Redis, shard: str, interaction_id: str) -> list[Feedback]:
    """The current votes on an interaction, oldest first. Raises redis.exceptions.RedisError."""
    return standing(await latest_votes(redis, shard, interaction_id))


async def votes_of_all(redis: Redis, shard: str, interaction_ids: Sequence[str]) -> list[list[Feedback]]:
    """`votes_of` for many interactions in one round trip."""
    return [standing(votes) for votes in await _votes(redis, shard, interaction_ids)]


async def _votes(redis: Redis, shard: str, interaction_ids: Sequence[str]) -> list[list[Feedback]]:
    pipeline = redis.pipeline(transaction=False)
    for identifier in interaction_ids:
        pipeline.hgetall(votes_key(shard, identifier))
    replies = await cast("Awaitable[list[dict[bytes, bytes]]]", pipeline.execute())
    return [list(merge(_decodable(reply.values())).values()) for reply in replies]


def _decodable(values: Any) -> list[Feedback]:
    votes = []
    for value in values:
        try:
            votes.append(decode_feedback(value))
        except msgspec.DecodeError as error:
            logger.warning("A vote in Redis is passed over: %s.", error)
    return votes


def _pairs(reply: Any) -> list[tuple[bytes, Any]]:
    """XREAD answers a list of pairs (RESP2), a mapping (RESP3), or None after a time-out."""
    if isinstance(reply, dict):
        return [(key, page[0] if page and isinstance(page[0], list) else page) for key, page in reply.items()]
    return [(key, page) for key, page in reply or []]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
