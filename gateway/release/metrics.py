"""What releases count and show: each metric declared once."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.release.state import Arm, Canary, ReleaseState

_PHASES = {"preparing": 0.0, "shadow": 0.1, "canary": 1.0, "watch": 100.0}


class ReleaseMetrics:
    """One for a process. state: what is released. clock: seconds since 1970."""

    def __init__(
        self, registry: CollectorRegistry, state: Callable[[], ReleaseState], clock: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._state = state
        self._read_at: float | None = None
        self.moves = Counter(
            "bestow_release_moves",
            "Moves of releases that this gateway made: submitted, prepared, stage, promoted, rolled_back, ...",
            ["model", "act"],
            registry=registry,
        )
        self.users = Gauge(
            "bestow_release_users",
            "Users in either group of the running stage, as this gateway read it last.",
            ["model", "arm"],
            registry=registry,
        )
        self.leader = Gauge(
            "bestow_release_leader", "Whether this gateway is the one that moves releases on.", registry=registry
        )
        self.failures = Counter(
            "bestow_release_failures",
            "Rounds of the leader that could not be finished, by what failed.",
            ["reason"],
            registry=registry,
        )
        self.webhooks = Counter(
            "bestow_release_webhooks",
            "Moves sent to release.webhook: delivered, failed.",
            ["result"],
            registry=registry,
        )
        age = Gauge(
            "bestow_release_evidence_age_seconds",
            "Time since this gateway, while it led, last read what users did; 0 at the others.",
            registry=registry,
        )
        age.set_function(lambda: max(0.0, clock() - self._read_at) if self._read_at is not None else 0.0)
        safe = Gauge("bestow_release_safe_mode", "Whether safe mode is on.", registry=registry)
        safe.set_function(lambda: float(state().safe_mode is not None))
        self._stage = Gauge(
            "bestow_release_stage",
            "Where a challenger is: 0 preparing, 0.1 shadow, 1 the first stage, 2 the second, ...; 100 watch; -1 none.",
            ["model"],
            registry=registry,
        )

    def evidence_read(self, at: float | None) -> None:
        """at: when; None: this gateway does not lead."""
        self._read_at = at

    def show(self, users: Mapping[str, Mapping[Arm, int]]) -> None:
        """Each model as it is. users: of those that have a running stage."""
        for model, one in self._state().models.items():
            canary = one.canary
            self._stage.labels(model).set(_place(canary) if canary else -1.0)
            for arm in ("challenger", "control"):
                self.users.labels(model, arm).set(users.get(model, {}).get(arm, 0))


def _place(canary: Canary) -> float:
    return _PHASES[canary.phase] + (canary.stage if canary.phase == "canary" else 0)
