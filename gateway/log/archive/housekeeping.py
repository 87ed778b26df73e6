"""What a round of archiving does to the archive itself, now and then: what is beyond its retention goes, and small
parts are merged. A part that cannot be read holds up no others: it is told of, and tried again the next time.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.log.archive import compaction
from gateway.log.archive.archiver import Report
from gateway.log.archive.due import housekeeping_done
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.retiring import Retiring
from gateway.log.archive.store import Store
from gateway.log.keys import STREAM_NAMES

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Housekeeping:
    """Whoever runs it holds `lock`. Methods raise LockLost, redis.exceptions.RedisError, and OSError where the store
    cannot be listed.
    """

    def __init__(self, redis: Redis, shard: str, store: Store, lock: ArchiverLock, report: Report) -> None:
        self._redis = redis
        self._shard = shard
        self._store = store
        self._lock = lock
        self._report = report

    async def retire(self, retiring: Retiring) -> None:
        for day in await asyncio.to_thread(retiring.days):
            removed = await self._step(lambda: retiring.retire(day)) or {}  # noqa: B023
            for kind, count in removed.items():
                if count:
                    name = STREAM_NAMES[kind]
                    self._report.retired[name] = self._report.retired.get(name, 0) + count

    async def compact(self, *, everything: bool = False) -> None:
        """everything: and not only as much as a round should."""
        most = None if everything else compaction.ROUND_BYTES
        for what in await asyncio.to_thread(compaction.merges, self._store, most):
            merged = await self._step(lambda: compaction.merge(self._store, what))  # noqa: B023
            if merged is not None:
                self._report.merged += merged.read
                self._report.merged_into += merged.written

    async def finish(self, now: float) -> None:
        """The next one is due when it is due again."""
        with suppress(RedisError):  # Without memory, say. Then it is done again, which changes nothing.
            await housekeeping_done(self._redis, self._shard, now)

    async def _step(self, work: Callable[[], T]) -> T | None:
        await self._lock.keep()
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            self._report.unreadable += 1
            logger.warning("A part of the archive is left as it is: %s", error)
            return None
