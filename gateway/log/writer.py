"""The log as the gateway uses it: `accept` on the request path, all else behind it.

    accept -> queue in memory -> (thread) redact, encode, journal -> (shipper) Redis

The request path pays for one append to a bounded queue. A background task redacts (`privacy`), encodes and journals
what waits, every `flush_ms` or as soon as FLUSH_RECORDS wait. Where the journal cannot be written, records go from the
queue straight to Redis; where Redis does not answer either they stay queued, and only a full queue drops records,
counted.
"""

import asyncio
import functools
import json
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.config import LogConfig
from gateway.log.archive.opening import archive_of, archives
from gateway.log.erase.caches import mentioned
from gateway.log.erase.follower import Follower
from gateway.log.erase.ledger import Ledger
from gateway.log.feedback import FeedbackStore, Votes
from gateway.log.frames import Entry, Kind
from gateway.log.journal import Journal
from gateway.log.metrics import DropReason, LogMetrics
from gateway.log.outage import Outage
from gateway.log.privacy.policy import Policies
from gateway.log.privacy.redactor import Count
from gateway.log.privacy.treatment import Privacy, rule_of
from gateway.log.records import Feedback, Interaction, Record, ShadowScores, encode, packed
from gateway.log.shipper import Shipper
from gateway.log.sink import RedisSink
from gateway.tasks import being_cancelled

logger = logging.getLogger(__name__)

FLUSH_RECORDS = 500
JOURNAL_RETRY_S = 1.0
LEAVE_S = 1.0
_KINDS = {Interaction: Kind.INTERACTION, Feedback: Kind.FEEDBACK, ShadowScores: Kind.SHADOW}

T = TypeVar("T")


class LogHealth(msgspec.Struct, frozen=True):
    """For /readyz. redis, journal: it took what it was last given. lag_s: age of the oldest unshipped record."""

    redis: bool
    journal: bool
    queued: int
    pending: int
    dropped: int
    lag_s: float


