"""The audit log in the archive: what Redis has of it, copied, so that neither can take it along when it is lost.

`audit/shard=<shard>/<first>-<last>.jsonl`: the entries of the stream between these two ids, an entry a line. Copied and
not moved: nothing is trimmed off the stream. Writing the same again after a crash overwrites or repeats, and readers
de-duplicate by the entry's id.
"""

import asyncio
import re
from collections.abc import Iterable

from redis.asyncio import Redis

from gateway.log import audit
from gateway.log.archive.store import Store
from gateway.log.audit import AuditEntry
from gateway.log.watermarks import START, entry_order

FOLDER = "audit/"
_FILE_ENTRIES = 10_000
_NAME = re.compile(r"audit/shard=[^/]+/\d+-\d+-(?P<last>\d+-\d+)\.jsonl")


async def copy(redis: Redis, shard: str, store: Store) -> int:
    """Write what is new in the stream. How many entries that is. Raises redis.exceptions.RedisError, OSError."""
    newest = await audit.newest(redis, shard)
    if newest is None:
        return 0
    names = await asyncio.to_thread(store.list, f"{FOLDER}shard={shard}/")
    reached = max((_last(name) for name, _ in names), key=entry_order, default=START)
    if entry_order(newest) <= entry_order(reached):
        return 0
    copied, chunk = 0, list[tuple[str, bytes]]()

    async def flush() -> None:
        if chunk:
            name = f"{FOLDER}shard={shard}/{chunk[0][0]}-{chunk[-1][0]}.jsonl"
            await asyncio.to_thread(store.write, name, b"".join(data + b"\n" for _, data in chunk))
            chunk.clear()

    async for identifier, data in audit.entries(redis, shard, reached):
        chunk.append((identifier, data.replace(b"\n", b" ")))
        copied += 1
        if len(chunk) >= _FILE_ENTRIES:
            await flush()
    await flush()
    return copied


def lines(store: Store) -> list[bytes]:
    """All entries that were copied, of all shards, as they are. Raises OSError."""
    found: list[bytes] = []
    for name, _ in sorted(store.list(FOLDER)):
        if _NAME.fullmatch(name):
            with store.open(name) as file:
                found += file.read().splitlines()
    return found


def merged(*sources: Iterable[bytes]) -> list[AuditEntry]:
    """Each entry once, oldest first; what is none is left out."""
    read = (audit.decode(line) for source in sources for line in source)
    return sorted({one.id: one for one in read if one is not None}.values(), key=lambda one: (one.at, one.id))


def _last(name: str) -> str:
    match = _NAME.fullmatch(name)
    return match["last"] if match else START
