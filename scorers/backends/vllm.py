"""Runs the weights at a vLLM server: token ids go there, rows come back. See `scorers.backend`.

vLLM batches what it is sent across requests by itself, and shares the prefixes that inputs have in common where the
model allows it. Here, the inputs of one call go in requests of a bounded number of tokens, so many at once.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from scorers.backend import Row
from scorers.backends.vllm_client import Refused, VllmClient
from scorers.backends.vllm_wire import Broken, Wire
from scorers.errors import Overloaded, ScorerError, ScorerFailed, ScorerUnavailable
from scorers.loading import Observe

_AT_ONCE = 16
# What one input of a batch can cause for all of them: vLLM 0.32 answers a NaN in /classify with a 400.
_ONE_AT_FAULT = frozenset({400, 413, 422, 500})


@dataclass(frozen=True, slots=True)
class Limits:
    """batch_tokens: in one request. waiting: inputs not yet sent, beyond which more are refused. context: the longest
    input that the server reads, where it says so."""

    batch_tokens: int
    waiting: int
    context: int | None


class VllmBackend:
    """Implements `scorers.backend.Backend`. Use it in one event loop at a time."""

    def __init__(
        self, name: str, client: VllmClient, wire: Wire, limits: Limits, observe: Observe | None = None
    ) -> None:
        self._name = name
        self._client = client
        self._wire = wire
        self._limits = limits
        self._observe = observe
        self._waiting = 0
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[asyncio.Task[list[Row | ScorerError]]] = set()
        self._closed = False

    @property
    def depth(self) -> int:
        """Inputs not yet sent."""
        return self._waiting

    async def run(self, inputs: Sequence[list[int]]) -> list[Row | ScorerError]:
        """One row an input, in order, or why it has none: the input's own fault, or what befell its request.

        Cancelling it closes its requests. Raises Overloaded when too many inputs wait here already (an empty queue
        takes any number), ScorerUnavailable after `close`.
        """
        if self._closed:
            raise ScorerUnavailable("The scorer is shutting down.")
        if self._waiting and self._waiting + len(inputs) > self._limits.waiting:
            raise Overloaded(f"{self._waiting} inputs wait for this scorer, and {self._limits.waiting} are the most.")
        self._enter_loop()
        rows: list[Row | ScorerError] = [self._unfit(ids) or [] for ids in inputs]
        fit = [index for index, row in enumerate(rows) if not isinstance(row, ScorerError)]
        lengths = [len(inputs[index]) for index in fit]
        batches = [[fit[at] for at in batch] for batch in plan_requests(lengths, self._limits.batch_tokens)]
        tasks = [asyncio.ensure_future(self._rows([inputs[index] for index in batch])) for batch in batches]
        self._running.update(tasks)
        try:
            for batch, answered in zip(batches, await asyncio.gather(*tasks), strict=True):
                for index, row in zip(batch, answered, strict=True):
                    rows[index] = row
        finally:
            for task in tasks:
                task.cancel()
            self._running.difference_update(tasks)
        return rows

    async def close(self) -> None:
        """Take no more, finish what waits, close the connections."""
        self._closed = True
        if self._running:
            await asyncio.wait(set(self._running))
        await self._client.close()

    def _enter_loop(self) -> None:
        """What waited in an event loop that has ended does not count in this one."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._turns = loop, asyncio.Semaphore(_AT_ONCE)

    def _unfit(self, ids: list[int]) -> ScorerFailed | None:
        if not ids:
            return ScorerFailed("An input has no tokens.")
        context = self._limits.context
        if context is not None and len(ids) + self._wire.room > context:
            longest = context - self._wire.room
            return ScorerFailed(f"The input has {len(ids)} tokens, the vLLM server reads at most {longest}.")
        return None

    async def _rows(self, batch: list[list[int]]) -> list[Row | ScorerError]:
        """One row or error an input. Where one may be at fault for all, halves are asked for until it is alone."""
        try:
            return [self._finite(row) for row in await self._ask(batch)]
        except Refused as error:
            if len(batch) == 1 or error.http_status not in _ONE_AT_FAULT:
                return [self._as_answered(error)] * len(batch)
        except ScorerError as error:
            return [error] * len(batch)
        middle = len(batch) // 2
        return await self._rows(batch[:middle]) + await self._rows(batch[middle:])

    async def _ask(self, batch: list[list[int]]) -> list[Row]:
        self._waiting += len(batch)
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= len(batch)
        try:
            began = time.perf_counter()
            answer = await self._client.post(self._wire.path, self._wire.body(batch))
            rows = self._wire.rows(answer, batch)
        except Broken as error:
            raise ScorerFailed(f"The vLLM server of the scorer {self._name} answered {error}.") from error
        finally:
            self._turns.release()
        if self._observe is not None:
            self._observe(len(batch), sum(map(len, batch)), time.perf_counter() - began)
        return rows

    def _finite(self, row: Row) -> Row | ScorerError:
        if all(map(math.isfinite, row)):
            return row
        return ScorerFailed(f"The vLLM server of the scorer {self._name} answered a number that is not finite.")

    def _as_answered(self, error: Refused) -> ScorerError:
        """A server that knows the model, or the route, no more is another one than that which was checked."""
        if error.http_status in (404, 501):
            return ScorerUnavailable(f"The vLLM server of the scorer {self._name} serves its model no more.")
        return error


def plan_requests(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices of the inputs of each request, in order, each of at most `batch_tokens` tokens or a single input."""
    batches: list[list[int]] = []
    total = 0
    for index, length in enumerate(lengths):
        if not batches or total + length > batch_tokens:
            batches.append([])
            total = 0
        batches[-1].append(index)
        total += length
    return batches
