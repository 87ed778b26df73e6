"""The workers of one policy: which are up, and which to send to.

Each worker is asked for its /v1/models every `interval_s`; one that does not serve the policy, or does not answer
several times in a row (a busy one may miss one), gets no requests until it does. A request goes to the worker with the
fewest running samples of ours; one that cannot be reached before it said anything is marked down and the next is tried.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from gateway.errors import ApiError, Unavailable
from gateway.tasks import end
from gateway.workers.client import CHAT_PATH, WorkerClient, WorkerUnreachable, reason_of
from gateway.workers.stream import Item

logger = logging.getLogger(__name__)

# On a machine whose cores are all sampling, a healthy worker can be late for a question; a dead one fails the next
# request's connection and is marked down by that.
MISSES_UNTIL_DOWN = 3


@dataclass(slots=True, eq=False)
class Worker:
    """One worker and what we know of it. `in_flight` counts the samples we asked of it and did not get yet."""

    client: WorkerClient
    up: bool = False
    reason: str = "not asked yet"
    max_model_len: int | None = None
    in_flight: int = 0
    misses: int = 0

    @property
    def name(self) -> str:
        """For logs and metrics, never for clients."""
        return self.client.url.removeprefix("http://").removeprefix("https://")


class WorkerPool:
    """The workers of the policy that they serve under `served_name`."""

    def __init__(self, served_name: str, clients: Sequence[WorkerClient], *, interval_s: float = 2.0) -> None:
        self.served_name = served_name
        self.workers = [Worker(client) for client in clients]
        self._interval_s = interval_s
        self._checks: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask every worker once, then keep asking in the background."""
        await self.check()
        self._checks = asyncio.create_task(self._keep_checking(), name=f"health of {self.served_name}")

    async def close(self) -> None:
        await end(self._checks)

    @property
    def ready(self) -> bool:
        return any(worker.up for worker in self.workers)

    @property
    def max_model_len(self) -> int | None:
        """The shortest context among the workers that are up, in tokens."""
        return min((w.max_model_len for w in self.workers if w.up and w.max_model_len), default=None)

    async def check(self) -> None:
        await asyncio.gather(*(self._check_one(worker) for worker in self.workers))

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.check()

    async def _check_one(self, worker: Worker) -> None:
        try:
            served = {model.id: model for model in await worker.client.served_models()}
        except ApiError as error:
            worker.misses += 1
            if not worker.up or worker.misses >= MISSES_UNTIL_DOWN:
                self._mark(worker, False, reason_of(error))
            return
        worker.misses = 0
        model = served.get(self.served_name)
        if model is None:
            self._mark(worker, False, f"it serves {', '.join(sorted(served)) or 'nothing'}, not {self.served_name}")
            return
        worker.max_model_len = model.max_model_len
        self._mark(worker, True, "")

    def _mark(self, worker: Worker, up: bool, reason: str) -> None:
        if up != worker.up or reason != worker.reason:
            logger.info("worker %s of %s is %s", worker.name, self.served_name, "up" if up else f"down: {reason}")
        worker.up, worker.reason = up, reason

    def choose(self, exclude: frozenset[Worker] = frozenset()) -> Worker:
        """The least loaded worker that is up. Raises Unavailable where there is none."""
        able = [worker for worker in self.workers if worker.up and worker not in exclude]
        if not able:
            raise Unavailable("no worker of this model is up; try again shortly", retry_after=2.0)
        return min(able, key=lambda worker: worker.in_flight)

    async def count_tokens(self, body: Mapping[str, Any]) -> int:
        """Tokens of a request's prompt. Raises ApiError."""
        return await self.choose().client.count_tokens({**body, "model": self.served_name})

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text that token ids stand for. Raises ApiError."""
        return await self.choose().client.detokenize(self.served_name, tokens)

    async def relay(self, path: str, body: Mapping[str, Any]) -> bytes:
        """A worker's own answer to a request that samples nothing. Tries another where one is gone. Raises ApiError."""
        tried: frozenset[Worker] = frozenset()
        while True:
            worker = self.choose(tried)
            worker.in_flight += 1
            try:
                return await worker.client.relay(path, {**body, "model": self.served_name})
            except WorkerUnreachable as error:
                self._mark(worker, False, reason_of(error))
                tried |= {worker}
            finally:
                worker.in_flight -= 1

    async def sample(
        self, body: Mapping[str, Any], n: int, *, path: str = CHAT_PATH, live: bool = False, streamable: bool = True
    ) -> AsyncGenerator[Item, None]:
        """n choices of a completion: their parts, each choice as it finishes, then what they used.

        live: token by token. streamable: whether vLLM streams what was asked for.
        Tries another worker while nothing was sampled. Raises ApiError.
        """
        tried: frozenset[Worker] = frozenset()
        while True:
            worker = self.choose(tried)
            # Counted before sending: a burst must not pick the same idle worker for all its requests.
            worker.in_flight += n
            begun = False
            request = {**body, "model": self.served_name, "n": n}
            try:
                if not streamable:
                    for item in await worker.client.complete(request, path=path):
                        yield item
                    return
                async with aclosing(worker.client.sample(request, path=path, live=live)) as items:
                    async for item in items:
                        begun = True
                        yield item
                return
            except WorkerUnreachable as error:
                self._mark(worker, False, reason_of(error))
                tried |= {worker}
                if begun:
                    raise
            finally:
                worker.in_flight -= n
