"""The backend of a scorer's settings: the head that it asks for, with a cache and counts."""

from pathlib import Path

import pytest

from scorers.backend import NextToken, Pooled
from scorers.backends.opening import open_backend
from scorers.batcher import Batcher
from scorers.loading import Loading
from scorers.metrics import Metrics
from scorers.model_files import load_files
from scorers.settings import ScorerServerConfig
from tests.scorers.models import make_causal


def loading(metrics: Metrics, cache_entries: int) -> Loading:
    server = ScorerServerConfig(threads=1, cache_entries=cache_entries)
    return Loading(server, metrics.observer("it"), {}, metrics.cached("it"))


def counted(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"bestow_scorer_{name}", {"scorer": "it"})


async def test_what_was_scored_before_is_answered_from_the_cache(reward_folder: Path) -> None:
    metrics = Metrics()
    files = load_files(str(reward_folder))
    backend, about = open_backend("it", files, Pooled(), loading(metrics, 10), dtype="float32", vllm=None)
    assert about == "on cpu, float32, packed, beginnings shared"
    first = await backend.run([[5, 6, 7], [8]])
    assert await backend.run([[8], [5, 6, 7]]) == first[::-1]
    assert (counted(metrics, "cache_hits_total"), counted(metrics, "cache_misses_total")) == (2, 2)
    assert counted(metrics, "batch_items_sum") == 2
    await backend.close()


async def test_without_entries_there_is_no_cache(reward_folder: Path) -> None:
    metrics = Metrics()
    files = load_files(str(reward_folder))
    backend, _ = open_backend("it", files, Pooled(), loading(metrics, 0), dtype="bfloat16", vllm=None)
    assert isinstance(backend, Batcher)
    assert await backend.run([[5]]) == await backend.run([[5]])
    assert counted(metrics, "batch_items_sum") == 2
    await backend.close()


async def test_a_language_model_answers_log_probabilities_of_the_next_token(tmp_path: Path) -> None:
    files = load_files(str(make_causal(tmp_path)))
    head = NextToken(tuple(range(files.config.vocab_size)))
    backend, _ = open_backend("it", files, head, loading(Metrics(), 10), dtype="float32", vllm=None)
    [row] = await backend.run([[5, 6, 7]])
    assert isinstance(row, list)
    assert sum(2.718281828459045**value for value in row) == pytest.approx(1.0, abs=1e-4)
    await backend.close()
