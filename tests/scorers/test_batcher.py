"""Dynamic batching: what is run together, and what failures and cancellations do."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorers.batcher import Batcher, plan_batch
from scorers.errors import Overloaded, ScorerError, ScorerFailed, ScorerUnavailable

Rows = list[int | ScorerError]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(16, 1000))
def test_a_planned_batch_holds_the_oldest_within_the_limit(lengths: list[int], most: int) -> None:
    batch = plan_batch(lengths, most)
    assert batch[0] == 0
    assert batch == sorted(set(batch))
    padded = max(lengths[index] for index in batch) * len(batch)
    assert len(batch) == 1 or padded <= most
    assert 2 * sum(lengths[index] for index in batch) >= padded


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(16, 1000))
def test_batches_planned_one_after_the_other_run_each_input_once(lengths: list[int], most: int) -> None:
    left, ran = list(enumerate(lengths)), []
    while left:
        batch = set(plan_batch([length for _, length in left], most))
        ran += [left[index][0] for index in batch]
        left = [one for index, one in enumerate(left) if index not in batch]
    assert sorted(ran) == list(range(len(lengths)))


def test_equal_lengths_fill_a_batch() -> None:
    assert plan_batch([10] * 9, 50) == [0, 1, 2, 3, 4]


def test_a_long_input_does_not_pad_the_short_ones() -> None:
    assert plan_batch([10, 500, 11], 8192) == [0, 2]


class Model:
    """Answers with the first id of each input; can be held, and fails on a negative id."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.begun = threading.Event()
        self.batches: list[list[int]] = []

    def forward(self, inputs: list[list[int]]) -> Sequence[int]:
        self.batches.append([ids[0] for ids in inputs])
        self.begun.set()
        self.free.wait(5)
        if any(ids[0] < 0 for ids in inputs):
            raise RuntimeError("boom\nin the model")
        return [ids[0] for ids in inputs]


def batcher(model: Model, *, max_queue: int = 100, max_batch_tokens: int = 100) -> Batcher[int]:
    return Batcher(model.forward, max_batch_tokens=max_batch_tokens, max_queue=max_queue)


async def hold(model: Model, batches: Batcher[int], first: int = 1) -> asyncio.Task[Rows]:
    """The model busy with one input until `model.free` is set."""
    model.free.clear()
    busy = asyncio.create_task(batches.run([[first]]))
    await asyncio.to_thread(model.begun.wait, 5)
    return busy


async def test_an_idle_model_takes_a_lone_input_and_what_gathers_meanwhile_runs_together() -> None:
    model = Model()
    batches = batcher(model)
    busy = await hold(model, batches)
    others = [asyncio.create_task(batches.run([[number]])) for number in (2, 3, 4)]
    await asyncio.sleep(0.01)
    assert batches.depth == 3
    model.free.set()
    assert [await one for one in (busy, *others)] == [[1], [2], [3], [4]]
    assert model.batches == [[1], [2, 3, 4]]
    assert batches.depth == 0


async def test_rows_come_back_in_the_order_of_the_inputs() -> None:
    model = Model()
    lengths = [9, 1, 40, 3, 22, 2]
    inputs = [[index] * length for index, length in enumerate(lengths)]
    assert await batcher(model, max_batch_tokens=16).run(inputs) == [0, 1, 2, 3, 4, 5]


async def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    model = Model()
    batches = batcher(model, max_queue=2)
    busy = await hold(model, batches)
    waiting = asyncio.create_task(batches.run([[2], [3]]))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batches.run([[4]])
    model.free.set()
    assert [await busy, await waiting] == [[1], [2, 3]]


async def test_a_cancelled_input_is_not_run() -> None:
    model = Model()
    batches = batcher(model)
    busy = await hold(model, batches)
    gone = asyncio.create_task(batches.run([[2]]))
    stays = asyncio.create_task(batches.run([[3]]))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    model.free.set()
    assert [await busy, await stays] == [[1], [3]]
    assert model.batches == [[1], [3]]


async def test_a_cancelled_input_that_has_begun_harms_nobody() -> None:
    model = Model()
    batches = batcher(model)
    busy = await hold(model, batches)
    busy.cancel()
    await asyncio.sleep(0)
    model.free.set()
    assert await batches.run([[2]]) == [2]


async def test_a_failing_batch_fails_its_own_inputs_only() -> None:
    model = Model()
    batches = batcher(model)
    busy = await hold(model, batches, first=-1)
    after = asyncio.create_task(batches.run([[2]]))
    await asyncio.sleep(0)
    model.free.set()
    [failed] = await busy
    assert isinstance(failed, ScorerFailed)
    assert str(failed) == "The model failed: boom in the model"
    assert await after == [2]


async def test_a_model_that_answers_too_few_rows_has_failed() -> None:
    batches: Batcher[int] = Batcher(lambda inputs: [1], max_batch_tokens=100, max_queue=10)
    assert all(isinstance(row, ScorerFailed) for row in await batches.run([[1], [2]]))


async def test_closing_finishes_what_waits_and_takes_no_more() -> None:
    model = Model()
    batches = batcher(model)
    busy = await hold(model, batches)
    waiting = asyncio.create_task(batches.run([[2]]))
    await asyncio.sleep(0)
    closing = asyncio.create_task(batches.close())
    await asyncio.sleep(0)
    with pytest.raises(ScorerUnavailable):
        await batches.run([[3]])
    model.free.set()
    await closing
    assert [await busy, await waiting] == [[1], [2]]


async def test_batches_are_observed() -> None:
    seen: list[tuple[int, int]] = []
    batches: Batcher[int] = Batcher(
        Model().forward,
        max_batch_tokens=100,
        max_queue=10,
        observe=lambda items, tokens, seconds: seen.append((items, tokens)),
    )
    await batches.run([[1, 1], [2, 2, 2]])
    assert seen == [(2, 6)]
