"""What the streams hold, and how much of it is to be moved. `held` asks Redis; the rest is pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from gateway.config import ArchiveConfig
from gateway.log.frames import Kind
from gateway.log.keys import STREAM_NAMES, housekeeping_key, stream_key
from gateway.log.watermarks import entry_order

HOUSEKEEPING_S = 3600.0


@dataclass(frozen=True, slots=True)
class Held:
    """One stream: entries, the memory it takes, and when its oldest entry came (ms since 1970; None: it is empty)."""

    kind: Kind
    entries: int
    bytes: int
    oldest_ms: int | None


async def held(redis: Redis, shard: str) -> list[Held]:
    """Raises redis.exceptions.RedisError."""
    pipeline = redis.pipeline(transaction=False)
    for kind in STREAM_NAMES:
        key = stream_key(shard, kind)
        pipeline.xlen(key)
        pipeline.memory_usage(key)
        pipeline.xrange(key, count=1)
    replies: list[Any] = await pipeline.execute()
    found = []
    for kind, entries, size, first in zip(STREAM_NAMES, replies[::3], replies[1::3], replies[2::3], strict=True):
        oldest = entry_order(first[0][0].decode())[0] if first else None
        found.append(Held(kind, entries, size or 0, oldest))
    return found


async def housekeeping_due(redis: Redis, shard: str, now: float) -> bool:
    """Whether the archive is to be put in order. Raises redis.exceptions.RedisError."""
    done: Any = await redis.get(housekeeping_key(shard))
    try:
        return abs(now - float(done or 0)) >= HOUSEKEEPING_S
    except ValueError:
        return True


async def housekeeping_done(redis: Redis, shard: str, now: float) -> None:
    await redis.set(housekeeping_key(shard), now)


def until_ms(stream: Held, settings: ArchiveConfig, now: float) -> int | None:
    """Entries that came before this are old enough to be moved; None: none are.

    All that are half as old go with the first, so that parts are few.
    """
    if stream.oldest_ms is None or now - stream.oldest_ms / 1000 < settings.after_s:
        return None
    return int((now - settings.after_s / 2) * 1000)


def largest_over(streams: Sequence[Held], limit: int) -> Kind | None:
    """The stream to move from, where all together take more memory than `limit`."""
    filled = [stream for stream in streams if stream.entries]
    if not filled or sum(stream.bytes for stream in filled) <= limit:
        return None
    return max(filled, key=lambda stream: stream.bytes).kind


def is_due(streams: Sequence[Held], settings: ArchiveConfig, now: float) -> bool:
    old = any(until_ms(stream, settings, now) is not None for stream in streams)
    return old or largest_over(streams, settings.keep_bytes) is not None


def oldest_s(streams: Sequence[Held], now: float) -> float:
    """Age of the oldest entry."""
    return max((now - stream.oldest_ms / 1000 for stream in streams if stream.oldest_ms is not None), default=0.0)
