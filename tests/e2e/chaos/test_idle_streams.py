"""Thousands of streams that wait for their answer on keep-alive comments: what each costs, and that all get it."""

import asyncio
import json
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from gateway.access.cache import cache_file, save
from gateway.access.snapshot import Snapshot
from gateway.config import dump
from tests.bench.gateway_process import gateway_process
from tests.fakes import FakeScorers, FakeWorker, serve
from tests.gateway.harness import config_for
from tests.ports import free_ports

pytestmark = pytest.mark.slow

STREAMS = 5000
WARM_UP = 100
CANDIDATES = 2
TEXTS = ("one", "two words")
# The fakes share two cores with the gateway: so many answers may be in the making at once.
ANSWERING_AT_ONCE = 50
OPEN_WITHIN_S, REQUEST_S = 240.0, 600.0
# Between client and worker: the queue of the fake's listener is short, and its guard is no faster.
OPENING_AT_ONCE = 60
# In this process each stream is a client's socket and the fake worker's; in the gateway's, the other ends of those.
FILES = 2 * STREAMS + 2000


@pytest.fixture
def enough_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < FILES:
        pytest.skip(f"{STREAMS} streams need {FILES} open files, and the limit is {hard}: raise it (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class HoldingWorker(FakeWorker):
    """Begins to answer, which makes room for another to be opened, and goes on when it is let."""

    opening: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(OPENING_AT_ONCE))
    may_go_on: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WARM_UP))

    async def _stream(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        self.opening.release()
        await self.may_go_on.acquire()
        await super()._stream(response, body)


@dataclass
class Stream:
    """What one client has received. begun: the status, which is a 200."""

    begun: bool = False
    keep_alives: int = 0
    text: str = ""
    finish: str | None = None
    done: bool = False
    error: str | None = None

    @property
    def whole(self) -> bool:
        """Whether an answer came to its end, if not the best one: on few cores the fake guard may answer too late."""
        return self.text in TEXTS and self.finish == "stop" and self.done


async def follow(session: aiohttp.ClientSession, worker: HoldingWorker, stream: Stream) -> None:
    """Read a stream to its end."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    await worker.opening.acquire()
    async with session.post("/v1/chat/completions", json=body) as reply:
        assert reply.status == 200, await reply.text()
        stream.begun = True
        async for line in reply.content:
            _read(stream, line.decode().strip())


def _read(stream: Stream, line: str) -> None:
    if line == ": keep-alive":
        stream.keep_alives += 1
    elif line == "data: [DONE]":
        stream.done = True
    elif line.startswith("data: "):
        frame: dict[str, Any] = json.loads(line[6:])
        stream.error = frame.get("error", {}).get("message", stream.error)
        for choice in frame.get("choices", ()):
            stream.text += choice["delta"].get("content") or ""
            stream.finish = choice["finish_reason"] or stream.finish


def gateway_config(worker: FakeWorker, scorers: FakeScorers, folder: Path, port: int) -> str:
    """One worker with room for all of them, which may be silent for as long as it takes.

    n does not shrink: on few cores the event loop is late while thousands are being opened.
    """
    config = yaml.safe_load(dump(config_for(worker, scorers, folder, {"n": CANDIDATES, "min_n": CANDIDATES})))
    config["gateway"] = {"port": port, "request_timeout_s": REQUEST_S}
    config["policies"]["policy"] |= {
        "max_sequences": 4 * CANDIDATES * STREAMS,
        "limits": {"connect_s": 30.0, "first_token_s": REQUEST_S, "token_s": REQUEST_S},
    }
    return str(yaml.safe_dump(config))


async def test_five_thousand_idle_streams_all_get_their_answer(
    tmp_path: Path, enough_files: None, report: Callable[[str], None]
) -> None:
    worker, scorers = HoldingWorker(texts=TEXTS), FakeScorers(rewards=len)
    save(cache_file(tmp_path), Snapshot())  # it has seen Redis before, without keys
    async with serve(worker), serve(scorers):
        [port] = free_ports(1)
        config_file = tmp_path / "bestow.yaml"
        config_file.write_text(gateway_config(worker, scorers, tmp_path, port))
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            gateway_process(config_file, port) as (_, process),
            aiohttp.ClientSession(
                f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(limit=0), timeout=timeout
            ) as session,
        ):
            # What every gateway needs that has served anything at all.
            await asyncio.gather(*(follow(session, worker, Stream()) for _ in range(WARM_UP)))
            before = process.memory_info().rss
            streams = [Stream() for _ in range(STREAMS)]
            begun = time.monotonic()
            running = [asyncio.create_task(follow(session, worker, stream)) for stream in streams]
            while not all(stream.keep_alives for stream in streams):
                for ended in filter(asyncio.Task.done, running):
                    raise AssertionError("a stream ended before the worker was let go on") from ended.exception()
                so_far = sum(stream.begun for stream in streams)
                assert time.monotonic() - begun < OPEN_WITHIN_S, f"only {so_far} have begun"
                await asyncio.sleep(0.5)
            idle, at_once = process.memory_info().rss, sum(not stream.finish for stream in streams)
            opened_s, cpu = time.monotonic() - begun, process.cpu_times()
            for _ in range(ANSWERING_AT_ONCE):
                worker.may_go_on.release()
            for answered in asyncio.as_completed(running):
                await answered
                worker.may_go_on.release()
            answered_s, used = time.monotonic() - begun, process.cpu_times()
            after = process.memory_info().rss
    comments = [stream.keep_alives for stream in streams]
    mib = " -> ".join(f"{size / 2**20:.0f}" for size in (before, idle, after))
    cpu_s = used.user + used.system - cpu.user - cpu.system
    report(
        f"{at_once} idle streams: {(idle - before) / at_once / 1024:.1f} KiB of the gateway's memory each ({mib} MiB: "
        f"before, all open, all answered)"
    )
    report(
        f"  all open after {opened_s:.0f} s, all answered after {answered_s:.0f} s, {cpu_s:.0f} s of the gateway's CPU "
        f"in between; {min(comments)} to {max(comments)} keep-alive comments each"
    )
    assert at_once == STREAMS
    assert [stream for stream in streams if not stream.whole] == []
