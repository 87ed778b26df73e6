"""Candidates that grow side by side, each a stream of its own, so that one can be given up while the others go on.

    async with sampler.streams(n, interval) as streams:
        async for item in streams:      # Growth, and at its end a Candidate, or Lost
            ...
            streams.drop(index)         # its connection is closed at once, by which vLLM aborts it

Nothing holds a stream up: what nobody has read yet waits here.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from copy import deepcopy
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gateway.decoding.candidate import Candidate
from gateway.errors import ApiError
from gateway.log.records import Message
from gateway.tasks import end
from gateway.workers.stream import Accumulator, Part, SampleStart


@dataclass(frozen=True, slots=True)
class Growth:
    """How far a candidate is. message: all of it so far. tokens: of it; none where it begins anew elsewhere."""

    index: int
    message: Message
    tokens: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A candidate that will not be finished: its worker failed, and no other could take over."""

    index: int
    error: ApiError


Source = AsyncGenerator[SampleStart | Part | Candidate, None]


class OpenStreams:
    """An async context manager, and within it an iterator over what all of its streams bring, in the order it comes.

    sources: of each candidate by its index, its parts and then itself; a SampleStart says that its parts begin, the
    first time or anew. cut_off: makes a candidate of what there is of one that is given up.
    """

    def __init__(self, sources: Mapping[int, Source], cut_off: Callable[[int, Accumulator], Candidate]) -> None:
        self._sources = sources
        self._cut_off = cut_off
        self._so_far = {index: Accumulator() for index in sources}
        self._arrived: asyncio.Queue[Growth | Candidate | Lost | asyncio.Task[None]] = asyncio.Queue()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._running = 0

    @property
    def indexes(self) -> tuple[int, ...]:
        return tuple(self._sources)

    async def __aenter__(self) -> Self:
        for index, source in self._sources.items():
            self._tasks[index] = task = asyncio.create_task(self._read(index, source))
            task.add_done_callback(self._arrived.put_nowait)
        self._running = len(self._tasks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end(*self._tasks.values())

    async def __aiter__(self) -> AsyncIterator[Growth | Candidate | Lost]:
        while self._running:
            item = await self._arrived.get()
            if not isinstance(item, asyncio.Task):
                if not isinstance(item, Growth) or item.index in self._so_far:
                    yield item
                continue
            self._running -= 1
            if not item.cancelled():
                item.result()

    def drop(self, index: int) -> Candidate | None:
        """Give one up. Returns it as far as it is; None where it is over, and comes or has come as it ended."""
        so_far = self._so_far.pop(index, None)
        if so_far is None:
            return None
        self._tasks[index].cancel()
        return self._cut_off(index, so_far)

    async def _read(self, index: int, source: Source) -> None:
        try:
            async with aclosing(source) as items:
                async for item in items:
                    self._take(index, item)
        except ApiError as error:
            if self._so_far.pop(index, None) is not None:
                self._arrived.put_nowait(Lost(index, error))

    def _take(self, index: int, item: SampleStart | Part | Candidate) -> None:
        if index not in self._so_far:
            return
        if isinstance(item, Candidate):
            del self._so_far[index]
            self._arrived.put_nowait(item)
            return
        so_far = self._so_far[index]
        if isinstance(item, Part):
            so_far.add(item)
            if not item.tokens:
                return
        elif so_far.tokens:
            so_far = self._so_far[index] = Accumulator()
        else:
            return
        self._arrived.put_nowait(Growth(index, _copy(so_far.message), so_far.tokens))


def _copy(message: Message) -> Message:
    """As it is now: the stream goes on writing to its own."""
    return deepcopy(message) if "tool_calls" in message else dict(message)
