"""Dynamic batching: what waits for a model when it is free is run together.

Unless `wait_s` says otherwise there is no artificial delay: an idle model takes a lone input at once, and while it
runs, the next batch gathers. Each model has one worker thread, which runs with as many CPU threads as the server gives
to each of its models: a busy model shares the cores with the others as the operating system has it, and none waits for
another's batch to end. The event loop only queues, plans and hands out results.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from scorers.backends.plans import plan_padded
from scorers.errors import Overloaded, ScorerError, ScorerFailed, ScorerUnavailable
from scorers.loading import Observe

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Ran(Generic[Row]):
    """One row an input; tokens: positions that the model computed for them, padding included, shared ones once."""

    rows: Sequence[Row]
    tokens: int


Plan = Callable[[Sequence[list[int]], int], list[int]]
"""Which of the inputs that wait (oldest first) to run now, the oldest among them, and at most so many tokens."""


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Row]):
    ids: list[int]
    since: float
    done: asyncio.Future[Row | ScorerError]


class Batcher(Generic[Row]):
    """Runs `forward` in a thread of its own. Use it in one event loop at a time.

    wait_s: how long an input waits at most for others to fill a batch.
    """

    def __init__(
        self,
        forward: Callable[[list[list[int]]], Ran[Row]],
        *,
        max_batch_tokens: int,
        max_queue: int,
        plan: Plan = plan_padded,
        wait_s: float = 0.0,
        name: str = "model",
        observe: Observe | None = None,
    ) -> None:
        self._forward = forward
        self._max_batch_tokens = max_batch_tokens
        self._max_queue = max_queue
        self._plan = plan
        self._wait_s = wait_s
        self._observe = observe
        self._queue: list[_Waiting[Row]] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"forward-{name}")
        self._grown = asyncio.Event()
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
        waiting: list[_Waiting[Row]] = [_Waiting(ids, loop.time(), loop.create_future()) for ids in inputs]
        self._queue += waiting
        self._grown.set()
        if waiting and self._worker is None:
            self._worker = loop.create_task(self._work())
        try:
            return [await one.done for one in waiting]
        finally:
            for one in waiting:  # after a cancellation, those that have not begun are dropped
                one.done.cancel()

    async def _work(self) -> None:
        try:
            while True:
                await self._gather()
                self._drop_cancelled()
                if not self._queue:
                    return
                chosen = self._plan([one.ids for one in self._queue], self._max_batch_tokens)
                batch = [self._queue[index] for index in chosen]
                left = set(chosen)
                self._queue = [one for index, one in enumerate(self._queue) if index not in left]
                await self._run_batch(batch)
        finally:
            self._worker = None

    async def _gather(self) -> None:
        """Until the oldest has waited long enough, or what waits fills a batch."""
        loop = asyncio.get_running_loop()
        while self._wait_s and self._queue and not self._closed:
            self._drop_cancelled()
            left = min((one.since for one in self._queue), default=0.0) + self._wait_s - loop.time()
            if left <= 0 or sum(len(one.ids) for one in self._queue) >= self._max_batch_tokens:
                return
            self._grown = asyncio.Event()  # of this event loop
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._grown.wait(), left)

    def _drop_cancelled(self) -> None:
        self._queue = [one for one in self._queue if not one.done.done()]

    async def _run_batch(self, batch: list[_Waiting[Row]]) -> None:
        loop = asyncio.get_running_loop()
        inputs = [one.ids for one in batch]
        began = time.perf_counter()
        try:
            ran = await loop.run_in_executor(self._thread, self._forward, inputs)
            if len(ran.rows) != len(batch):
                raise ScorerFailed(f"The model answered {len(ran.rows)} rows for {len(batch)} inputs.")
        except Exception as error:  # whatever a model raises, only this batch fails
            for one in batch:
                if not one.done.done():
                    one.done.set_result(_as_scorer_error(error))
            return
        for one, row in zip(batch, ran.rows, strict=True):
            if not one.done.done():
                one.done.set_result(row)
        if self._observe is not None:
            given = sum(map(len, inputs))
            self._observe(len(batch), ran.tokens, time.perf_counter() - began, given=given)

    async def close(self) -> None:
        """Take no more, finish what waits, end the thread."""
        self._closed = True
        self._grown.set()
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
