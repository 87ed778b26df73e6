"""One gateway's copy of the keys and tenants: follows Redis, outlives it, and answers who calls.

The version in Redis is asked for every second, so a revocation holds everywhere within a second or so. While Redis is
away the last known copy decides, also after a restart (`cache`).
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.asyncio import Redis

from gateway.access import cache, store
from gateway.access.caller import Caller
from gateway.access.changes import Decide
from gateway.access.door import Rules, identify
from gateway.access.snapshot import Snapshot, Tenant, succeed
from gateway.errors import Unauthorized, Unavailable
from gateway.shared.replica import POLL_S, Replica, Shared

logger = logging.getLogger(__name__)

SHARED = Shared("access", "API keys and tenants", Snapshot, store.read_version, store.read, succeed)

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
        self._rules = rules
        self._clock = clock
        self._known: Snapshot | None = None
        self._replica = Replica(
            redis, cache.cache_file(data_dir), SHARED, registry, self._hold, poll_s=poll_s, clock=clock
        )
        self._denied = Counter(
            "bestow_access_denied", "Requests without a good API key, by reason.", ["reason"], registry=registry
        )
        keys = Gauge("bestow_access_keys", "Usable API keys.", registry=registry)
        keys.set_function(self._usable)

    async def start(self) -> None:
        """Read the keys from Redis, else the last known ones; then follow. Raises nothing."""
        await self._replica.start()
        if self.open_to_all:
            logger.info(
                "There are no API keys: this gateway is open to this machine, and to no other. Make the first with "
                "`bestow keys create --name NAME --scope admin`; from then on every call needs one."
            )

    async def close(self) -> None:
        await self._replica.close()

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

    def tenant(self, name: str) -> Tenant | None:
        """None for one that is not known, and while none are."""
        return self._known.tenant(name) if self._known else None

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
        return await self._replica.change(lambda redis: store.change(redis, decide))

    def health(self) -> dict[str, Any]:
        """For /readyz."""
        return {
            "redis": "does not answer; the last known keys count" if self._replica.away else "ready",
            "keys": "unknown" if self._known is None else int(self._usable()),
        }

    @property
    def ready(self) -> bool:
        """Whether callers can be told apart."""
        return self._known is not None

    def _usable(self) -> float:
        known, now = self._known, self._clock()
        return float(sum(key.usable(now) for key in known.keys.values())) if known else 0.0

    def _hold(self, _: Snapshot | None, held: Snapshot) -> None:
        if self.open_to_all and held.has_keys:
            logger.info("There is an API key now: from here on every call needs one")
        self._known = held
