"""Dynamic batching: what is run together, and what failures and cancellations do."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from scorers.batcher import Batcher, Ran
from scorers.errors import Overloaded, ScorerError, ScorerFailed, ScorerUnavailable

Rows = list[int | ScorerError]


class Model:
    """Answers with the first id of each input; can be held, and fails on a negative id."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.begun = threading.Event()
        self.batches: list[list[int]] = []

    def forward(self, inputs: list[list[int]]) -> Ran[int]:
        self.batches.append([ids[0] for ids in inputs])
        self.begun.set()
        self.free.wait(5)
        if any(ids[0] < 0 for ids in inputs):
            raise RuntimeError("boom\nin the model")
        return Ran([ids[0] for ids in inputs], 100)


def batcher(model: Model, *, max_queue: int = 100, max_batch_tokens: int = 100, wait_s: float = 0.0) -> Batcher[int]:
    return Batcher(model.forward, max_batch_tokens=max_batch_tokens, max_queue=max_queue, wait_s=wait_s)


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
    batches: Batcher[int] = Batcher(lambda inputs: Ran([1], 1), max_batch_tokens=100, max_queue=10)
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
    seen: list[tuple[int, int, int | None]] = []

    def observe(inputs: int, tokens: int, seconds: float, *, given: int | None = None) -> None:
        seen.append((inputs, tokens, given))

    batches: Batcher[int] = Batcher(Model().forward, max_batch_tokens=100, max_queue=10, observe=observe)
    await batches.run([[1, 1], [2, 2, 2]])
    assert seen == [(2, 100, 5)]


async def test_what_runs_together_is_planned_from_what_waits_oldest_first() -> None:
    model = Model()
    asked: list[tuple[int, int]] = []

    def last_two(inputs: Sequence[list[int]], most: int) -> list[int]:
        asked.append((len(inputs), most))
        return [0, len(inputs) - 1] if len(inputs) > 1 else [0]

    batches: Batcher[int] = Batcher(model.forward, plan=last_two, max_batch_tokens=77, max_queue=10)
    assert await batches.run([[1], [2], [3]]) == [1, 2, 3]
    assert model.batches == [[1, 3], [2]]
    assert asked == [(3, 77), (1, 77)]


async def test_with_a_wait_lone_inputs_gather() -> None:
    model = Model()
    batches = batcher(model, wait_s=0.2)
    calls = []
    for number in (1, 2, 3):
        calls.append(asyncio.create_task(batches.run([[number]])))
        await asyncio.sleep(0.01)
    assert [await call for call in calls] == [[1], [2], [3]]
    assert model.batches == [[1, 2, 3]]


async def test_the_wait_ends_once_a_batch_is_full_and_when_it_closes() -> None:
    model = Model()
    batches = batcher(model, max_batch_tokens=4, wait_s=60)
    assert await batches.run([[1] * 4]) == [1]
    waiting = asyncio.create_task(batches.run([[2]]))
    await asyncio.sleep(0.01)
    assert model.batches == [[1]]
    await batches.close()
    assert await waiting == [2]


async def test_an_input_that_is_cancelled_while_it_waits_for_others_is_not_run() -> None:
    model = Model()
    batches = batcher(model, wait_s=0.05)
    gone = asyncio.create_task(batches.run([[1]]))
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.sleep(0.1)
    assert model.batches == []
    assert await batches.run([[2]]) == [2]


async def test_a_busy_model_does_not_keep_another_waiting() -> None:
    busy, idle = Model(), Model()
    slow, fast = batcher(busy), batcher(idle)
    held = await hold(busy, slow)
    assert await fast.run([[7]]) == [7]
    assert not held.done()
    busy.free.set()
    await held
