"""The gateway's part in archiving: now and then it looks whether something is due, and has one round done.

A round runs in a process of its own (`__main__`): reading, compressing and writing would hold Python's lock for
milliseconds at a time, and pyarrow takes 70 MiB. Of all gateways, the one that gets the lock does it.
"""

import asyncio
import logging
import random
import sys
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
from gateway.log.archive.due import held, is_due, oldest_s
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.opening import MISSING, archives
from gateway.log.outage import Outage
from gateway.tasks import being_cancelled, end

logger = logging.getLogger(__name__)

# A round that takes longer hangs: on a network drive that is gone, say.
ROUND_TIMEOUT_S = 900.0
_COMMAND = (sys.executable, "-m", "gateway.log.archive")


class Order(msgspec.Struct):
    """What the process is told. config: data_dir, redis and log of the configuration. token: of the lock it gets."""

    config: dict[str, Any]
    token: str


class RoundFailed(Exception):
    """Its text says why."""


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

        Raises redis.exceptions.RedisError, OSError, TimeoutError and RoundFailed.
        """
        streams = await held(self._redis, self._shard)
        self._stream_bytes.set(sum(stream.bytes for stream in streams))
        self._oldest.set(oldest_s(streams, self._clock()))
        if not is_due(streams, self._settings, self._clock()):
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
            except (RedisError, OSError, TimeoutError, RoundFailed) as error:
                self._rounds.labels("failed").inc()
                self._outage.failed(error)
            except Exception:  # A bug must not end archiving for good.
                self._rounds.labels("failed").inc()
                logger.exception("Archiving failed")
            await asyncio.sleep(pause)

    async def _round(self, token: str) -> None:
        order = msgspec.json.encode(Order(self._config, token))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*_COMMAND, stdin=pipe, stdout=pipe, stderr=pipe)
        assert process.stdin is not None
        try:
            process.stdin.write(order + b"\n")
            async with asyncio.timeout(ROUND_TIMEOUT_S):
                out, said = await _outcome(process)
        finally:
            # Whatever ended this, the process ends too; what it had half done is done again.
            with suppress(ProcessLookupError):
                process.kill()
            process.stdin.close()
            await process.wait()
        if process.returncode != 0:
            raise RoundFailed(_last_line(said) or f"exit code {process.returncode}")
        report = msgspec.json.decode(out, type=dict[str, Any])
        self._rounds.labels("done").inc()
        for stream, records in report["records"].items():
            self._records.labels(stream).inc(records)
        self._bytes.inc(report["bytes"])


async def _outcome(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """What it wrote, when it has ended. Its input stays open: it ends when that is closed."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, said = await asyncio.gather(process.stdout.read(), process.stderr.read())
    await process.wait()
    return out, said


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else ""
