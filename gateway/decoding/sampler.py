"""The sampler of one request: turns the workers' choices into candidates, and adds up what was spent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from gateway.admission.admission import Place
from gateway.decoding.candidate import Candidate
from gateway.decoding.continuing import pieces_of
from gateway.decoding.open_streams import OpenStreams, Source
from gateway.decoding.pieces import Pieces
from gateway.telemetry.waiting import WaitClock
from gateway.workers.client import CHAT_PATH
from gateway.workers.fan_out import Order
from gateway.workers.pool import WorkerPool
from gateway.workers.stream import Accumulator, Choice, Item, Part, SampleEnd, SampleStart


@dataclass(slots=True)
class PoolSampler:
    """Samples from a pool. Candidate i of all waves has the seed `seed + i` (vLLM's own rule within a request).

    path: the worker's endpoint. streamable: False where vLLM does not stream what was asked for.
    deadline: on the event loop's clock; adapter, prompt_bytes: see `workers.fan_out.Order`.
    place: what admission has granted; told of each candidate that is done, so that others can begin.
    prompt_tokens: of the prompt, once. sampled_tokens: of everything that came back, unfinished candidates included.
    usage_details, extras: as the worker gave them, see SampleEnd. logprobs: see `workers.fan_out.Order`.
    """

    pool: WorkerPool
    body: dict[str, Any]
    seed: int | None
    waiting: WaitClock
    path: str = CHAT_PATH
    streamable: bool = True
    deadline: float = float("inf")
    adapter: str | None = None
    prompt_bytes: int = 0
    place: Place | None = None
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    usage_details: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    logprobs: bool = False
    _sampled: int = field(default=0)

    async def sample(self, n: int, wave: int) -> AsyncGenerator[Candidate, None]:
        """n candidates, each as it finishes. Raises ApiError."""
        async with aclosing(self._items(n, wave, live=False)) as items:
            async for item in items:
                if isinstance(item, Candidate):
                    yield item

    async def live(self) -> AsyncGenerator[Part | Candidate, None]:
        """One candidate token by token: its parts, then itself. Raises ApiError."""
        async with aclosing(self._items(1, 0, live=True)) as items:
            async for item in items:
                yield item

    def streams(self, n: int, interval: int) -> OpenStreams:
        """n candidates of the first wave, each a request of its own with a part about every `interval` tokens.

        Where one is lost it is sampled again with its seed. What a worker samples of one that is dropped is known up
        to its last part.
        """
        first = self._sampled
        self._sampled += n
        return OpenStreams({index: self._stream(index, interval) for index in range(first, first + n)}, self._cut_off)

    async def _stream(self, index: int, interval: int) -> Source:
        body = dict(self.body)
        if self.seed is not None:
            body["seed"] = self.seed + index
        order = Order(
            body,
            1,
            self.path,
            False,
            self.streamable,
            self.deadline,
            self.prompt_bytes,
            self.adapter,
            interval,
            logprobs=self.logprobs,
        )
        counted = 0
        with self.waiting:
            async with aclosing(self.pool.sample(order)) as items:
                async for item in items:
                    counted += item.tokens if isinstance(item, Part) else 0
                    # Others' tokens were counted meanwhile: an end is told apart by what was counted of its own.
                    found = self._take(item, index, 0, self.sampled_tokens - counted)
                    if found is not None:
                        yield found
                    elif isinstance(item, SampleStart):
                        yield item

    def _cut_off(self, index: int, so_far: Accumulator) -> Candidate:
        return self._candidate(so_far, index, 0)

    async def pieces(self) -> Pieces | None:
        """The request piece by piece, where that is exact. Raises ApiError."""
        return await pieces_of(self)

    def taken(self, n: int) -> int:
        """The number of the first of n more candidates or pieces; its seed is so much above the request's."""
        first = self._sampled
        self._sampled += n
        return first

    async def _items(self, n: int, wave: int, *, live: bool) -> AsyncGenerator[Part | Candidate, None]:
        first = self._sampled
        self._sampled += n
        if self.place:
            self.place.again(n)
        body = dict(self.body)
        if self.seed is not None:
            body["seed"] = self.seed + first
        spent_before = self.sampled_tokens
        order = Order(
            body,
            n,
            self.path,
            live,
            self.streamable,
            self.deadline,
            self.prompt_bytes,
            self.adapter,
            logprobs=self.logprobs,
        )
        choices = self.pool.sample(order)
        with self.waiting:
            async with aclosing(choices) as items:
                async for item in items:
                    found = self._take(item, first, wave, spent_before)
                    if found is not None:
                        yield found

    def _take(self, item: Item, first: int, wave: int, spent_before: int) -> Part | Candidate | None:
        if isinstance(item, Part):
            self.sampled_tokens += item.tokens
            return item
        if isinstance(item, Choice):
            return self._candidate(item, first + item.index, wave)
        if isinstance(item, SampleStart):
            self.prompt_tokens, self.extras = item.prompt_tokens, item.extras
        else:
            self._end(item, spent_before)
        return None

    def _candidate(self, choice: Choice | Accumulator, index: int, wave: int) -> Candidate:
        if self.place:
            self.place.finished()
        ended = choice if isinstance(choice, Choice) else None
        return Candidate(
            index=index,
            wave=wave,
            seed=None if self.seed is None else self.seed + index,
            message=choice.message,
            finish_reason=ended.finish_reason if ended else None,
            stop_reason=ended.stop_reason if ended else None,
            logprobs=choice.logprobs,
            token_ids=choice.token_ids,
            completion_tokens=choice.tokens,
            finished_s=asyncio.get_running_loop().time(),
            extras=choice.extras,
            token_logprobs=choice.token_logprobs,
        )

    def _end(self, end: SampleEnd, spent_before: int) -> None:
        self.prompt_tokens = end.prompt_tokens
        # The worker's own count includes tokens that no part carries.
        self.sampled_tokens = spent_before + end.completion_tokens
        self.usage_details = end.usage_details
        self.extras = end.extras
