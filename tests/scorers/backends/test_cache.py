"""The score cache: what is known is not run again, and nothing else is known."""

import asyncio
import math
from collections.abc import Sequence

import pytest

from scorers.backend import Row
from scorers.backends.cache import CachedBackend
from scorers.errors import Overloaded, ScorerError, ScorerFailed


class Slow:
    """Answers an input with its first id once it is let; fails on 13, and knows no number for 14."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()
        self.runs: list[list[list[int]]] = []
        self.cancelled = 0
        self.refuses = False
        self.closed = False

    @property
    def depth(self) -> int:
        return 3

    async def run(self, inputs: Sequence[list[int]]) -> list[Row | ScorerError]:
        if self.refuses:
            raise Overloaded("full")
        self.runs.append(list(inputs))
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return [self._row(ids[0]) for ids in inputs]

    def _row(self, first: int) -> Row | ScorerError:
        if first == 13:
            return ScorerFailed("unlucky")
        return [math.nan if first == 14 else float(first)]

    async def close(self) -> None:
        self.closed = True


async def test_known_inputs_are_not_run_again_and_order_is_kept() -> None:
    counted: list[tuple[int, int]] = []
    slow = Slow()
    cache = CachedBackend(slow, 10, lambda hits, misses: counted.append((hits, misses)))
    assert await cache.run([[1], [2], [1]]) == [[1.0], [2.0], [1.0]]
    assert await cache.run([[3], [2], [1]]) == [[3.0], [2.0], [1.0]]
    assert slow.runs == [[[1], [2]], [[3]]]
    assert counted == [(1, 2), (2, 1)]
    assert cache.depth == 3


async def test_inputs_of_other_lengths_are_other_inputs() -> None:
    slow = Slow()
    cache = CachedBackend(slow, 10)
    await cache.run([[1, 0], [1], [1, 0, 0]])
    assert slow.runs == [[[1, 0], [1], [1, 0, 0]]]


async def test_errors_and_numbers_that_are_not_finite_are_not_kept() -> None:
    slow = Slow()
    cache = CachedBackend(slow, 10)
    for _ in range(2):
        [failed, without_number, fine] = await cache.run([[13], [14], [1]])
        assert isinstance(failed, ScorerFailed)
        assert isinstance(without_number, list) and math.isnan(without_number[0])
        assert fine == [1.0]
    assert slow.runs == [[[13], [14], [1]], [[13], [14]]]


async def test_a_refusal_is_not_kept() -> None:
    slow = Slow()
    cache = CachedBackend(slow, 10)
    slow.refuses = True
    with pytest.raises(Overloaded):
        await cache.run([[1]])
    slow.refuses = False
    assert await cache.run([[1]]) == [[1.0]]


async def test_the_rows_used_last_are_kept() -> None:
    slow = Slow()
    cache = CachedBackend(slow, 2)
    for ids in ([1], [2], [1], [3], [1], [2]):
        await cache.run([ids])
    assert slow.runs == [[[1]], [[2]], [[3]], [[2]]]


async def test_equal_inputs_at_once_run_once() -> None:
    slow = Slow()
    cache = CachedBackend(slow, 10)
    slow.free.clear()
    calls = [asyncio.create_task(cache.run([[1], [number]])) for number in (2, 3)]
    await asyncio.sleep(0.01)
    slow.free.set()
    assert [await call for call in calls] == [[[1.0], [2.0]], [[1.0], [3.0]]]
    assert slow.runs == [[[1], [2]], [[3]]]


async def test_one_that_goes_leaves_what_another_waits_for() -> None:
    slow = Slow()
    cache = CachedBackend(slow, 10)
    slow.free.clear()
    goes = asyncio.create_task(cache.run([[1]]))
    await asyncio.sleep(0)
    stays = asyncio.create_task(cache.run([[1]]))
    await asyncio.sleep(0)
    goes.cancel()
    await asyncio.sleep(0.01)
    slow.free.set()
    assert await stays == [[1.0]]
    assert (len(slow.runs), slow.cancelled) == (1, 0)


async def test_what_nobody_waits_for_any_more_is_dropped_and_runs_for_who_comes_next() -> None:
    slow = Slow()
    cache = CachedBackend(slow, 10)
    slow.free.clear()
    goes = asyncio.create_task(cache.run([[1]]))
    await asyncio.sleep(0.01)
    goes.cancel()
    with pytest.raises(asyncio.CancelledError):
        await goes
    later = asyncio.create_task(cache.run([[1]]))
    await asyncio.sleep(0.01)
    slow.free.set()
    assert await later == [[1.0]]
    assert (len(slow.runs), slow.cancelled) == (2, 1)


async def test_closing_closes_what_is_behind() -> None:
    slow = Slow()
    await CachedBackend(slow, 10).close()
    assert slow.closed
