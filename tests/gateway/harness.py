"""A whole gateway on real sockets in the test's event loop, in front of fakes; its log goes to the test's folder."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from fastapi import FastAPI

from gateway.access.cache import cache_file, save
from gateway.access.snapshot import Snapshot
from gateway.api.wire import JsonHttpProtocol
from gateway.app import create_app
from gateway.config import Config, parse
from gateway.log.records import Interaction, Record
from gateway.serving import ChatService
from tests.fakes import FakeScorers, FakeWorker, serve
from tests.waiting import until


@dataclass
class Harness:
    """session: an HTTP client whose base is the gateway. accepted: the records handed to the log, in order."""

    url: str
    app: FastAPI
    session: aiohttp.ClientSession
    worker: FakeWorker
    scorers: FakeScorers
    accepted: list[Record]

    @property
    def service(self) -> ChatService:
        service: ChatService = self.app.state.service
        return service

    @property
    def interactions(self) -> list[Interaction]:
        return [record for record in self.accepted if isinstance(record, Interaction)]

    async def chat(self, text: str = "hi", **fields: Any) -> tuple[int, Any, dict[str, Any]]:
        """(status, headers, body) of one unary chat completion."""
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
        async with self.session.post("/v1/chat/completions", json=body) as reply:
            return reply.status, reply.headers, await reply.json()

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


# Nothing listens there: the log journals, and answers go on.
NO_REDIS = "redis://127.0.0.1:1/0"
GRACE_S = 2


def config_for(
    worker: FakeWorker,
    scorers: FakeScorers,
    data_dir: Path,
    profile: dict[str, Any],
    *,
    redis_url: str = NO_REDIS,
    gateway: dict[str, Any] | None = None,
    log: dict[str, Any] | None = None,
    feedback: dict[str, Any] | None = None,
    release: dict[str, Any] | None = None,
) -> Config:
    settings = {"n": 4, "refusal": "No.", **profile}
    settings.setdefault("min_n", settings["n"])
    return parse(
        {
            "data_dir": str(data_dir),
            "gateway": gateway or {},
            "log": log or {},
            "feedback": feedback or {},
            "release": release or {},
            "redis": {"url": redis_url},
            "policies": {"policy": {"model": "somewhere", "workers": [{"url": worker.url}]}},
            "scorers": {
                name: {"kind": kind, "model": "somewhere", "url": scorers.url}
                for kind, names in (("reward", ("reward", *scorers.values)), ("safety", ("safety", *scorers.guards)))
                for name in names
            },
            "profiles": {"default": settings},
            "models": {"m": {"policy": "policy", "profile": "default"}},
        }
    )


@asynccontextmanager
async def running_gateway(
    data_dir: Path,
    worker: FakeWorker | None = None,
    scorers: FakeScorers | None = None,
    *,
    redis_url: str = NO_REDIS,
    gateway: dict[str, Any] | None = None,
    log: dict[str, Any] | None = None,
    feedback: dict[str, Any] | None = None,
    release: dict[str, Any] | None = None,
    **profile: Any,
) -> AsyncIterator[Harness]:
    """Starts fakes and gateway, and stops them. Without a Redis it is one that has seen Redis before, without keys."""
    worker, scorers = worker or FakeWorker(), scorers or FakeScorers(rewards=len)
    if redis_url == NO_REDIS and not cache_file(data_dir).exists():
        save(cache_file(data_dir), Snapshot())
    async with serve(worker), serve(scorers):
        config = config_for(
            worker,
            scorers,
            data_dir,
            profile,
            redis_url=redis_url,
            gateway=gateway,
            log=log,
            feedback=feedback,
            release=release,
        )
        app = create_app(config)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            server = _Server(
                uvicorn.Config(
                    app,
                    log_config=None,
                    access_log=False,
                    proxy_headers=False,
                    timeout_graceful_shutdown=GRACE_S,
                    http=JsonHttpProtocol,
                    ws="none",
                )
            )
            task = asyncio.create_task(server.serve(sockets=[listener]))
            while not server.started:
                if task.done():
                    task.result()
                await asyncio.sleep(0.01)
            accepted: list[Record] = []
            _spy(app.state.service, accepted)
            for admission in app.state.service.admissions.values():
                # A busy machine's late event loop would have n shrink in the middle of a test that counts candidates.
                admission._lag_s = lambda: 0.0
            try:
                async with aiohttp.ClientSession(url) as session:
                    yield Harness(url, app, session, worker, scorers, accepted)
            finally:
                await server.stop(task)


class _Server(uvicorn.Server):
    """uvicorn's, which stops as soon as it can: its own looks every tenth of a second whether it may."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()

    async def stop(self, serving: "asyncio.Task[None]") -> None:
        """As after SIGTERM: answers under way are finished, for as long as the configuration says."""
        self.should_exit = True
        self._told.set()
        await serving

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in self.servers:
            listening.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with suppress(AssertionError):
            await until(lambda: not state.connections and not state.tasks, GRACE_S)
        for late in state.tasks:
            late.cancel()
        await self.lifespan.shutdown()


def _spy(service: ChatService, accepted: list[Record]) -> None:
    accept = service.log.accept

    def spy(record: Record) -> bool:
        accepted.append(record)
        return accept(record)

    service.log.accept = spy  # type: ignore[method-assign]
