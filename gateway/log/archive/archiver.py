"""The archiver: old entries of the streams -> Parquet, at least once, then off the stream.

The consumer group `archiver` remembers which entries were taken. For each batch, in this order:

 1. entries: those an archiver before us took and never finished (XAUTOCLAIM), then new ones (XREADGROUP);
 2. files: a part for each day, what is too slow for the journal redacted, what is beyond its retention left out,
    durable when it is written;
 3. votes: out of the interaction's hash, where the archived record is the current one;
 4. in one script, if we still hold the lock: acknowledged, trimmed off by id, and the watermark moved on.

Stopped anywhere in between, the next round does the batch again; readers de-duplicate. Entries that are taken and too
young stay pending, and nothing from the first pending one on is ever trimmed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import date
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.config import ArchiveConfig
from gateway.log.archive import audit_files, parquet
from gateway.log.archive.due import held, largest_over, until_ms
from gateway.log.archive.lock import HOLD_MS, ArchiverLock, LockLost
from gateway.log.archive.parts import Row, by_day, part_name, row_of
from gateway.log.archive.redaction import Treatment, as_it_is
from gateway.log.archive.retiring import Retiring
from gateway.log.archive.store import Store
from gateway.log.frames import Kind
from gateway.log.keys import STREAM_NAMES, archived_key, stream_key, votes_key
from gateway.log.records import Feedback, decode_feedback
from gateway.log.sink import redis_run_id
from gateway.log.watermarks import entry_order, watermark_field
from gateway.tasks import end

GROUP = "archiver"
BATCH_RECORDS = 5000
BATCH_BYTES = 33_554_432
PAGE_RECORDS = 500
PAGE_BYTES = 2_097_152
# A field for each run of Redis and stream; older runs' are needed only by journals that nobody has read since.
WATERMARKS_KEPT = 96
_ALL = 1 << 62
_ACK_CHUNK = 1000

# KEYS: stream. ARGV: group. Begins at the stream's oldest entry. XACK is there for the reason told in `lock`.
_MAKE_GROUP = """
redis.call('XACK', KEYS[1], ARGV[1], '0-0')
return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0')
"""

_BEFORE = """
local function before(a, b)
  local a_ms, a_n = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_n = string.match(b, '^(%d+)-(%d+)$')
  a_ms, a_n, b_ms, b_n = tonumber(a_ms), tonumber(a_n), tonumber(b_ms), tonumber(b_n)
  return a_ms < b_ms or (a_ms == b_ms and a_n < b_n)
end
"""

# KEYS: watermarks. ARGV: field, entry. HDEL is there for the reason told in `lock`.
_REACHED = f"""
{_BEFORE}
local reached = redis.call('HGET', KEYS[1], ARGV[1])
if not reached or before(reached, ARGV[2]) then
  redis.call('HDEL', KEYS[1], '')
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
"""

# KEYS: lock, stream, watermarks. ARGV: token, group, watermark's field, the last entry, entries. Returns what is left.
COMMIT = f"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('LOCKLOST another archiver has taken over')
end
{_BEFORE}
for i = 5, #ARGV do
  redis.call('XACK', KEYS[2], ARGV[2], ARGV[i])
end
local last = ARGV[4]
local pending = redis.call('XPENDING', KEYS[2], ARGV[2])
if pending[1] == 0 or before(last, pending[2]) then
  local ms, n = string.match(last, '^(%d+)-(%d+)$')
  redis.call('XTRIM', KEYS[2], 'MINID', '=', ms .. '-' .. string.format('%d', tonumber(n) + 1))
  local reached = redis.call('HGET', KEYS[3], ARGV[3])
  if not reached or before(reached, last) then
    redis.call('HSET', KEYS[3], ARGV[3], last)
  end
else
  redis.call('XTRIM', KEYS[2], 'MINID', '=', pending[2])
end
return redis.call('XLEN', KEYS[2])
"""

# KEYS: votes hash. ARGV: vote key, id of the archived record. The later one wins, so an older one is not missed.
_DROP_VOTE = """
local current = redis.call('HGET', KEYS[1], ARGV[1])
if not current then
  return 0
end
local ok, vote = pcall(cjson.decode, current)
if ok and type(vote) == 'table' and vote.id == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
"""


class Report(msgspec.Struct):
    """What a round did. records: moved into the archive, by the stream's name. parts, bytes: of files written for it.

    retired: beyond their retention, in the archive or on the way there. merged, merged_into: parts. unreadable: days
    and merges given up, since a part could not be read.
    """

    records: dict[str, int] = {}
    parts: int = 0
    bytes: int = 0
    retired: dict[str, int] = {}
    merged: int = 0
    merged_into: int = 0
    unreadable: int = 0


