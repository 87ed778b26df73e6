"""Dynamic batching: whatever waits for a model when it is free is run together, in batches of similar length.

There is no artificial delay: an idle model takes a lone input at once, and while it runs, the next batch gathers. Each
model has one worker thread; the event loop only queues and hands out results.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from scorers.errors import Overloaded, ScorerError, ScorerFailed, ScorerUnavailable
from scorers.loading import Observe

Row = TypeVar("Row")

_MAX_PADDING = 0.5


def plan_batch(lengths: Sequence[int], max_batch_tokens: int) -> list[int]:
    """Indices of the inputs to run now, the oldest (index 0) always among them.

    `lengths` are token counts, oldest first, not empty. Grows from the oldest to its nearest in length, while the
    padded size (longest times count) is at most `max_batch_tokens` and padding is at most half of what is run. One
    input beyond `max_batch_tokens` runs alone.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    low = high = order.index(0)
    total = lengths[0]
    while True:
        below = lengths[order[low - 1]] if low > 0 else None
        above = lengths[order[high + 1]] if high + 1 < len(order) else None
        longest, shortest, count = lengths[order[high]], lengths[order[low]], high - low + 2
        take_above = above is not None and (below is None or above - longest < shortest - below)
        nearest = above if take_above else below
        if nearest is None:
            break
        padded = max(longest, nearest) * count
        if padded > max_batch_tokens or padded - (total + nearest) > _MAX_PADDING * padded:
            break
        total += nearest
        low, high = (low, high + 1) if take_above else (low - 1, high)
    return sorted(order[low : high + 1])


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Row]):
    ids: list[int]
    done: asyncio.Future[Row | ScorerError]


class Batcher(Generic[Row]):
    """Runs `forward` (one row of output an input) in a thread of its own. Make and use it inside one event loop."""

    def __init__(
        self,
        forward: Callable[[list[list[int]]], Sequence[Row]],
        *,
        max_batch_tokens: int,
        max_queue: int,
        name: str = "model",
        observe: Observe | None = None,
    ) -> None:
        self._forward = forward
        self._max_batch_tokens = max_batch_tokens
        self._max_queue = max_queue
        self._observe = observe
        self._queue: list[_Waiting[Row]] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"forward-{name}")
        self._closed = False

    @property
    def depth(self) -> int:
        """Inputs that wait."""
        return len(self._queue)

    async def run(self, inputs: Sequence[list[int]]) -> list[Row | ScorerError]:
        """One row an input, in order, or the ScorerFailed of the batch that held it.

        Cancelling it drops the inputs that have not begun. Raises Overloaded when the queue has no room for all of
        them (an empty queue takes any number), ScorerUnavailable after `close`.
        """
        if self._closed:
            raise ScorerUnavailable("The scorer is shutting down.")
        if self._queue and len(self._queue) + len(inputs) > self._max_queue:
            raise Overloaded(f"{len(self._queue)} inputs wait for this scorer, and {self._max_queue} are the most.")
        loop = asyncio.get_running_loop()
        waiting: list[_Waiting[Row]] = [_Waiting(ids, loop.create_future()) for ids in inputs]
        self._queue += waiting
        if waiting and self._worker is None:
            self._worker = loop.create_task(self._work())
        try:
            return [await one.done for one in waiting]
        finally:
            for one in waiting:  # after a cancellation, those that have not begun are dropped
                one.done.cancel()

    async def _work(self) -> None:
        try:
            while self._queue:
                self._queue = [one for one in self._queue if not one.done.done()]
                if not self._queue:
                    return
                chosen = plan_batch([len(one.ids) for one in self._queue], self._max_batch_tokens)
                batch = [self._queue[index] for index in chosen]
                left = set(chosen)
                self._queue = [one for index, one in enumerate(self._queue) if index not in left]
                await self._run_batch(batch)
        finally:
            self._worker = None

    async def _run_batch(self, batch: list[_Waiting[Row]]) -> None:
        loop = asyncio.get_running_loop()
        inputs = [one.ids for one in batch]
        began = time.perf_counter()
        try:
            rows = await loop.run_in_executor(self._thread, self._forward, inputs)
            if len(rows) != len(batch):
                raise ScorerFailed(f"The model answered {len(rows)} rows for {len(batch)} inputs.")
        except Exception as error:  # whatever a model raises, only this batch fails
            for one in batch:
                if not one.done.done():
                    one.done.set_result(_as_scorer_error(error))
            return
        for one, row in zip(batch, rows, strict=True):
            if not one.done.done():
                one.done.set_result(row)
        if self._observe is not None:
            self._observe(len(batch), max(map(len, inputs)) * len(batch), time.perf_counter() - began)

    async def close(self) -> None:
        """Take no more, finish what waits, end the thread."""
        self._closed = True
        if self._worker is not None:
            await asyncio.wait([self._worker])
        self._thread.shutdown(wait=False)


def _as_scorer_error(error: Exception) -> ScorerError:
    if isinstance(error, ScorerError):
        return error
    reason = " ".join(str(error).split()) or type(error).__name__
    failed = ScorerFailed(f"The model failed: {reason[:300]}")
    failed.__cause__ = error
    return failed
