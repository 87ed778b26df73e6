"""Whether this gateway can answer: workers and scorers, asked in the background so that /readyz costs nothing."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from gateway.log.writer import RecordLog
from gateway.scoring import ScorerHandle
from gateway.tasks import end
from gateway.telemetry.metrics import Metrics
from gateway.workers.pool import WorkerPool


class Readiness:
    """Watches the scorers; the pools watch their workers themselves. scorers: those that are needed now.

    Redis is reported and not required: without it the log waits in the journal and answers go on.
    """

    def __init__(
        self,
        pools: Mapping[str, WorkerPool],
        scorers: Callable[[], Mapping[str, ScorerHandle]],
        log: RecordLog,
        metrics: Metrics,
        *,
        interval_s: float = 1.0,
    ) -> None:
        self._pools = pools
        self._scorers = scorers
        self._log = log
        self._metrics = metrics
        self._interval_s = interval_s
        self._scorer_ready = dict.fromkeys(scorers(), False)
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._look()
        self._task = asyncio.create_task(self._watch(), name="readiness")

    async def close(self) -> None:
        await end(self._task)

    def stop(self) -> None:
        """The process is about to end: load balancers must turn away, though it still answers."""
        self._stopping = True

    def report(self) -> dict[str, Any]:
        """status: ready, not_ready or stopping; and each part's state."""
        workers = {name: "ready" if pool.ready else "no worker is up" for name, pool in self._pools.items()}
        scorers = {name: "ready" if ready else "does not answer" for name, ready in self._scorer_ready.items()}
        ready = all(state == "ready" for state in (*workers.values(), *scorers.values()))
        log = self._log.health()
        waiting = "the journal" if log.journal else "memory (log.queue_records)"
        return {
            "status": "stopping" if self._stopping else "ready" if ready else "not_ready",
            "policies": workers,
            "scorers": scorers,
            "log": {
                "redis": "ready" if log.redis else f"does not answer; records wait in {waiting}",
                "journal": "ready" if log.journal else "cannot be written; records go to Redis from memory",
                "pending": log.pending + log.queued,
                "dropped": log.dropped,
                "lag_s": round(log.lag_s, 3),
            },
        }

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._look()

    async def _look(self) -> None:
        needed = self._scorers()
        found = await asyncio.gather(*(scorer.ready() for scorer in needed.values()))
        self._scorer_ready = dict(zip(needed, found, strict=True))
        for name, pool in self._pools.items():
            self._metrics.workers_up.labels(name).set(sum(worker.takes_new for worker in pool.workers))
