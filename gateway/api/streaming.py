"""Streams, whatever their format: the status, keep-alive comments, pieces, the end, and clients that go away.

    hold    keep-alive comments while the best is being found, then all pieces of the winner at once
    block   pieces as they are chosen, where the answer could be sampled in pieces; else as hold
    first   pieces as they are cleared

The status is withheld until the first candidate (hold) or piece (block, first), or 2 s, so that early failures keep
their 4xx and 5xx; a later one is an error frame. What the frames look like is a StreamWriter's say.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.answers import Answer, Piece
from gateway.api.answer import headers, pieces, start_headers
from gateway.api.http import ClientGone, gone
from gateway.errors import ApiError
from gateway.serving import Exchange
from gateway.tasks import end

__all__ = ["Piece", "StreamWriter", "stream", "stream_all"]

_STATUS_WAIT_S = 2.0
_KEEP_ALIVE_S = 5.0
_KEEP_ALIVE = b": keep-alive\n\n"
# A reader this much behind makes the worker wait.
_AHEAD = 64


class StreamWriter(Protocol):
    """Turns what happens into bytes of an event stream; each may be empty."""

    def begin(self) -> bytes:
        """Once, when the stream starts."""
        ...

    def piece(self, piece: Piece) -> bytes: ...

    def end(self, answer: Answer) -> bytes:
        """The closing frames, the receipt among them."""
        ...

    def fail(self, error: ApiError) -> bytes:
        """An error after the stream has started; nothing follows it."""
        ...


_Item = tuple[StreamWriter, Piece | Answer | ApiError]


class _Source:
    """Exchanges at work, each in a task of its own, and what comes of them, with the writer whose it is."""

    def __init__(self, parts: Sequence[tuple[Exchange, StreamWriter]]) -> None:
        self._queue: asyncio.Queue[_Item] = asyncio.Queue(_AHEAD)
        self._getter: asyncio.Task[_Item] | None = None
        self._tasks = [asyncio.create_task(self._run(exchange, writer)) for exchange, writer in parts]
        self.answers: list[Answer] = []
        self.failure: ApiError | None = None
        self.settled = asyncio.Event()

    async def _run(self, exchange: Exchange, writer: StreamWriter) -> None:
        started = asyncio.create_task(self._started(exchange))
        try:
            await (self._live(exchange, writer) if exchange.plan.live else self._held(exchange, writer))
        except ApiError as error:
            self.failure = error
            self.settled.set()
            await self._queue.put((writer, error))
        finally:
            await end(started)

    async def _started(self, exchange: Exchange) -> None:
        await exchange.progress.first_candidate.wait()
        self.settled.set()

    async def _held(self, exchange: Exchange, writer: StreamWriter) -> None:
        answer = await exchange.run()
        self.answers.append(answer)
        self.settled.set()
        for piece in pieces(answer):
            await self._queue.put((writer, piece))
        await self._queue.put((writer, answer))

    async def _live(self, exchange: Exchange, writer: StreamWriter) -> None:
        left = False
        async with aclosing(exchange.live()) as items:
            async for item in items:
                if isinstance(item, Answer):
                    self.answers.append(item)
                    self.settled.set()
                    if not left and not item.begun:
                        # Refused, or decided as a whole where it could not be given away in parts.
                        for piece in pieces(item):
                            await self._queue.put((writer, piece))
                left = True
                await self._queue.put((writer, item))

    async def next(self, watch: asyncio.Task[None]) -> _Item | None:
        """What comes next; None where nothing did for a while, or the client has gone."""
        if self._getter is None:
            self._getter = asyncio.create_task(self._queue.get())
        await asyncio.wait({self._getter, watch}, timeout=_KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
        if not self._getter.done():
            return None
        item = self._getter.result()
        self._getter = None
        return item

    async def close(self) -> None:
        """End the exchanges that still run: their workers' sequences are aborted."""
        if self._getter is not None:
            await end(self._getter)
        await end(*self._tasks)


class EventStream(StreamingResponse):
    """Server-sent events from an async generator, which is closed at once when the client has left.

    The generator watches for that by itself; Starlette would cancel the sending and leave the generator to the garbage
    collector, and with it the worker's running sequences.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        super().__init__(frames, headers={**headers, "cache-control": "no-cache", "x-accel-buffering": "no"})
        self.frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.body_iterator = self.frames
        async with aclosing(self.frames):
            await self.stream_response(send)


async def stream(request: Request, exchange: Exchange, writer: StreamWriter) -> EventStream:
    """The streamed answer of an exchange that has not begun. Raises ApiError for a failure before the first byte.

    Raises ClientGone where the client leaves before it.
    """
    return await stream_all(request, [(exchange, writer)])


async def stream_all(request: Request, parts: Sequence[tuple[Exchange, StreamWriter]]) -> EventStream:
    """The same for several exchanges at once, each with its writer: one that fails ends the stream and the others.

    The writers see to it that the stream is closed by the last of them.
    """
    source = _Source(parts)
    watch = asyncio.create_task(gone(request))
    settled = asyncio.create_task(source.settled.wait())
    handed_over = False
    try:
        await asyncio.wait({watch, settled}, timeout=_STATUS_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            raise ClientGone
        if source.failure:
            raise source.failure
        # What is known now goes into the headers: all of the receipt, or what the plan says.
        exchange = parts[0][0]
        known = start_headers(exchange.plan, exchange.reward_model)
        if source.answers and len(parts) == 1:
            known = headers(source.answers[0])
        handed_over = True
    finally:
        await end(settled)
        if not handed_over:
            await end(watch)
            await source.close()
    return EventStream(_frames(request, source, watch, [writer for _, writer in parts]), known)


async def _frames(
    request: Request, source: _Source, watch: asyncio.Task[None], writers: Sequence[StreamWriter]
) -> AsyncGenerator[bytes, None]:
    open_writers = len(writers)
    try:
        for writer in writers:
            if begun := writer.begin():
                yield begun
        while open_writers and not watch.done():
            match await source.next(watch):
                case None:
                    yield _KEEP_ALIVE
                case writer, ApiError() as error:
                    request.state.failed = True
                    yield writer.fail(error)
                    return
                case writer, Answer() as answer:
                    yield writer.end(answer)
                    open_writers -= 1
                case writer, Piece() as piece:
                    if frame := writer.piece(piece):
                        yield frame
    finally:
        await end(watch)
        await source.close()
