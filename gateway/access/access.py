"""One gateway's copy of the keys and tenants: follows Redis, outlives it, and answers who calls.

The version in Redis is asked for every second, so a revocation holds everywhere within a second or so. While Redis is
away the last known copy decides, also after a restart (`cache`).
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.access import cache, store
from gateway.access.caller import Caller
from gateway.access.changes import Decide
from gateway.access.door import Rules, identify
from gateway.access.snapshot import Snapshot, succeed
from gateway.errors import Unauthorized, Unavailable
from gateway.tasks import being_cancelled, end

logger = logging.getLogger(__name__)

POLL_S = 1.0
TIMEOUT_S = 2.0
# Should a Redis that was emptied count up to the very version that is held, this finds it.
RELOAD_S = 60.0

T = TypeVar("T")


class Access:
    """redis: from `log.connection.connect`; the caller closes it. clock: seconds since 1970."""

    def __init__(
        self,
        redis: Redis,
        data_dir: Path,
        rules: Rules,
        registry: CollectorRegistry,
        *,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._file = cache.cache_file(data_dir)
        self._rules = rules
        self._poll_s = poll_s
        self._clock = clock
        self._known: Snapshot | None = None
        self._version_read: int | None = None  # None: to be read whole at the next occasion.
        self._read_at = 0.0
        self._reached_at = clock()
        self._away = False
        self._odd: str | None = None
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._failures = Counter(
            "bestow_access_poll_failures", "Times that Redis did not say which API keys there are.", registry=registry
        )
        self._denied = Counter(
            "bestow_access_denied", "Requests without a good API key, by reason.", ["reason"], registry=registry
        )
        keys = Gauge("bestow_access_keys", "Usable API keys.", registry=registry)
        keys.set_function(self._usable)
        age = Gauge(
            "bestow_access_age_seconds", "Time since Redis last said which API keys there are.", registry=registry
        )
        age.set_function(lambda: max(0.0, self._clock() - self._reached_at))

    async def start(self) -> None:
        """Read the keys from Redis, else the last known ones; then follow. Raises nothing."""
        self._known = await asyncio.to_thread(cache.load, self._file)
        await self._look()
        self._task = asyncio.create_task(self._follow(), name="bestow-access")
        if self.open_to_all:
            logger.info(
                "There are no API keys: this gateway is open to this machine, and to no other. Make the first with "
                "`bestow keys create --name NAME --scope admin`; from then on every call needs one."
            )

    async def close(self) -> None:
        await end(self._task)

    @property
    def known(self) -> Snapshot:
        """Raises Unavailable where Redis was never reached and there is no copy: nobody knows who may call."""
        if self._known is None:
            raise Unavailable(
                "API keys cannot be checked: Redis does not answer, and this gateway has no copy of them",
                code="access_unavailable",
                retry_after=2.0,
            )
        return self._known

    @property
    def open_to_all(self) -> bool:
        known = self._known
        return known is not None and not known.has_keys and self._rules.loopback and not self._rules.allow_anonymous

    def identify(self, presented: str | None) -> Caller:
        """Who sent this key, or none. Raises Unauthorized, Unavailable."""
        try:
            return identify(self.known, presented, self._rules, self._clock())
        except Unauthorized as error:
            self._denied.labels(error.code).inc()
            raise

    def now(self) -> float:
        return self._clock()

    async def change(self, decide: Decide[T]) -> T:
        """Change keys or tenants; this gateway knows it when it returns. Raises Unavailable, and what `decide` does."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                result = await store.change(self._redis, decide)
        except (RedisError, TimeoutError, OSError) as error:
            raise Unavailable(
                "API keys and tenants cannot be changed now: Redis does not answer", retry_after=2.0
            ) from error
        await self._look()
        return result

    def health(self) -> dict[str, Any]:
        """For /readyz."""
        return {
            "redis": "does not answer; the last known keys count" if self._away else "ready",
            "keys": "unknown" if self._known is None else int(self._usable()),
        }

    @property
    def ready(self) -> bool:
        """Whether callers can be told apart."""
        return self._known is not None

    def _usable(self) -> float:
        known, now = self._known, self._clock()
        return float(sum(key.usable(now) for key in known.keys.values())) if known else 0.0

    async def _follow(self) -> None:
        while not being_cancelled():
            await asyncio.sleep(self._poll_s)
            await self._look()

    async def _look(self) -> None:
        """Ask for the version, and for the rest where it changed. Raises nothing."""
        async with self._lock:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._read()
            except (RedisError, TimeoutError, OSError, ValueError) as error:
                self._failures.inc()
                self._version_read = None
                if not self._away:
                    logger.warning("Redis does not say which API keys there are; the last known count: %r", error)
                self._away = True
                return
            if self._away:
                logger.info("Redis says again which API keys there are")
            self._away = False
            self._reached_at = self._clock()

    async def _read(self) -> None:
        version = await store.read_version(self._redis)
        fresh = self._clock() - self._read_at < RELOAD_S
        if self._version_read is not None and version == self._version_read and fresh:
            return
        found = await store.read(self._redis)
        held, odd = succeed(self._known, found)
        if odd and odd != self._odd:
            logger.warning("%s. Delete %s and start again to go by Redis alone.", odd, self._file)
        self._odd = odd
        changed = held != self._known
        if self.open_to_all and held.has_keys:
            logger.info("There is an API key now: from here on every call needs one")
        self._known, self._version_read, self._read_at = held, found.version, self._clock()
        if changed:
            try:
                await asyncio.to_thread(cache.save, self._file, held)
            except OSError as error:
                logger.warning("The API keys cannot be kept in %s for when Redis is away: %s", self._file, error)
