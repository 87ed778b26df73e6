"""A person's entries out of the streams, for whoever holds the archiver's lock.

An entry is acknowledged for the archiver, deleted, and what may share its node is moved to the stream's end (`nodes`),
all in one script. Readers de-duplicate, so an entry that moves is seen once. A gateway that finds the last entry of a
batch gone when Redis has restarted ships the batch again: what was erased is blank in its journal by then.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.log.archive.lock import ArchiverLock, LockLost
from gateway.log.cluster import serving
from gateway.log.erase.judge import About, Judge, about
from gateway.log.erase.nodes import NodeLimits, moves
from gateway.log.frames import Kind
from gateway.log.keys import STREAM_NAMES, stream_key

GROUP = "archiver"
_PAGE = 200
_CHUNK_ENTRIES = 500
_CHUNK_BYTES = 1_048_576

# KEYS: the archiver's lock, the stream. ARGV: token, group, '' or an id from which on all that is there is meant, how
# many ids are to be erased, these, and those to be moved. Everything is deleted before anything is appended, so that
# nothing is appended to a node that is to go. Returns how many were erased.
_ERASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('LOCKLOST another archiver has taken over')
end
local erase, found, moved, erased = {}, {}, {}, 0
local function take(entry)
  found[#found + 1] = entry[1]
  if erase[entry[1]] then
    erased = erased + 1
  else
    moved[#moved + 1] = entry[2]
  end
end
local count = tonumber(ARGV[4])
for i = 5, 4 + count do
  erase[ARGV[i]] = true
end
if ARGV[3] == '' then
  for i = 5, #ARGV do
    local entry = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
    if entry then
      take(entry)
    end
  end
else
  for _, entry in ipairs(redis.call('XRANGE', KEYS[2], ARGV[3], '+')) do
    take(entry)
  end
end
for _, id in ipairs(found) do
  redis.call('XACK', KEYS[2], ARGV[2], id)
  redis.call('XDEL', KEYS[2], id)
end
for _, fields in ipairs(moved) do
  redis.call('XADD', KEYS[2], '*', unpack(fields))
end
return erased
"""


class Seen(msgspec.Struct, frozen=True, gc=False):
    """An entry. size: of its record as it lies there. about: None where it cannot be read."""

    id: str
    size: int
    about: About | None


async def seen(redis: Redis, shard: str, kind: Kind) -> AsyncIterator[Seen]:
    """All entries of a stream. Raises redis.exceptions.RedisError."""
    start = "-"
    while page := cast(Any, await redis.xrange(stream_key(shard, kind), min=start, count=_PAGE)):
        for identifier, fields in page:
            data = fields.get(b"d", b"")
            yield Seen(identifier.decode(), len(data), about(data))
        start = "(" + page[-1][0].decode()


async def found_interactions(redis: Redis, shard: str, judge: Judge) -> dict[str, set[str]]:
    """The interactions in the stream that are to be erased, by the order."""
    found: dict[str, set[str]] = {}
    async for one in seen(redis, shard, Kind.INTERACTION):
        if one.about is not None and (order := judge.order_of(one.about)) is not None:
            found.setdefault(order, set()).add(one.about.id)
    return found


async def found_entries(redis: Redis, shard: str, judge: Judge) -> dict[str, int]:
    """How many entries are to be erased, by the stream's name."""
    found = {}
    for kind, name in STREAM_NAMES.items():
        found[name] = 0
        async for one in seen(redis, shard, kind):
            found[name] += one.about is not None and judge.order_of(one.about) is not None
    return found


async def erase_entries(redis: Redis, shard: str, judge: Judge, lock: ArchiverLock, *, head: bool) -> dict[str, int]:
    """Erase from all streams. How many entries, by the order.

    head: what was archived before may leave traces in the first node, too. Raises LockLost.
    """
    limits = await node_limits(redis, shard)
    erased: dict[str, int] = {}
    for kind in STREAM_NAMES:
        entries = [one async for one in seen(redis, shard, kind)]
        orders = [judge.order_of(one.about) if one.about else None for one in entries]
        doomed = [index for index, order in enumerate(orders) if order is not None]
        if not doomed and not head:
            continue
        plan = moves([one.size for one in entries], doomed, limits, head=head)
        ids = [one.id for one in entries]
        rest = len(entries) if plan.tail is None else plan.tail
        if plan.tail is not None:
            last = [ids[index] for index in doomed if index >= plan.tail]
            await _run(redis, shard, kind, lock, ids[plan.tail], last, [])
        going = set(doomed)
        for chunk in _chunks([index for index in sorted({*doomed, *plan.moved}) if index < rest], entries):
            gone = [ids[index] for index in chunk if index in going]
            await _run(redis, shard, kind, lock, "", gone, [ids[index] for index in chunk if index not in going])
        for order in orders:
            if order is not None:
                erased[order] = erased.get(order, 0) + 1
    return erased


async def node_limits(redis: Redis, shard: str) -> NodeLimits:
    """As the server has them; the usual ones where it will not tell."""
    try:
        found: Any = await serving(redis, stream_key(shard, Kind.INTERACTION)).config_get("stream-node-max-*")
    except ResponseError:
        return NodeLimits()
    usual = NodeLimits()
    return NodeLimits(
        int(found.get("stream-node-max-bytes", usual.max_bytes)),
        int(found.get("stream-node-max-entries", usual.max_entries)),
    )


def _chunks(indices: Sequence[int], entries: Sequence[Seen]) -> list[list[int]]:
    """So small that Redis does not stand still for others."""
    chunks: list[list[int]] = []
    size = _CHUNK_BYTES
    for index in indices:
        if size >= _CHUNK_BYTES or len(chunks[-1]) >= _CHUNK_ENTRIES:
            chunks.append([])
            size = 0
        chunks[-1].append(index)
        size += entries[index].size
    return chunks


async def _run(
    redis: Redis, shard: str, kind: Kind, lock: ArchiverLock, tail: str, erased: Sequence[str], moved: Sequence[str]
) -> None:
    """tail: move all from this id on; `erased` are of those, too, or none."""
    arguments = [lock.token, GROUP, tail, str(len(erased)), *erased, *moved]
    try:
        await cast(Any, redis.eval(_ERASE, 2, lock.key, stream_key(shard, kind), *arguments))
    except ResponseError as error:
        if "LOCKLOST" in str(error):
            raise LockLost("another archiver has taken over") from None
        raise
