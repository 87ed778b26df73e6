"""What shadow scoring counts. Scorers go by name, without their version."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class ShadowMetrics:
    """One for all shadow scorers of a process."""

    def __init__(self, registry: CollectorRegistry, queued: Callable[[], int]) -> None:
        self.requests = Counter(
            "bestow_shadow_requests",
            "Requests for a shadow scorer: scored; failed: it gave no score at all; dropped: too many waited.",
            ["scorer", "outcome"],
            registry=registry,
        )
        self.candidates = Counter(
            "bestow_shadow_candidates",
            "Candidates that shadow scorers were asked about.",
            ["scorer"],
            registry=registry,
        )
        self.failures = Counter(
            "bestow_shadow_failures", "Candidates that they gave no score.", ["scorer"], registry=registry
        )
        self.winners = Counter(
            "bestow_shadow_winners",
            "Requests by the winner that the shadow scorer would have chosen: same, other.",
            ["scorer", "winner"],
            registry=registry,
        )
        # Not tau itself: of negative numbers Prometheus keeps no sum, and so no mean.
        self.rank_distance = Histogram(
            "bestow_shadow_rank_distance",
            "(1 - tau_b) / 2 between its and the deciding order of a request's candidates: 0 same, 1 reversed.",
            ["scorer"],
            buckets=(0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0),
            registry=registry,
        )
        self.seconds = Histogram(
            "bestow_shadow_seconds",
            "Time of a shadow scorer for a request's candidates.",
            ["scorer"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15),
            registry=registry,
        )
        waiting = Gauge("bestow_shadow_queue", "Requests that wait for a shadow scorer.", registry=registry)
        waiting.set_function(queued)
