"""One sampling request over the workers of a pool: split where n is large, sampled again elsewhere where one is lost.

A part of the candidates is one vLLM request with n: the prefill is shared, and with a large `stream_interval` each
choice arrives in few chunks (measured: tests/bench/fan_out.py). Candidates whose worker fails are asked of another one
with the seeds they had, while the others go on; a live stream goes on from its token ids (`continuation`).

What is tried again: whatever a worker failed at by itself (no connection, a broken one, silence, 5xx, 429), never a
client's mistake. Once for free where the connection was lost, since that worker's load is gone; otherwise as the
retry budget allows, so that retries never amplify an overload; never beyond the deadline. A connection lost while
sampling is tried again once only: it may be this very request that kills workers.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gateway.errors import ApiError, BadRequest, RateLimited, Unavailable, WorkerError
from gateway.workers.client import CHAT_PATH, COMPLETIONS_PATH, NotServed, WorkerUnreachable
from gateway.workers.continuation import continuation
from gateway.workers.merge import merged
from gateway.workers.prefix import prefix_key
from gateway.workers.stream import Accumulator, Choice, Item, Part, SampleEnd, SampleStart, WorkerLost
from gateway.workers.worker import Worker

if TYPE_CHECKING:
    from gateway.workers.pool import WorkerPool

logger = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
_LOST_WHILE_SAMPLING = 1
# A byte of a prompt costs about as much as this many sampled tokens: some four bytes are a token, and one is read about
# ten times as fast as it is sampled.
_TOKENS_A_BYTE = 0.1 / 4


@dataclass(frozen=True, slots=True)
class Order:
    """What to sample. body: the worker's, without model and n; its `seed` is the first candidate's.

    live: token by token. streamable: whether vLLM streams what was asked for. deadline: on the event loop's clock.
    prompt_bytes: about how long the prompt is. adapter: which of the policy's, or the policy itself.
    interval: tokens between two parts of the one candidate that is asked for, of which every part counts: where it is
    sampled again elsewhere, another SampleStart says that its parts begin anew.
    prompts: for text completions, prompts in token ids instead of the body's, with n candidates each: candidate j of
    prompt i is number i n + j, and has the seed of candidate j of any other.
    prefix: the request whose beginning says which worker has read it, where that is not the body.
    logprobs: ask for those of the sampled tokens, whatever the body says.
    """

    body: Mapping[str, Any]
    n: int
    path: str = CHAT_PATH
    live: bool = False
    streamable: bool = True
    deadline: float = float("inf")
    prompt_bytes: int = 0
    adapter: str | None = None
    interval: int | None = None
    prompts: Sequence[Sequence[int]] = ()
    prefix: Mapping[str, Any] | None = None
    logprobs: bool = False

    @property
    def candidates(self) -> int:
        return self.n * max(1, len(self.prompts))


@dataclass(slots=True)
class _Attempt:
    """One request to one worker for the candidates `wanted`, in the order of its choices."""

    wanted: tuple[int, ...]
    body: Mapping[str, Any]
    path: str
    worker: Worker | None = None
    finished: set[int] = field(default_factory=set)
    tokens: int = 0
    end: SampleEnd | None = None

    @property
    def missing(self) -> tuple[int, ...]:
        return tuple(index for index in self.wanted if index not in self.finished)


class FanOut:
    """One order being filled."""

    def __init__(self, pool: "WorkerPool", order: Order) -> None:
        self._pool = pool
        self._order = order
        self._seed = order.body.get("seed")
        read = order.prefix or order.body
        self._key = prefix_key({**read, "model": order.adapter} if order.adapter else read)
        self._attempts: list[_Attempt] = []
        self._used: set[Worker] = set()
        self._lost_while_sampling = 0
        self._extras: dict[str, Any] = {}
        self._prompt_tokens = 0
        self._begun = False
        self._failure: ApiError | None = None
        # A live stream's text so far, for going on elsewhere.
        self._live = Accumulator()
        self._owed = ""

    async def items(self) -> AsyncGenerator[Item, None]:
        """Parts and choices as they come, and what was used.

        Raises ApiError; where only some candidates are lost for good, after the others have come.
        """
        parts = self._split()
        self._pool.budget.request()
        drives = [self._drive(_Attempt(part, self._order.body, self._order.path), frozenset(), 0) for part in parts]
        async with aclosing(merged(drives)) as items:
            async for item in items:
                yield item
        if self._failure:
            raise self._failure
        yield self._end()

    def _split(self) -> list[tuple[int, ...]]:
        """Candidates by part: more than one where n is over `split_n` and others have room for it."""
        n = self._order.candidates
        count = 1
        if self._order.streamable and not self._order.live and not self._order.prompts:
            count = max(1, min(-(-n // self._pool.split_n), self._pool.able(self._order.adapter)))
        bounds = [n * i // count for i in range(count + 1)]
        return [tuple(range(start, stop)) for start, stop in pairwise(bounds)]

    async def _drive(self, attempt: _Attempt, tried: frozenset[Worker], number: int) -> AsyncGenerator[Item, None]:
        """One part of the candidates to its end, over as many workers as it takes."""
        self._attempts.append(attempt)
        try:
            async with aclosing(self._request(attempt, tried)) as items:
                async for item in items:
                    yield item
            return
        except (WorkerError, Unavailable, RateLimited) as error:
            failure: ApiError = error
        if not attempt.missing:
            return
        if attempt.worker is None or not await self._may_try_again(failure, number):
            self._failure = failure
            return
        tried |= {attempt.worker}
        self._pool.metrics.resampled.labels(self._pool.served_name).inc(len(attempt.missing))
        follow_ups = await self._follow_ups(attempt)
        if not follow_ups:
            self._failure = failure
            return
        if self._owed:
            # What the lost worker had sampled and not sent, since it may have been half a character.
            part = Part(0, {"content": self._owed}, None, None, 0)
            self._live.add(part)
            self._owed = ""
            yield part
        async with aclosing(merged([self._drive(one, tried, number + 1) for one in follow_ups])) as items:
            async for item in items:
                yield item

    async def _follow_ups(self, lost: _Attempt) -> list[_Attempt]:
        """What to ask of other workers for what is missing; empty where a live stream cannot go on."""
        if not (self._order.live and self._live.tokens):
            # vLLM counts seeds upwards from a request's own, so seeded ones go on in runs without gaps.
            free = self._seed is None or self._order.prompts
            runs = [lost.missing] if free else _runs(lost.missing)
            return [_Attempt(run, self._order.body, self._order.path) for run in runs]
        try:
            plan = await continuation(
                self._order.body, self._extras.get("prompt_token_ids"), self._live, self._pool.detokenize
            )
        except ApiError:
            plan = None
        self._pool.metrics.continued.labels(self._pool.served_name, "no" if plan is None else "yes").inc()
        if plan is None:
            return []
        live = self._live
        logprobs = live.token_logprobs or ()
        live.token_logprobs = list(logprobs[: plan.kept]) if len(logprobs) == live.tokens else None
        live.token_ids = (live.token_ids or [])[: plan.kept]
        live.tokens = len(live.token_ids)
        self._owed = plan.owed
        return [_Attempt(lost.missing, plan.body, COMPLETIONS_PATH)]

    async def _request(self, attempt: _Attempt, tried: frozenset[Worker]) -> AsyncGenerator[Item, None]:
        pool, order = self._pool, self._order
        n = len(attempt.wanted)
        reading = order.prompt_bytes * _TOKENS_A_BYTE
        cost = reading + pool.expected_tokens(n, order.body.get("max_tokens"))
        worker, permit = pool.enter(order.adapter, tried or frozenset(self._used), self._key, cost)
        attempt.worker = worker
        self._used.add(worker)
        # Taken before sending: a burst must not pick the same idle worker for all its requests.
        lease = worker.load.take(n, cost)
        request = {**attempt.body, "model": order.adapter or pool.served_name, "n": n}
        if order.prompts:
            request |= {"n": order.n, "prompt": [list(order.prompts[number]) for number in self._asked(attempt)]}
        elif self._seed is not None:
            request["seed"] = self._seed + attempt.wanted[0]
        try:
            async with aclosing(self._from(worker, request, attempt.path)) as items:
                async for item in items:
                    if isinstance(item, Part):
                        lease.progress(item.tokens)
                    elif isinstance(item, Choice):
                        lease.finished()
                    elif isinstance(item, SampleStart):
                        lease.progress(int(reading))
                    if taken := self._take(attempt, item):
                        yield taken
            if permit:
                permit.success()
        except (WorkerError, Unavailable) as error:
            if permit:
                permit.failure()
            pool.failed(worker, error)
            self._lost_while_sampling += isinstance(error, WorkerLost)
            raise
        except BadRequest:
            if permit:
                permit.success()  # It answered: the mistake is the client's.
            raise
        finally:
            if permit:
                permit.abandoned()
            lease.close()
            pool.released()

    def _asked(self, attempt: _Attempt) -> list[int]:
        """The prompts, by number, that an attempt's candidates belong to: all candidates of each are sampled."""
        return sorted({index // self._order.n for index in attempt.wanted})

    def _index(self, attempt: _Attempt, choice: int) -> int:
        """Which candidate a choice of the worker's is."""
        if not self._order.prompts:
            return attempt.wanted[choice]
        number, place = divmod(choice, self._order.n)
        return self._asked(attempt)[number] * self._order.n + place

    async def _from(self, worker: Worker, request: Mapping[str, Any], path: str) -> AsyncGenerator[Item, None]:
        if not self._order.streamable:
            for item in await worker.client.complete(request, path=path):
                yield item
            return
        order = self._order
        sampling = worker.client.sample(
            request, path=path, live=order.live, interval=order.interval, logprobs=order.logprobs
        )
        async with aclosing(sampling) as items:
            async for item in items:
                yield item

    def _take(self, attempt: _Attempt, item: Item) -> Item | None:
        """What of a worker's item goes on to the sampler, with the index that the candidate has here."""
        if isinstance(item, Part):
            attempt.tokens += item.tokens
            part = _renumbered(item, self._index(attempt, item.index))
            if self._order.live:
                self._live.add(part)
            return part
        if isinstance(item, Choice):
            index = self._index(attempt, item.index)
            if index not in attempt.wanted:
                return None  # It has come from the worker that was lost.
            attempt.finished.add(index)
            self._pool.sampled(item.tokens)
            whole = self._live if self._order.live and len(self._attempts) > 1 else item
            return replace(
                item,
                index=index,
                message=whole.message,
                token_ids=whole.token_ids,
                tokens=whole.tokens,
                token_logprobs=whole.token_logprobs,
            )
        if isinstance(item, SampleStart):
            if self._begun and self._order.interval is None:
                return None
            self._begun = True
            self._prompt_tokens, self._extras = item.prompt_tokens, dict(item.extras)
            return item
        attempt.end = item
        return None

    def _end(self) -> SampleEnd:
        ends = [attempt.end for attempt in self._attempts if attempt.end]
        spent = sum(attempt.end.completion_tokens if attempt.end else attempt.tokens for attempt in self._attempts)
        if len(self._attempts) == 1 and ends:
            return ends[0]
        prompt_tokens = max([self._prompt_tokens, *(end.prompt_tokens for end in ends)])
        if self._order.live:
            prompt_tokens = self._prompt_tokens
        return SampleEnd(prompt_tokens, spent, {}, {**self._extras, **(ends[0].extras if ends else {})})

    async def _may_try_again(self, failure: ApiError, number: int) -> bool:
        if isinstance(failure, NotServed) or number + 1 >= MOST_ATTEMPTS:
            return False
        if self._lost_while_sampling > _LOST_WHILE_SAMPLING:
            return False
        pool, loop = self._pool, asyncio.get_running_loop()
        free = number == 0 and isinstance(failure, WorkerUnreachable | WorkerLost)
        if not free and not pool.budget.take():
            pool.metrics.exhausted.labels(pool.served_name).inc()
            return False
        pause_s = 0.0 if free else pool.backoff_s(number + 1)
        if loop.time() + pause_s >= self._order.deadline:
            return False
        pool.metrics.retries.labels(pool.served_name, type(failure).__name__).inc()
        await asyncio.sleep(pause_s)
        return True


def _renumbered(part: Part, index: int) -> Part:
    return part if part.index == index else replace(part, index=index)


def _runs(indexes: Sequence[int]) -> list[tuple[int, ...]]:
    """Split where a number is left out."""
    runs: list[list[int]] = []
    for index in indexes:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return [tuple(run) for run in runs]
