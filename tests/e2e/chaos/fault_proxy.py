"""A proxy between a gateway and one real worker that spoils what the worker does, as a test tells it to.

Only what samples or reads text is spoiled: health questions pass, so that the gateway has to find out by itself.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from typing import NoReturn

import aiohttp
from aiohttp import web

_RST_ON_CLOSE = struct.pack("ii", 1, 0)
# The first event or two of a stream still get through before the reset.
_BYTES_UNTIL_RESET = 600
# About an event at a time: five tokens a second of a live stream.
_TRICKLE_BYTES = 400
_TRICKLE_EVERY_S = 0.2
_RELAYED = ("content-type", "authorization")


class Fault(Enum):
    """pass_on: none. error: status 500 to what is new. reset: RST amid the answer, also where it is under way.

    trickle: slow tokens. hang: the request is taken, or was, and nothing comes any more.
    """

    PASS_ON = "pass_on"
    ERROR = "error"
    RESET = "reset"
    TRICKLE = "trickle"
    HANG = "hang"


class FaultProxy:
    """`fault` can be set at any time, also for answers that are under way. spoiled: requests that met a fault."""

    def __init__(self, worker_url: str, session: aiohttp.ClientSession) -> None:
        self.fault = Fault.PASS_ON
        self.spoiled = 0
        self.url = ""
        self._worker_url = worker_url
        self._session = session
        self._healed = asyncio.Event()
        self._streaming: dict[int, web.Request] = {}

    def reset_streams(self) -> None:
        """RST to every answer that is under way; those to come are left alone."""
        for request in list(self._streaming.values()):
            _abort(request)

    def heal(self) -> None:
        """Be a plain proxy again. What hangs ends like a request to a process that was ended."""
        self.fault = Fault.PASS_ON
        self._healed.set()
        self._healed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        spoils = request.method == "POST"
        if spoils and self.fault is Fault.ERROR:
            self.spoiled += 1
            error = {"message": "EngineCore encountered an issue.", "type": "Internal Server Error", "code": 500}
            return web.json_response({"error": error}, status=500)
        if spoils and self.fault is Fault.HANG:
            self.spoiled += 1
            await self._healed.wait()
            _reset(request)
        headers = {name: request.headers[name] for name in _RELAYED if name in request.headers}
        async with self._session.request(
            request.method, self._worker_url + request.path_qs, data=body or None, headers=headers
        ) as reply:
            response = web.StreamResponse(status=reply.status)
            response.content_type = reply.content_type
            await response.prepare(request)
            self._streaming[id(request)] = request
            try:
                await self._copy(request, reply, response, spoils)
            finally:
                del self._streaming[id(request)]
        await response.write_eof()
        return response

    async def _copy(
        self, request: web.Request, reply: aiohttp.ClientResponse, response: web.StreamResponse, spoils: bool
    ) -> None:
        sent, met_fault = 0, False
        async for chunk in reply.content.iter_any():
            while chunk:
                fault = self.fault if spoils else Fault.PASS_ON
                if fault in (Fault.RESET, Fault.TRICKLE, Fault.HANG) and not met_fault:
                    met_fault = True
                    self.spoiled += 1
                if fault is Fault.HANG:
                    await self._healed.wait()
                    _reset(request)
                if fault is Fault.RESET and sent >= _BYTES_UNTIL_RESET:
                    _reset(request)
                if fault is Fault.TRICKLE:
                    await asyncio.sleep(_TRICKLE_EVERY_S)
                whole = fault is Fault.PASS_ON or fault is Fault.ERROR
                piece, chunk = (chunk, b"") if whole else (chunk[:_TRICKLE_BYTES], chunk[_TRICKLE_BYTES:])
                await response.write(piece)
                sent += len(piece)


def _reset(request: web.Request) -> NoReturn:
    """RST instead of FIN. Raises ConnectionResetError, which ends the handler."""
    _abort(request)
    raise ConnectionResetError("reset by the fault proxy")


def _abort(request: web.Request) -> None:
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        transport.abort()


@asynccontextmanager
async def fault_proxy(worker_url: str) -> AsyncIterator[FaultProxy]:
    """A running proxy in front of the worker, on a free port of the loopback."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        proxy = FaultProxy(worker_url, session)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        # A gateway that leaves ends its request: the worker must be left then too.
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            proxy.heal()
            await runner.cleanup()
