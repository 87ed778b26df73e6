"""How fast the gateway starts, how small it stays, and what it adds to a request, in front of fakes.

    python -m tests.bench.gateway_process [requests]

Prints one JSON object: seconds from exec to the first answer of /healthz (median of five starts), resident MiB before
and after the requests, and the gateway's own overhead a request (`x-bestow-overhead-ms`: wall less waiting) at n = 8,
alone and 16 at once. The fakes share the cores with the gateway, so requests a second are a lower bound.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

from gateway.access.cache import cache_file, save
from gateway.access.snapshot import Snapshot
from gateway.config import dump
from tests.fakes import FakeScorers, FakeWorker, serve
from tests.gateway.harness import config_for

BODY = {"model": "m", "messages": [{"role": "user", "content": "How do I keep a houseplant healthy?"}]}


def gateway_process(config_file: Path, port: int) -> AbstractAsyncContextManager[tuple[float, psutil.Process]]:
    """See `answering`."""
    return answering(port, "-m", "gateway", "--config", str(config_file))


@asynccontextmanager
async def answering(port: int, *command: str) -> AsyncIterator[tuple[float, psutil.Process]]:
    """(seconds until it answered, its process). command: Python's arguments."""
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/healthz"):
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.01)
        yield time.perf_counter() - begun, psutil.Process(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def load(url: str, requests: int, at_once: int) -> dict[str, float]:
    """Milliseconds of overhead (median, 99th percentile) and requests a second."""
    gate = asyncio.Semaphore(at_once)
    overhead: list[float] = []

    async def one(session: aiohttp.ClientSession) -> None:
        async with gate, session.post(f"{url}/v1/chat/completions", json=BODY) as reply:
            assert reply.status == 200, await reply.text()
            overhead.append(float(reply.headers["x-bestow-overhead-ms"]))

    begun = time.perf_counter()
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session) for _ in range(requests)))
    seconds = time.perf_counter() - begun
    centiles = statistics.quantiles(overhead, n=100)
    return {"p50_ms": round(centiles[49], 2), "p99_ms": round(centiles[98], 2), "per_s": round(requests / seconds, 1)}


async def run(requests: int) -> dict[str, Any]:
    worker, scorers = FakeWorker(texts=["a few words to say", "some other words"]), FakeScorers(rewards=len)
    with tempfile.TemporaryDirectory() as folder:
        async with serve(worker), serve(scorers):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            config = yaml.safe_load(dump(config_for(worker, scorers, Path(folder), {"n": 8})))
            path = Path(folder) / "bestow.yaml"
            path.write_text(yaml.safe_dump(config | {"gateway": {"port": port}}))
            # It has seen Redis before, without keys: nothing listens where its Redis is said to be.
            save(cache_file(Path(folder)), Snapshot())
            starts = []
            for _ in range(5):
                async with gateway_process(path, port) as (seconds, _):
                    starts.append(seconds)
            async with gateway_process(path, port) as (_, process):
                before = process.memory_info().rss / 2**20
                alone = await load(f"http://127.0.0.1:{port}", requests // 4, 1)
                together = await load(f"http://127.0.0.1:{port}", requests, 16)
                after = process.memory_info().rss / 2**20
    return {
        "start_s": round(statistics.median(starts), 2),
        "resident_mib": {"at_start": round(before), f"after_{requests + requests // 4}_requests": round(after)},
        "overhead_alone": alone,
        "overhead_16_at_once": together,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", nargs="?", type=int, default=1000)
    print(json.dumps(asyncio.run(run(parser.parse_args().requests)), indent=1))
