"""A gateway as a process of its own, in front of fakes; it journals, since it has no Redis."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from gateway.access.cache import cache_file, save
from gateway.access.snapshot import Snapshot
from gateway.config import dump
from gateway.log.frames import FILE_HEADER, Kind
from gateway.log.records import Interaction, decode_interaction
from gateway.log.segment import load
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import config_for
from tests.ports import free_port

WITHIN_S = 60.0
MESSAGES = [{"role": "user", "content": "hi"}]


@dataclass
class GatewayProcess:
    """folder: its data. It starts and ends any number of times, at one address."""

    url: str
    folder: Path
    command: tuple[str, ...]
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns once it is ready."""
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*self.command, stdout=log, stderr=subprocess.STDOUT)
        await self.until_status("ready")

    async def until_status(self, status: str) -> None:
        """Returns once /readyz says so, each time on a new connection."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    async with aiohttp.ClientSession() as session, session.get(f"{self.url}/readyz") as reply:
                        said = (await reply.json())["status"]
                        assert (said == "ready") is (reply.status == 200)
                        if said == status:
                            return
                await asyncio.sleep(0.01)

    async def until_it_does_not_listen(self) -> None:
        host, port = self.url.removeprefix("http://").split(":")
        async with asyncio.timeout(WITHIN_S):
            with contextlib.suppress(ConnectionRefusedError):
                while True:
                    _, writer = await asyncio.open_connection(host, int(port))
                    writer.close()
                    await asyncio.sleep(0.01)

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        assert self.process is not None
        async with asyncio.timeout(WITHIN_S):
            return await self.process.wait()

    @property
    def log(self) -> str:
        """What it printed."""
        return (self.folder / "gateway.log").read_text()

    @property
    def interactions(self) -> list[Interaction]:
        """What its journal has, in order."""
        found: list[Interaction] = []
        for path in sorted(self.folder.glob("journal/*.seg")):
            segment = load(path)
            assert segment is not None
            entries = segment.read(len(FILE_HEADER), max_bytes=2**24).entries
            found += [decode_interaction(entry.payload) for entry in entries if entry.kind is Kind.INTERACTION]
        return found


def written(
    folder: Path, worker: FakeWorker, scorers: FakeScorers, gateway: dict[str, Any], profile: dict[str, Any]
) -> GatewayProcess:
    """One that has not started, with its files in place."""
    folder.mkdir(exist_ok=True)
    save(cache_file(folder), Snapshot())
    port = free_port()
    config = config_for(worker, scorers, folder, profile, gateway={"port": port, **gateway})
    (folder / "bestow.yaml").write_text(dump(config))
    command = (sys.executable, "-m", "gateway", "--config", str(folder / "bestow.yaml"))
    return GatewayProcess(f"http://127.0.0.1:{port}", folder, command)


@asynccontextmanager
async def running_process(
    folder: Path, worker: FakeWorker, scorers: FakeScorers, *, gateway: dict[str, Any] | None = None, **profile: Any
) -> AsyncIterator[GatewayProcess]:
    """A gateway that is ready; what is left of it in the end is killed."""
    process = written(folder, worker, scorers, gateway or {}, profile)
    try:
        await process.start()
        yield process
    finally:
        if process.process is not None and process.process.returncode is None:
            process.process.kill()
            await process.process.wait()


async def chat(session: aiohttp.ClientSession, url: str, **fields: Any) -> tuple[int, Any, Any]:
    """(status, headers, body) of one unary chat completion."""
    async with session.post(f"{url}/v1/chat/completions", json={"model": "m", "messages": MESSAGES, **fields}) as reply:
        return reply.status, reply.headers, await reply.json()


async def chat_events(reply: aiohttp.ClientResponse) -> list[Any]:
    """What is left of a stream, each event's JSON; "[DONE]" as it is."""
    text = (await reply.read()).decode()
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [event if event == "[DONE]" else json.loads(event) for event in events]
