"""Two gateways behind a balancer that follows /readyz are started anew in turn, under steady requests."""

import asyncio
import itertools
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway.tasks import end
from tests.fakes import FakeScorers, FakeWorker, serve
from tests.gateway.gateway_process import MESSAGES, GatewayProcess, chat, chat_events, running_process
from tests.waiting import until

CLIENTS = 8
PROBE_S = 0.05
# As long as the balancer needs, on however busy a machine: the test ends it by a signal more.
DELAY = {"drain_delay_s": 600.0}
# Nothing of theirs may be handed on: they are about one connection.
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host"}


class Balancer:
    """Passes each request on to a backend that was ready when it was last asked, in turn; sends none twice.

    served: how many requests each backend has answered.
    """

    def __init__(self, backends: Sequence[str], session: aiohttp.ClientSession) -> None:
        self._backends = backends
        self._session = session
        self.ready: set[str] = set()
        self._turn = itertools.count()
        self.served: Counter[str] = Counter()

    async def watch(self, backend: str) -> None:
        while True:
            try:
                async with self._session.get(f"{backend}/readyz") as reply:
                    ready = reply.status == 200
            except aiohttp.ClientError:
                ready = False
            (self.ready.add if ready else self.ready.discard)(backend)
            await asyncio.sleep(PROBE_S)

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        ready = [backend for backend in self._backends if backend in self.ready]
        if not ready:
            return web.json_response({"error": "no backend is ready"}, status=503)
        backend = ready[next(self._turn) % len(ready)]
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        try:
            async with self._session.request(
                request.method, backend + request.path, headers=headers, data=await request.read()
            ) as reply:
                kept = {name: value for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP}
                response = web.StreamResponse(status=reply.status, headers=kept)
                await response.prepare(request)
                async for piece in reply.content.iter_any():
                    await response.write(piece)
        except aiohttp.ClientError as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=502)
        self.served[backend] += 1
        return response


@asynccontextmanager
async def balancing(backends: Sequence[str]) -> AsyncIterator[tuple[str, Balancer]]:
    """(its address, the balancer)"""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        balancer = Balancer(backends, session)
        watches = [asyncio.create_task(balancer.watch(backend)) for backend in backends]
        app = web.Application()
        app.add_routes([web.post("/{path:.*}", balancer.pass_on)])
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}", balancer
        finally:
            await end(*watches)
            await runner.cleanup()


async def ask(session: aiohttp.ClientSession, url: str, *, stream: bool) -> str:
    """What went wrong with one request; nothing where it was answered to its end."""
    try:
        if not stream:
            status, _, answer = await chat(session, url)
            return "" if status == 200 and answer["choices"][0]["message"]["content"] else f"{status} {answer}"
        body: dict[str, Any] = {"model": "m", "messages": MESSAGES, "stream": True}
        async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
            events = await chat_events(reply)
            return "" if reply.status == 200 and events[-1:] == ["[DONE]"] else f"{reply.status} {events}"
    except aiohttp.ClientError as error:
        return f"{type(error).__name__}: {error}"


async def stop(gateway: GatewayProcess, balancer: Balancer) -> None:
    """Stops it once the balancer has turned away, while requests that came before still run."""
    gateway.send(signal.SIGTERM)
    await until(lambda: gateway.url not in balancer.ready)
    # It has read what was on its way before this question.
    await gateway.until_status("stopping")
    gateway.send(signal.SIGTERM)
    assert await gateway.ended() == 0


async def test_no_request_fails_and_each_is_logged(tmp_path: Path) -> None:
    worker, scorers = FakeWorker(delays_s=[0.1, 0.5, 0.2, 0.3]), FakeScorers(rewards=len)
    async with (
        serve(worker),
        serve(scorers),
        running_process(tmp_path / "a", worker, scorers, gateway=DELAY) as first,
        running_process(tmp_path / "b", worker, scorers, gateway=DELAY) as second,
        balancing([first.url, second.url]) as (url, balancer),
        aiohttp.ClientSession() as session,
    ):
        restarted = asyncio.Event()
        failures: list[str] = []
        asked = 0

        async def client(number: int) -> None:
            nonlocal asked
            while not restarted.is_set():
                asked += 1
                if failure := await ask(session, url, stream=number % 2 == 0):
                    failures.append(failure)

        async def serving(gateway: GatewayProcess) -> None:
            balancer.served.clear()
            await until(lambda: balancer.served[gateway.url] >= CLIENTS)

        await until(lambda: balancer.ready == {first.url, second.url})
        clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
        for gateway in (first, second):
            await serving(gateway)
            await stop(gateway, balancer)
            await gateway.start()
            await serving(gateway)
        restarted.set()
        await asyncio.gather(*clients)
        await asyncio.gather(stop(first, balancer), stop(second, balancer))
    assert failures == []
    logged = [one for gateway in (first, second) for one in gateway.interactions]
    assert len({one.id for one in logged}) == len(logged) == asked
    assert {one.outcome for one in logged} == {"delivered"}
