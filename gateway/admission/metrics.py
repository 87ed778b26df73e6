"""What admission counts, for every pool of a gateway."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.admission.tiers import TIERS, Tier

Reason = Literal["waited", "deadline", "queue_full"]

_WAITS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30)


class AdmissionMetrics:
    """Registered on `registry`, once a gateway."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waiting = Gauge(
            "bestow_admission_waiting", "Requests that wait for a place.", ["policy", "tier"], registry=registry
        )
        self._saturation = Gauge(
            "bestow_admission_saturation",
            "Share of the workers' places that are taken, other gateways' included; 1 where no worker is up.",
            ["policy"],
            registry=registry,
        )
        self._wait_seconds = Histogram(
            "bestow_admission_wait_seconds",
            "How long requests waited for a place that they got.",
            ["policy", "tier"],
            buckets=_WAITS,
            registry=registry,
        )
        self._rejected = Counter(
            "bestow_admission_rejected",
            "Requests turned away with a 429: waited (as long as any may), deadline (their own), queue_full.",
            ["policy", "tier", "reason"],
            registry=registry,
        )
        self._shrunk = Counter(
            "bestow_admission_shrunk",
            "Requests that got fewer candidates for the load.",
            ["policy"],
            registry=registry,
        )

    def watch(self, policy: str, *, waiting: Callable[[Tier], int], saturation: Callable[[], float]) -> None:
        """Gauges are read when they are scraped."""
        for tier in TIERS:
            self._waiting.labels(policy, tier).set_function(partial(waiting, tier))
        self._saturation.labels(policy).set_function(saturation)

    def admitted(self, policy: str, tier: Tier, waited_s: float, *, shrunk: bool) -> None:
        self._wait_seconds.labels(policy, tier).observe(waited_s)
        if shrunk:
            self._shrunk.labels(policy).inc()

    def rejected(self, policy: str, tier: Tier, reason: Reason) -> None:
        self._rejected.labels(policy, tier, reason).inc()