class RecordLog:
    """One process's log. redis: from `connection.connect`, or None to journal only; the caller closes it.

    clock: seconds since 1970. policies: what is kept, of whom; None: what the settings say of all.
    Raises ConfigError for a redactor that is not there.
    """

    def __init__(
        self,
        settings: LogConfig,
        data_dir: Path,
        redis: Redis | None,
        registry: CollectorRegistry,
        *,
        policies: Policies | None = None,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._queue: deque[Record] = deque()
        self._metrics = LogMetrics(registry)
        self.privacy = Privacy(policies or Policies(rule_of(settings.keep), {}), settings, registry)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bestow-journal")
        self._journal = Journal(
            data_dir / "journal",
            segment_bytes=settings.segment_bytes,
            keep_bytes=None if archives(settings.archive) else settings.keep_bytes,
            clock=clock,
        )
        self._feedback = FeedbackStore(redis, settings.shard, archive=archive_of(settings.archive, data_dir))
        rng = rng or random.Random()
        self._sink: RedisSink | None = None
        self._shipper: Shipper | None = None
        self._writing = asyncio.Lock()
        self.erasing: Follower | None = None
        if redis is not None:
            ledger = Ledger(redis, settings, data_dir)
            self.erasing = Follower(ledger, self._journal, self._in_thread, self._metrics, self._writing, rng=rng)
            self.erasing.told.append(self._feedback.erase)
            self._sink = RedisSink(redis, settings.shard, archived=archives(settings.archive))
            self._shipper = Shipper(
                self._journal,
                self._sink,
                self._in_thread,
                self._metrics,
                clock=clock,
                rng=rng,
                on_votes=self._feedback.forget,
                eraser=self.erasing,
            )
        self._disk = Outage("The journal cannot be written; records go to Redis from memory", rng)
        self._both = Outage("Neither journal nor Redis takes records; they wait in memory", rng)
        self._disk_retry_at = 0.0
        self._arrived = asyncio.Event()
        self._many = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        lag = self._shipper.lag_s if self._shipper else lambda: 0.0
        self._metrics.watch(
            queued=lambda: len(self._queue),
            pending=lambda: self._journal.pending,
            unarchived=lambda: self._journal.unarchived,
            archived=lambda: self._journal.archived,
            released=lambda: self._journal.released,
            size=lambda: self._journal.bytes,
            lag=lag,
        )

    async def start(self) -> None:
        """Begin a segment and the background tasks. Neither a full disk nor an absent Redis stops it."""
        try:
            await self._in_thread(self._journal.open)
        except OSError as error:
            self._disk_failed(error)
        self._tasks = [asyncio.create_task(self._flush_forever(), name="bestow-log-flush")]
        if self._shipper is not None:
            self._tasks.append(asyncio.create_task(self._shipper.run(), name="bestow-log-ship"))

    def accept(self, record: Record) -> bool:
        """Take a record. Never waits, never raises; False where it was dropped (and counted)."""
        self._metrics.accepted.inc()
        if self._closing or len(self._queue) >= self._settings.queue_records:
            self._metrics.drop("closed" if self._closing else "queue_full")
            return False
        try:
            record = self.privacy.received(record)
        except Exception:  # It may hold anything: what cannot be redacted is not kept.
            logger.exception("A record is dropped since it could not be redacted")
            self._metrics.drop("unencodable")
            return False
        self._queue.append(record)
        if isinstance(record, Feedback):
            self._feedback.remember(record)
        self._arrived.set()
        if len(self._queue) >= FLUSH_RECORDS:
            self._many.set()
        return True

    async def votes(self, interaction_id: str) -> Votes:
        """The current votes on an interaction, those just accepted included."""
        return await self._feedback.of(interaction_id)

    def erased(self, data: bytes) -> bool:
        """Whether something that would be kept elsewhere mentions an answer of somebody who is being erased."""
        return self.erasing is not None and mentioned(data, self.erasing.judge) is not None

    def health(self) -> LogHealth:
        return LogHealth(
            redis=self._shipper is not None and self._shipper.reachable,
            journal=not self._disk.active,
            queued=len(self._queue),
            pending=self._journal.pending,
            dropped=self._metrics.dropped_total,
            lag_s=self._shipper.lag_s() if self._shipper else 0.0,
        )

    async def drained(self, timeout_s: float) -> bool:
        """Wait until Redis has everything; False where it has not within `timeout_s`."""
        return await _until(lambda: not self._queue and not self._journal.pending, timeout_s)

    async def close(self, timeout_s: float) -> None:
        """Take no more, journal what is queued, ship what `timeout_s` allows; the rest waits for the next start."""
        if self._closing:
            return
        self._closing = True
        self._many.set()
        self._arrived.set()
        shipper = self._shipper
        if self._tasks and shipper is not None:
            # Redis that is away now will hardly come back in time, and the journal keeps what it has not.
            await _until(lambda: not (shipper.reachable and (self._queue or self._journal.pending)), timeout_s)
        if self._tasks:
            await _until(lambda: not self._queue, max(timeout_s, 1.0))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(timeout_s, 1.0))
        self._drop_queue()
        try:
            async with asyncio.timeout(max(timeout_s, 1.0)):
                await self._in_thread(self._journal.close)
        except (OSError, TimeoutError) as error:
            logger.warning("The journal did not close cleanly: %s.", error or "the disk does not answer")
        self._thread.shutdown(wait=False)
        if self.erasing is not None and shipper is not None and shipper.reachable:
            try:
                async with asyncio.timeout(LEAVE_S):
                    await self.erasing.leave()
            except (RedisError, OSError, TimeoutError) as error:
                logger.warning("Redis is not told that this gateway stops: %r", error)

    def _drop_queue(self) -> None:
        if self._queue:
            logger.error("%d records are lost: neither journal nor Redis took them.", len(self._queue))
            self._metrics.drop("unflushed", len(self._queue))
            self._queue.clear()

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def _flush_forever(self) -> None:
        while not being_cancelled():
            await self._arrived.wait()
            if not self._closing:
                await self._wait_for_more()
            try:
                async with self._writing:
                    await self._flush()
                self._both.worked()
            except (RedisError, OSError, TimeoutError) as error:
                await asyncio.sleep(self._both.failed(error))
            except Exception:  # A bug must not end the log; what it could not handle stays queued until it is full.
                logger.exception("The log's writer failed")
                await asyncio.sleep(JOURNAL_RETRY_S)
            if not self._queue:
                self._arrived.clear()

    async def _wait_for_more(self) -> None:
        if len(self._queue) < FLUSH_RECORDS:
            self._many.clear()
        try:
            async with asyncio.timeout(self._settings.flush_ms / 1000):
                await self._many.wait()
        except TimeoutError:
            pass

    async def _flush(self) -> None:
        """Move up to FLUSH_RECORDS from the queue's front. They leave it once journal or Redis has them."""
        records = list(islice(self._queue, FLUSH_RECORDS))
        if not records:
            return
        above = self._settings.compress_above
        waiting = len(records)
        records, erased = self._judged(records)
        encoded, redactions = await self._in_thread(functools.partial(_encode_all, records, self.privacy, above))
        entries = [entry for entry in encoded if entry is not None]
        journaled = await self._write_journal(entries)
        if not journaled:
            await self._bypass(entries)
        for _ in range(waiting):
            self._queue.popleft()
        self.privacy.count(redactions)
        if journaled:
            self._metrics.journaled.inc(len(entries))
        else:
            self._metrics.bypassed.inc(len(entries))
        self._dropped("unencodable", [record for record, entry in zip(records, encoded, strict=True) if entry is None])
        self._dropped("erased", erased)
        if self._shipper is not None:
            self._shipper.wake()

    def _judged(self, records: list[Record]) -> tuple[list[Record], list[Record]]:
        """Those that are to be written, and those of somebody who is being erased."""
        follower = self.erasing
        if follower is None:
            return records, []
        erased = [record for record in records if follower.erases(record)]
        return ([record for record in records if not follower.erases(record)], erased) if erased else (records, [])

    async def _write_journal(self, entries: Sequence[Entry]) -> bool:
        if self._disk.active and time.monotonic() < self._disk_retry_at:
            return False
        try:
            await self._in_thread(functools.partial(self._journal.append, entries))
        except OSError as error:
            self._disk_failed(error)
            return False
        self._disk.worked()
        return True

    def _disk_failed(self, error: OSError) -> None:
        self._disk.failed(error)
        self._disk_retry_at = time.monotonic() + JOURNAL_RETRY_S

    async def _bypass(self, entries: Sequence[Entry]) -> None:
        """Ship from memory. Raises RedisError, or OSError where there is no Redis."""
        if self._sink is None:
            raise OSError("the journal cannot be written, and there is no Redis")
        if entries:
            sent = await self._sink.send(entries)
            for kind, count in sent.counts.items():
                self._metrics.ship(kind, count)
            self._feedback.forget(sent.votes)

    def _dropped(self, reason: DropReason, records: Sequence[Record]) -> None:
        if records:
            self._metrics.drop(reason, len(records))
            self._feedback.forget([record for record in records if isinstance(record, Feedback)])


