"""The scorer server's metrics, in a registry of their own. Names, types and labels are declared here, before use."""

from collections.abc import Callable
from dataclasses import dataclass

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
            "Tokens run in one batch, padding included, beginnings that inputs share once.",
            ["scorer"],
            buckets=_TOKENS,
            registry=self.registry,
        )
        self.padding_tokens = Counter(
            "bestow_scorer_padding_tokens",
            "Of the tokens run, those that only fill up a batch.",
            ["scorer"],
            registry=self.registry,
        )
        self.reused_tokens = Counter(
            "bestow_scorer_reused_tokens",
            "Tokens asked for that did not run, since others of a batch, or kept ones, begin with them.",
            ["scorer"],
            registry=self.registry,
        )
        self.cache_hits = Counter(
            "bestow_scorer_cache_hits",
            "Inputs answered by the score cache, or by an equal input that was running.",
            ["scorer"],
            registry=self.registry,
        )
        self.cache_misses = Counter(
            "bestow_scorer_cache_misses",
            "Inputs that the score cache did not know.",
            ["scorer"],
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "bestow_scorer_queue_depth", "Inputs waiting for the model.", ["scorer"], registry=self.registry
        )
        self.load_seconds = Gauge(
            "bestow_scorer_model_load_seconds", "Time to load the model.", ["scorer"], registry=self.registry
        )

    def observer(self, scorer: str) -> "BatchObserver":
        """What a backend calls after each batch. Tokens a second: batch_tokens_sum over forward_seconds_sum."""
        return BatchObserver(
            self.batch_items.labels(scorer),
            self.batch_tokens.labels(scorer),
            self.forward_seconds.labels(scorer),
            self.padding_tokens.labels(scorer),
            self.reused_tokens.labels(scorer),
        )

    def cached(self, scorer: str) -> Callable[[int, int], None]:
        """What a score cache calls after each call: hits, misses."""
        all_hits, all_misses = self.cache_hits.labels(scorer), self.cache_misses.labels(scorer)

        def count(hits: int, misses: int) -> None:
            all_hits.inc(hits)
            all_misses.inc(misses)

        return count

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


@dataclass(frozen=True, slots=True)
class BatchObserver:
    """Implements `scorers.loading.Observe` for one scorer."""

    items: Histogram
    tokens: Histogram
    seconds: Histogram
    padding: Counter
    reused: Counter

    def __call__(self, inputs: int, tokens: int, seconds: float, *, given: int | None = None) -> None:
        self.items.observe(inputs)
        self.tokens.observe(tokens)
        self.seconds.observe(seconds)
        if given is not None:
            self.padding.inc(max(0, tokens - given))
            self.reused.inc(max(0, given - tokens))