class Archiver:
    """Moves one shard's entries; whoever runs it holds `lock`. clock: seconds since 1970. treat: see `redaction`.

    retiring: what is too old to be moved; None: nothing is.
    A round raises redis.exceptions.RedisError and OSError, and LockLost where another has taken over; the next goes on
    where it ended.
    """

    def __init__(
        self,
        redis: Redis,
        shard: str,
        store: Store,
        settings: ArchiveConfig,
        lock: ArchiverLock,
        *,
        clock: Callable[[], float],
        treat: Treatment = as_it_is,
        retiring: Retiring | None = None,
    ) -> None:
        self._redis = redis
        self._treat = treat
        self._retiring = retiring
        self._shard = shard
        self._store = store
        self._settings = settings
        self._lock = lock
        self._clock = clock
        self.report = Report()

    async def round(self, *, everything: bool = False) -> Report:
        """Move what is old, and then as much as takes the streams' memory to half of its limit where it is beyond.

        everything: move all that is there now.
        """
        for stream in await held(self._redis, self._shard):
            if not stream.entries:
                continue
            old = until_ms(stream, self._settings, self._clock())
            limit = await self._newest_ms(stream.kind) + 1 if everything else old
            while limit is not None and await self._batch(stream.kind, limit, BATCH_BYTES):
                pass
        streams = await held(self._redis, self._shard)
        if largest_over(streams, self._settings.keep_bytes) is not None:
            goal = self._settings.keep_bytes // 2
            while (kind := largest_over(streams, goal)) is not None and await self._batch(kind, _ALL, goal // 4):
                streams = await held(self._redis, self._shard)
        for kind in STREAM_NAMES:
            await self._pass_the_erased(kind)
        await self._forget_old_watermarks()
        await audit_files.copy(self._redis, self._shard, self._store)
        return self.report

    async def _newest_ms(self, kind: Kind) -> int:
        """By Redis's clock, which may not be ours."""
        newest: Any = await self._redis.xrevrange(stream_key(self._shard, kind), count=1)
        return entry_order(_text(newest[0][0]))[0] if newest else 0

    async def _batch(self, kind: Kind, limit_ms: int, most_bytes: int) -> bool:
        """Move a batch of entries that came before `limit_ms`. False where there are none."""
        run = await redis_run_id(self._redis, self._shard)
        rows, deleted = await self._take(kind, limit_ms, most_bytes)
        if not rows and not deleted:
            return False
        if run != await redis_run_id(self._redis, self._shard):
            raise RedisError("Redis has restarted in the middle of a batch")
        treated = await asyncio.to_thread(lambda: [self._treat(kind, row) for row in rows])
        name = STREAM_NAMES[kind]
        for day, its in by_day(treated).items():
            stay = await self._unretired(kind, day, its)
            if stay:
                await self._write(kind, part_name(kind, day, stay), stay)
                self.report.records[name] = self.report.records.get(name, 0) + len(stay)
            if len(stay) < len(its):
                self.report.retired[name] = self.report.retired.get(name, 0) + len(its) - len(stay)
        if kind is Kind.FEEDBACK:
            await self._drop_votes(rows)
        await self._commit(kind, run, [row.entry for row in rows] + deleted)
        return True

    async def _unretired(self, kind: Kind, day: date, rows: list[Row]) -> list[Row]:
        if self._retiring is None:
            return rows
        stay = await asyncio.to_thread(self._retiring.keeps, kind, day, rows)
        return [row for row, stays in zip(rows, stay, strict=True) if stays]

    async def _take(self, kind: Kind, limit_ms: int, most_bytes: int) -> tuple[list[Row], list[str]]:
        """Entries in their order, and ids of those that somebody deleted after they were taken."""
        rows: list[Row] = []
        deleted: list[str] = []
        size = 0
        async for entry, fields in self._entries(stream_key(self._shard, kind)):
            if entry_order(entry)[0] >= limit_ms:
                break
            if fields is None:
                deleted.append(entry)
                continue
            rows.append(row_of(entry, fields))
            size += len(rows[-1].data)
            if size >= most_bytes or len(rows) >= BATCH_RECORDS:
                break
        return rows, deleted

    async def _entries(self, key: str) -> AsyncIterator[tuple[str, dict[bytes, bytes] | None]]:
        """Pending entries, then new ones, all of them ours from here on."""
        count = await self._page(key)
        cursor: Any = "0-0"
        while True:
            try:
                reply: Any = await self._redis.xautoclaim(key, GROUP, GROUP, 0, cursor, count)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP") or not await self._make_group(key):
                    raise
                continue
            claimed = {_text(entry): fields for entry, fields in reply[1] if entry is not None}
            if len(claimed) < len(reply[1]):  # Redis 6.2 says that some were deleted, and only so which.
                ids: Any = await self._redis.xautoclaim(key, GROUP, GROUP, 0, cursor, count, justid=True)
                claimed = {_text(entry): claimed.get(_text(entry)) for entry in ids}
            cursor = _text(reply[0])
            for entry, fields in claimed.items():
                yield entry, fields
            if cursor == "0-0":
                break
        while True:
            streams: Any = await self._redis.xreadgroup(GROUP, GROUP, {key: ">"}, count)
            pages = list(streams.values()) if isinstance(streams, dict) else [page for _, page in streams or []]
            page = pages[0] if pages else []
            if page and page[0] and isinstance(page[0], list):
                page = page[0]
            if not page:
                return
            for entry, fields in page:
                yield _text(entry), fields

    async def _page(self, key: str) -> int:
        """How many entries to read at once: none so many that Redis would stand still for others."""
        entries, size = await self._redis.xlen(key), await self._redis.memory_usage(key)
        return max(1, min(PAGE_RECORDS, PAGE_BYTES * max(entries, 1) // max(size or 0, 1)))

    async def _make_group(self, key: str) -> bool:
        """False where there is no stream: making one would look as if Redis had lost nothing (`sink.LOST`)."""
        if not await self._redis.exists(key):
            return False
        try:
            await self._redis.eval(_MAKE_GROUP, 1, key, GROUP)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        return True

    async def _write(self, kind: Kind, name: str, rows: Sequence[Row]) -> None:
        data = await asyncio.to_thread(parquet.encode, kind, rows)
        await asyncio.to_thread(self._store.write, name, data)
        self.report.parts += 1
        self.report.bytes += len(data)

    async def _drop_votes(self, rows: Sequence[Row]) -> None:
        script = self._redis.register_script(_DROP_VOTE)
        votes = [vote for vote in map(_vote, rows) if vote is not None]
        for start in range(0, len(votes), PAGE_RECORDS):
            pipeline = self._redis.pipeline(transaction=False)
            for vote in votes[start : start + PAGE_RECORDS]:
                await script(
                    keys=[votes_key(self._shard, vote.interaction)], args=[vote.vote_key, vote.id], client=pipeline
                )
            await pipeline.execute()

    async def _commit(self, kind: Kind, run: str, entries: Sequence[str]) -> None:
        """In chunks, in order: the last entry of each has all before it archived."""
        ordered = sorted(entries, key=entry_order)
        commit = self._redis.register_script(COMMIT)
        keys = [self._lock.key, stream_key(self._shard, kind), archived_key(self._shard)]
        for start in range(0, len(ordered), _ACK_CHUNK):
            chunk = ordered[start : start + _ACK_CHUNK]
            try:
                await commit(keys=keys, args=[self._lock.token, GROUP, watermark_field(run, kind), chunk[-1], *chunk])
            except ResponseError as error:
                if "LOCKLOST" in str(error):
                    raise LockLost("another archiver has taken over") from None
                raise

    async def _pass_the_erased(self, kind: Kind) -> None:
        """Of an empty stream all is archived or erased: the journal need not wait for what can never be archived."""
        key = stream_key(self._shard, kind)
        run = await redis_run_id(self._redis, self._shard)
        try:
            facts: Any = await self._redis.xinfo_stream(key)
        except ResponseError:  # There is none.
            return
        if facts["length"] or run != await redis_run_id(self._redis, self._shard):
            return
        fields = [watermark_field(run, kind), _text(facts["last-generated-id"])]
        await self._redis.eval(_REACHED, 1, archived_key(self._shard), *fields)

    async def _forget_old_watermarks(self) -> None:
        fields: Any = await self._redis.hgetall(archived_key(self._shard))
        oldest = sorted(fields, key=lambda field: entry_order(fields[field].decode()))[:-WATERMARKS_KEPT]
        if oldest:
            await self._redis.hdel(archived_key(self._shard), *oldest)


@asynccontextmanager
async def keeping(lock: ArchiverLock) -> AsyncIterator[None]:
    """Hold a lock that was taken for as long as the block runs; then give it back."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(HOLD_MS / 4000)
            with suppress(RedisError, OSError):  # The commit finds out.
                await lock.keep()

    renewing = asyncio.create_task(renew(), name="bestow-archiver-lock")
    try:
        yield
    finally:
        await end(renewing)
        with suppress(RedisError, OSError):  # It expires by itself.
            await lock.release()


def _vote(row: Row) -> Feedback | None:
    try:
        return decode_feedback(row.data, row.version)
    except msgspec.DecodeError:
        return None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
