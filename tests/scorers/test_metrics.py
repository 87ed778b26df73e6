"""What the scorer server counts of its batches and caches."""

from scorers.metrics import Metrics


def counted(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"bestow_scorer_{name}", {"scorer": "reward"})


def test_tokens_that_pad_and_tokens_that_are_shared_are_told_apart() -> None:
    metrics = Metrics()
    observe = metrics.observer("reward")
    observe(4, 120, 0.5, given=100)
    observe(8, 300, 0.25, given=1000)
    observe(1, 10, 0.25)
    assert counted(metrics, "batch_items_sum") == 13
    assert counted(metrics, "batch_tokens_sum") == 430
    assert counted(metrics, "forward_seconds_sum") == 1.0
    assert counted(metrics, "padding_tokens_total") == 20
    assert counted(metrics, "reused_tokens_total") == 700


def test_hits_and_misses_of_the_cache_are_counted() -> None:
    metrics = Metrics()
    count = metrics.cached("reward")
    count(3, 5)
    count(1, 0)
    assert counted(metrics, "cache_hits_total") == 4
    assert counted(metrics, "cache_misses_total") == 5
    assert b"bestow_scorer_cache_hits_total" in metrics.page()
