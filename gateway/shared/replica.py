"""One gateway's copy of something that all share: follows Redis, outlives it.

The version in Redis is asked for every second, so a change holds everywhere within a second or so. While Redis is away
the last known copy counts, also after a restart (`disk`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.errors import Unavailable
from gateway.shared import disk
from gateway.tasks import being_cancelled, end

logger = logging.getLogger(__name__)

POLL_S = 1.0
TIMEOUT_S = 2.0
# Should a Redis that was emptied count up to the very version that is held, this finds it.
RELOAD_S = 60.0


class Versioned(Protocol):
    """Immutable; `version` grows with each change."""

    @property
    def version(self) -> int: ...


T = TypeVar("T", bound=Versioned)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Shared(Generic[T]):
    """What is shared and how it is read.

    name: in metrics. what: in sentences ("API keys"). succeed: what to hold after reading where something was held
    (None: nothing), and what is odd about it. restore: gives Redis back what it has lost, where that is wanted.
    """

    name: str
    what: str
    kind: type[T]
    read_version: Callable[[Redis], Awaitable[int]]
    read: Callable[[Redis], Awaitable[T]]
    succeed: Callable[[T | None, T], tuple[T, str | None]]
    restore: Callable[[Redis, T], Awaitable[None]] | None = None


class Replica(Generic[T]):
    """redis: from `log.connection.connect`; the caller closes it. clock: seconds since 1970.

    on_change: told what was held (None: nothing) and what is held now, each time that they differ.
    """

    def __init__(
        self,
        redis: Redis,
        file: Path,
        shared: Shared[T],
        registry: CollectorRegistry,
        on_change: Callable[[T | None, T], None],
        *,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._file = file
        self._shared = shared
        self._on_change = on_change
        self._poll_s = poll_s
        self._clock = clock
        self.held: T | None = None
        self.away = False
        self._version_read: int | None = None  # None: to be read whole at the next occasion.
        self._read_at = 0.0
        self._reached_at = clock()
        self._odd: str | None = None
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._failures = Counter(
            f"bestow_{shared.name}_poll_failures",
            f"Times that Redis did not tell the {shared.what}.",
            registry=registry,
        )
        age = Gauge(
            f"bestow_{shared.name}_age_seconds", f"Time since Redis last told the {shared.what}.", registry=registry
        )
        age.set_function(lambda: max(0.0, self._clock() - self._reached_at))

    async def start(self) -> None:
        """Read from Redis, else what was last known; then follow. Raises nothing."""
        known = await asyncio.to_thread(disk.load, self._file, self._shared.kind, self._shared.what)
        if known is not None:
            self._hold(known)
        await self._look()
        self._task = asyncio.create_task(self._follow(), name=f"bestow-{self._shared.name}")

    async def close(self) -> None:
        await end(self._task)

    async def change(self, make: Callable[[Redis], Awaitable[R]]) -> R:
        """Do what `make` does in Redis; this copy has it when it returns. Raises Unavailable, and what `make` does."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                result = await make(self._redis)
        except (RedisError, TimeoutError, OSError) as error:
            raise Unavailable(
                f"{self._shared.what} cannot be changed now: Redis does not answer", retry_after=2.0
            ) from error
        await self._look()
        return result

    async def refresh(self) -> None:
        """Look now. Raises nothing."""
        await self._look()

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
                if not self.away:
                    logger.warning(
                        "Redis does not tell the %s; what was last known counts: %r", self._shared.what, error
                    )
                self.away = True
                return
            if self.away:
                logger.info("Redis tells the %s again", self._shared.what)
            self.away = False
            self._reached_at = self._clock()

    async def _read(self) -> None:
        shared = self._shared
        version = await shared.read_version(self._redis)
        fresh = self._clock() - self._read_at < RELOAD_S
        if self._version_read is not None and version == self._version_read and fresh:
            return
        found = await shared.read(self._redis)
        held, odd = shared.succeed(self.held, found)
        if odd and odd != self._odd:
            logger.warning("%s. Delete %s and start again to go by Redis alone.", odd, self._file)
        self._odd = odd
        if held != found and shared.restore is not None:
            await shared.restore(self._redis, held)
        changed = held != self.held
        self._version_read, self._read_at = found.version, self._clock()
        if changed:
            self._hold(held)
            try:
                await asyncio.to_thread(disk.save, self._file, held)
            except OSError as error:
                logger.warning("The %s cannot be kept in %s for when Redis is away: %s", shared.what, self._file, error)

    def _hold(self, held: T) -> None:
        before, self.held = self.held, held
        self._on_change(before, held)
