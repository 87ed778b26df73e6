"""Active health: what a worker says of itself, asked every few seconds.

A worker takes requests once it serves its policy and has all the adapters that it should. One that refuses
connections is down at once; one that is silent, several times in a row: on a machine whose cores are all sampling a
healthy worker can be late for a question, and while its tokens arrive it is alive. What waits for a worker that was
taken for dead fails at that moment, and is sampled elsewhere.
"""

import asyncio
import logging
import re
from collections.abc import Mapping

from gateway.errors import ApiError
from gateway.workers.adapters import ensure
from gateway.workers.client import NotServed, ServedModel, WorkerUnreachable, reason_of
from gateway.workers.engine_metrics import UnknownMetrics, UnknownMetricsLog, read_engine_load
from gateway.workers.metrics import PoolMetrics
from gateway.workers.worker import Worker

logger = logging.getLogger(__name__)

MISSES_UNTIL_DOWN = 3
ANSWER_WITHIN_S = 2.0


class HealthCheck:
    """Asks the workers of one policy, which must serve it under `served_name`."""

    def __init__(self, served_name: str, metrics: PoolMetrics) -> None:
        self._served_name = served_name
        self._metrics = metrics
        self._unknown = UnknownMetricsLog()

    async def look_at(self, worker: Worker, adapters: Mapping[str, str]) -> None:
        """Ask one worker, and mark it. adapters: those it should have, name -> path. Raises nothing."""
        asked = asyncio.get_running_loop().time()
        try:
            served = await _models(worker)
        except ApiError as error:
            self._missed(worker, error, asked)
            return
        worker.misses = 0
        if self._served_name not in served:
            self.mark(worker, False, f"it serves {', '.join(sorted(served)) or 'nothing'}, not {self._served_name}")
            return
        try:
            if not worker.up:
                worker.version = await worker.client.version()
            if await ensure(worker.client, served, adapters):
                served = await _models(worker)
        except ApiError as error:
            worker.unready = not isinstance(error, WorkerUnreachable)
            self.mark(worker, False, f"it does not get ready: {reason_of(error)}")
            return
        worker.models, worker.unready = served, False
        worker.alias = _alias(self._served_name, served)
        await self._read_load(worker)
        if not worker.up:
            # What it failed at before it was away says nothing of what runs now.
            worker.breaker.reset()
        self.mark(worker, True, "")

    def mark(self, worker: Worker, up: bool, reason: str) -> None:
        """Note whether a worker can be used, and why not."""
        if up != worker.up or reason != worker.reason:
            logger.info(
                "worker %s (%s) of %s is %s",
                worker.id,
                worker.name,
                self._served_name,
                "up" if up else f"down: {reason}",
            )
        if worker.up and not up:
            self._metrics.lost.labels(self._served_name, worker.id).inc()
            worker.load.report(None)
            worker.client.give_up()
        worker.up, worker.reason = up, reason

    def _missed(self, worker: Worker, error: ApiError, asked: float) -> None:
        refused = isinstance(error, WorkerUnreachable) and error.refused
        worker.unready = False
        if worker.up and not refused:
            if worker.client.heard_at >= asked:
                return  # Late for the question, but its tokens arrive.
            worker.misses += 1
            if worker.misses < MISSES_UNTIL_DOWN:
                return
        self.mark(worker, False, reason_of(error))

    async def _read_load(self, worker: Worker) -> None:
        try:
            found = read_engine_load(await worker.client.metrics(), worker.version)
        except NotServed:
            worker.load.report(None)
            return  # A server without metrics: our own requests are all that is known of its load.
        except ApiError:
            worker.load.report(None)
            return
        if isinstance(found, UnknownMetrics):
            self._metrics.unknown_metrics.labels(self._served_name, worker.id).inc()
            self._unknown.tell(worker.id, worker.version, found)
        worker.load.report(found.load if isinstance(found, UnknownMetrics) else found)


def _alias(policy: str, served: Mapping[str, ServedModel]) -> str | None:
    """`vllm serve WEIGHTS --served-model-name policy policy-vN`: both names stand for the same weights, version N."""
    version = re.compile(rf"{re.escape(policy)}-v[1-9][0-9]*")
    return next((name for name, one in served.items() if one.parent is None and version.fullmatch(name)), None)


async def _models(worker: Worker) -> dict[str, ServedModel]:
    return {model.id: model for model in await worker.client.served_models(ANSWER_WITHIN_S)}
