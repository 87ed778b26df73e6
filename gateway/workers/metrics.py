"""The pools' metrics: what was tried again, and each worker as it is when asked. Workers go by id, not by address."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from gateway.workers.pool import WorkerPool

BREAKER = {"closed": 0.0, "half_open": 0.5, "open": 1.0}


class PoolMetrics:
    """One for all pools of a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.retries = Counter(
            "bestow_worker_retries",
            "Sampling requests sent again to another worker, by what the first one failed at.",
            ["policy", "reason"],
            registry=registry,
        )
        self.exhausted = Counter(
            "bestow_worker_retries_refused",
            "Sampling requests not sent again since the retry budget was spent.",
            ["policy"],
            registry=registry,
        )
        self.resampled = Counter(
            "bestow_worker_resampled_candidates",
            "Candidates lost with a worker and asked of another one.",
            ["policy"],
            registry=registry,
        )
        self.continued = Counter(
            "bestow_worker_continued_streams",
            "Live streams that lost their worker; yes: they went on elsewhere, no: they ended in an error.",
            ["policy", "continued"],
            registry=registry,
        )
        self.lost = Counter(
            "bestow_worker_down",
            "Times that a worker was taken out of service.",
            ["policy", "worker"],
            registry=registry,
        )
        self.lookups_failed = Counter(
            "bestow_worker_lookups_failed",
            "Look-ups of a name that stands for workers, which failed or found nothing; the known addresses stay.",
            ["policy"],
            registry=registry,
        )
        self.unknown_metrics = Counter(
            "bestow_worker_metrics_unknown",
            "Readings of a worker's /metrics in which no known load metric was found.",
            ["policy", "worker"],
            registry=registry,
        )


class WorkersCollector(Collector):
    """A line for each worker that there is now."""

    def __init__(self, pools: Sequence["WorkerPool"]) -> None:
        self._pools = pools

    def collect(self) -> Iterable[GaugeMetricFamily]:
        labels = ["policy", "worker"]
        up = GaugeMetricFamily("bestow_worker_up", "Whether a worker takes requests.", labels=labels)
        breaker = GaugeMetricFamily(
            "bestow_worker_breaker", "Circuit breaker: 0 closed, 0.5 half-open, 1 open.", labels=labels
        )
        sequences = GaugeMetricFamily(
            "bestow_worker_sequences", "Candidates this gateway has running on a worker.", labels=labels
        )
        load = GaugeMetricFamily(
            "bestow_worker_load_tokens", "Tokens a worker has before it, other gateways' included.", labels=labels
        )
        for pool in self._pools:
            for worker in pool.workers:
                key = [pool.served_name, worker.id]
                up.add_metric(key, float(worker.takes_new))
                breaker.add_metric(key, BREAKER[worker.breaker.state])
                sequences.add_metric(key, float(worker.load.sequences))
                load.add_metric(key, worker.load.score())
        return [up, breaker, sequences, load]
