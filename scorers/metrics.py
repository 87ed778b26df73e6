"""The scorer server's metrics, in a registry of their own. Names, types and labels are declared here, before use."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_TOKENS = (16, 64, 256, 1024, 2048, 4096, 8192, 16384, 65536)
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.scores = Counter(
            "bestow_scorer_scores",
            "Scores given, by outcome: value, categories or error.",
            ["scorer", "outcome"],
            registry=self.registry,
        )
        self.tokens = Counter("bestow_scorer_tokens", "Token ids read.", ["scorer"], registry=self.registry)
        self.errors = Counter("bestow_scorer_errors", "Requests refused or failed.", ["code"], registry=self.registry)
        self.request_seconds = Histogram(
            "bestow_scorer_request_seconds",
            "Time from a request's last byte to its scores.",
            ["scorer"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.forward_seconds = Histogram(
            "bestow_scorer_forward_seconds",
            "Time of one batch in the model.",
            ["scorer"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_items = Histogram(
            "bestow_scorer_batch_items",
            "Inputs in one batch.",
            ["scorer"],
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        )
        self.batch_tokens = Histogram(
            "bestow_scorer_batch_tokens",
            "Padded tokens in one batch.",
            ["scorer"],
            buckets=_TOKENS,
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "bestow_scorer_queue_depth", "Inputs waiting for the model.", ["scorer"], registry=self.registry
        )
        self.load_seconds = Gauge(
            "bestow_scorer_model_load_seconds", "Time to load the model.", ["scorer"], registry=self.registry
        )

    def observer(self, scorer: str) -> Callable[[int, int, float], None]:
        """What a batcher calls after each batch: inputs, padded tokens, seconds."""
        items, tokens = self.batch_items.labels(scorer), self.batch_tokens.labels(scorer)
        seconds = self.forward_seconds.labels(scorer)

        def observe(batch_items: int, batch_tokens: int, forward_seconds: float) -> None:
            items.observe(batch_items)
            tokens.observe(batch_tokens)
            seconds.observe(forward_seconds)

        return observe

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
