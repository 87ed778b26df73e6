"""The gateway's part in archiving: now and then it looks whether something is due, and has one round done.

A round runs in a process of its own (`__main__`): reading, compressing and writing would hold Python's lock for
milliseconds at a time, and pyarrow takes 70 MiB. Of all gateways, the one that gets the lock does it.
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.config import Config
from gateway.log.archive.due import held, housekeeping_due, is_due, oldest_s
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.opening import MISSING, archives
from gateway.log.archive.retention import models_retention
from gateway.log.outage import Outage
from gateway.log.own_process import ProcessFailed, have_done
from gateway.tasks import being_cancelled, end

logger = logging.getLogger(__name__)

# A round that takes longer hangs: on a network drive that is gone, say.
ROUND_TIMEOUT_S = 900.0


class Order(msgspec.Struct):
    """What the process is told. config: data_dir, redis and log of the configuration. token: of the lock it gets.

    models: how many days the records of each are kept, where the configuration says so.
    """

    config: dict[str, Any]
    token: str
    models: dict[str, int] = {}


class ArchiveRunner:
    """redis: the gateway's; the caller closes it. clock: seconds since 1970."""

    def __init__(
        self,
        config: Config,
        redis: Redis,
        registry: CollectorRegistry,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = config.log.archive
        self._shard = config.log.shard
        self._config = config.model_dump(mode="json", include={"data_dir", "redis", "log"})
        self._models = models_retention(config)
        self._redis = redis
        self._clock = clock
        self._rng = rng or random.Random()
        self._outage = Outage(
            "Old records of the log cannot be archived; they stay in Redis and in the journal", self._rng
        )
        self._task: asyncio.Task[None] | None = None
        self._rounds = Counter(
            "bestow_archive_rounds", "Rounds of archiving that this gateway had done.", ["result"], registry=registry
        )
        self._records = Counter(
            "bestow_archive_records", "Records this gateway had archived.", ["stream"], registry=registry
        )
        self._bytes = Counter(
            "bestow_archive_bytes", "Bytes of archive files this gateway had written.", registry=registry
        )
        self._retired = Counter(
            "bestow_archive_retired",
            "Records beyond their retention that this gateway had removed.",
            ["stream"],
            registry=registry,
        )
        self._merged = Counter(
            "bestow_archive_merged_parts", "Archive files this gateway had merged into fewer.", registry=registry
        )
        self._unreadable = Counter(
            "bestow_archive_unreadable",
            "Days and merges given up since a file of the archive could not be read.",
            registry=registry,
        )
        self._stream_bytes = Gauge(
            "bestow_log_stream_bytes", "Redis's memory that the log's streams take.", registry=registry
        )
        self._oldest = Gauge(
            "bestow_log_stream_age_seconds",
            "Age of the oldest record in Redis that is not archived.",
            registry=registry,
        )

    async def start(self) -> None:
        if archives(self._settings):
            self._task = asyncio.create_task(self._run(), name="bestow-archive")
        elif self._settings.enabled:
            logger.warning("Nothing is archived, and Redis grows: %s. Or set log.archive.enabled: false.", MISSING)

    async def close(self) -> None:
        await end(self._task)

    async def look(self) -> bool:
        """Have a round done if something is due and nobody else does it. Whether one was done.

        Raises redis.exceptions.RedisError, OSError, TimeoutError and ProcessFailed.
        """
        streams = await held(self._redis, self._shard)
        self._stream_bytes.set(sum(stream.bytes for stream in streams))
        self._oldest.set(oldest_s(streams, self._clock()))
        now = self._clock()
        if not is_due(streams, self._settings, now) and not await housekeeping_due(self._redis, self._shard, now):
            return False
        lock = ArchiverLock(self._redis, self._shard, uuid.uuid4().hex)
        if not await lock.take():
            return False
        try:
            await self._round(lock.token)
        finally:
            with suppress(RedisError, OSError):  # It expires by itself.
                await lock.release()
        return True

    async def _run(self) -> None:
        # Gateways that are started together do not look together.
        await asyncio.sleep(self._settings.every_s * self._rng.random())
        while not being_cancelled():
            pause = self._settings.every_s
            try:
                await self.look()
                self._outage.worked()
            except (RedisError, OSError, TimeoutError, ProcessFailed) as error:
                self._rounds.labels("failed").inc()
                self._outage.failed(error)
            except Exception:  # A bug must not end archiving for good.
                self._rounds.labels("failed").inc()
                logger.exception("Archiving failed")
            await asyncio.sleep(pause)

    async def _round(self, token: str) -> None:
        out = await have_done("gateway.log.archive", Order(self._config, token, self._models), ROUND_TIMEOUT_S)
        report = msgspec.json.decode(out, type=dict[str, Any])
        self._rounds.labels("done").inc()
        for stream, records in report["records"].items():
            self._records.labels(stream).inc(records)
        for stream, records in report["retired"].items():
            self._retired.labels(stream).inc(records)
        self._bytes.inc(report["bytes"])
        self._merged.inc(report["merged"])
        self._unreadable.inc(report["unreadable"])
