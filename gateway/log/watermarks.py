"""How far the archive has come, as the archiver tells it in Redis.

A watermark (run, stream) -> id says: of the entries that the stream had while Redis ran under this run id, all up to
`id` are in the archive. The run is part of it because a Redis that restarts may have lost its tail: an entry that it
gave out and lost was never archived, though later entries, with larger ids, are.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.log.frames import Kind
from gateway.log.keys import STREAM_NAMES, archived_key, stream_key

START = "0-0"


def entry_order(entry: str) -> tuple[int, int]:
    """Entry ids in the order in which Redis gives them."""
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number or 0)


class Watermarks(msgspec.Struct, frozen=True):
    """By run id and stream key."""

    entries: Mapping[tuple[str, str], str] = {}

    def cover(self, run: str, stream: str, entry: str) -> bool:
        """Whether an entry that the stream got in that run is in the archive."""
        reached = self.entries.get((run, stream))
        return reached is not None and entry_order(entry) <= entry_order(reached)

    def of(self, stream: str) -> str | None:
        """The furthest that a stream was archived; None: never, as far as Redis knows."""
        reached = [entry for (_, key), entry in self.entries.items() if key == stream]
        return max(reached, key=entry_order, default=None)


async def read_watermarks(redis: Redis, shard: str) -> Watermarks:
    """Raises redis.exceptions.RedisError."""
    fields: Any = await redis.hgetall(archived_key(shard))
    return parse_watermarks(fields, shard)


def parse_watermarks(fields: Mapping[bytes, bytes], shard: str) -> Watermarks:
    """From the hash `archived_key`."""
    streams = {kind.name.encode(): stream_key(shard, kind) for kind in STREAM_NAMES}
    found = {}
    for field, entry in fields.items():
        run, _, kind = field.rpartition(b"/")
        if kind in streams:
            found[run.decode(), streams[kind]] = entry.decode()
    return Watermarks(found)


def watermark_field(run: str, kind: Kind) -> str:
    return f"{run}/{kind.name}"
