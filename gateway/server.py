"""The HTTP server of the gateway process, and how it stops without losing a request.

    serving  --SIGTERM or SIGINT-->  leaving  --delay_s-->  draining  --nothing runs, or limit_s-->  ended

leaving    /readyz says 503 `stopping`; everything else is answered as before, on new connections too, since a load
           balancer takes a moment to turn away. Each answer closes its connection, so that kept ones go elsewhere.
draining   The port is closed, and so are idle connections. What runs finishes.
ended      What still runs ends with an error that its client can read (`api/last_words.py`), and is logged like any
           other. Then the application stops, which flushes the log.

A signal more goes on to the next phase at once.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.tasks import end

logger = logging.getLogger(__name__)

_CLOSE = (b"connection", b"close")
_POLL_S = 0.02
# For the last bytes to leave. A TLS client that never looks would not let its connection be closed for half a minute.
_FAREWELL_S = 1.0


class Server(uvicorn.Server):
    """on_stop: called as leaving begins. delay_s, limit_s: gateway.drain_delay_s, gateway.drain_timeout_s."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None], *, delay_s: float, limit_s: float) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._delay_s = delay_s
        self._limit_s = limit_s
        self._leaving = False
        self._enough = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal interrupts whatever runs; the loop deals with it between two steps."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._go_on)

    def _go_on(self) -> None:
        """A signal has come: the next phase."""
        if self.should_exit:
            self._enough.set()
        elif self._leaving or not self.started:
            self.should_exit = True
        else:
            self._leave()

    def _leave(self) -> None:
        logger.info("Stopping: /readyz says so, and requests are taken for another %g s", self._delay_s)
        self._leaving = True
        self._on_stop()
        self._close_connections_with_their_next_answer()
        asyncio.get_running_loop().call_later(self._delay_s, self._stop_listening)

    def _stop_listening(self) -> None:
        self.should_exit = True

    def _close_connections_with_their_next_answer(self) -> None:
        # uvicorn makes the headers of all answers anew from these every second.
        self.config.encoded_headers.append(_CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        for connection in self.server_state.connections:
            if isinstance(connection, HttpToolsProtocol) and connection.cycle and not connection.cycle.response_started:
                connection.cycle.keep_alive = False

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, end what has not finished, and stop the application."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await _until(lambda: self._enough.is_set() or not self._busy(), self._limit_s)
        if running := list(self.server_state.tasks):
            logger.warning("%d requests have not finished; they end with an error", len(running))
            await end(*running)
        await _until(lambda: not self.server_state.connections, _FAREWELL_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)

    def _busy(self) -> bool:
        """Not whether there are connections: a client that keeps one and never looks at it would hold us up."""
        connections = self.server_state.connections
        return bool(self.server_state.tasks) or any(one.transport.get_write_buffer_size() for one in connections)


async def _until(holds: Callable[[], bool], within_s: float) -> None:
    """Returns once it does, or has not for that long."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + within_s
    while not holds():
        if loop.time() >= ends:
            return
        await asyncio.sleep(_POLL_S)