async def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(0.005)
    return True


def _encode_all(records: Sequence[Record], privacy: Privacy, above: int) -> tuple[list[Entry | None], Count]:
    """Each record's bytes, None for one that cannot be redacted or be JSON at all; and what was taken out of all.

    above: see `records.packed`.
    """
    redactions = Count()
    return [_encoded(record, privacy, redactions, above) for record in records], redactions


def _encoded(record: Record, privacy: Privacy, redactions: Count, above: int) -> Entry | None:
    kind = _KINDS[type(record)]
    try:
        record, counts = privacy.prepared(record)
        redactions.update(counts)
    except Exception:
        logger.exception("A record is dropped since it could not be redacted")
        return None
    try:
        return Entry(kind, _packed(kind, encode(record), above))
    except Exception as error:
        reason = error
    try:
        # Half a surrogate pair, an integer beyond 64 bits, an object of some library: keep what can be kept.
        plain = msgspec.to_builtins(record, enc_hook=str)
        payload = json.dumps(plain, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        return Entry(kind, _packed(kind, payload, above))
    except Exception:
        logger.error("A record is dropped since it cannot be JSON: %s.", reason)
        return None


def _packed(kind: Kind, payload: bytes, above: int) -> bytes:
    return payload if kind is Kind.FEEDBACK else packed(payload, above)
