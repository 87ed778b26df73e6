"""n candidates as one request with n, or as n requests with n = 1, on a real vLLM worker; taking turns in one run.

    python -m tests.bench.fan_out [rounds]

Starts a worker on the demo policy. Both ways sample the same tokens (candidate i has the seed s + i either way) of the
same prompt, which neither finds in the prefix cache (each has a cache_salt of its own), with a stream_interval of 16.
Prints one JSON object, an entry for each kind of prompt and n:

    wall_ratio      n requests' wall time over one's: median and quartiles of the pairs; likewise first_ratio, the time
                    until the first candidate is finished
    one, many       medians: wall_ms, first_ms, chunks and bytes of the answers, CPU of client and of vLLM's API server
                    in ms, and prefilled: prompt tokens that were computed, not found in the prefix cache
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from gateway.workers.client import CHAT_PATH
from gateway.workers.stream import Choice, ChoiceAssembler, read_events
from tests.e2e.chaos.workers import RealWorker, start_workers
from tests.e2e.stack import demo_on_free_ports
from tests.ports import free_ports
from training.demo.prompts import held_out_prompts

CANDIDATES = (1, 2, 4, 8, 16)
SAMPLING = {"temperature": 1.0, "max_tokens": 96, "stream": True, "stream_interval": 16, "return_token_ids": True}
# A system prompt of about 1,500 tokens.
LONG_WORDS = 1150
POLICY = "demo-policy"


@dataclass(frozen=True, slots=True)
class Run:
    """One prompt sampled one way."""

    wall_ms: float
    first_ms: float
    chunks: int
    bytes: int
    client_cpu_ms: float
    server_cpu_ms: float
    prefilled: float
    tokens: int


@dataclass(slots=True)
class Received:
    """What came over so far. first: when the first candidate was finished."""

    chunks: int = 0
    bytes: int = 0
    tokens: int = 0
    first: float = 0.0


class Bench:
    def __init__(self, worker: RealWorker, session: aiohttp.ClientSession) -> None:
        self._worker = worker
        self._session = session
        [self._server] = psutil.Process(worker.pid).children()

    async def run(self, bodies: Sequence[dict[str, Any]], path: str = CHAT_PATH) -> Run:
        """Send the requests at once and read all of their answers."""
        received = Received()
        prefilled, server_cpu, client_cpu = await self._prefilled(), self._server_cpu_s(), time.process_time()
        begun = time.perf_counter()
        await asyncio.gather(*(self._ask(path, body, received) for body in bodies))
        wall, client_cpu = time.perf_counter() - begun, time.process_time() - client_cpu
        return Run(
            wall_ms=wall * 1000,
            first_ms=(received.first - begun) * 1000,
            chunks=received.chunks,
            bytes=received.bytes,
            client_cpu_ms=client_cpu * 1000,
            server_cpu_ms=(self._server_cpu_s() - server_cpu) * 1000,
            prefilled=await self._prefilled() - prefilled,
            tokens=received.tokens,
        )

    async def _ask(self, path: str, body: dict[str, Any], received: Received) -> None:
        assembler = ChoiceAssembler()

        async def pieces(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
            async for piece in reply.content.iter_any():
                received.bytes += len(piece)
                yield piece

        async with self._session.post(f"{self._worker.url}{path}", json=body) as reply:
            assert reply.status == 200, await reply.text()
            async for chunk in read_events(pieces(reply)):
                received.chunks += 1
                for item in assembler.feed(chunk):
                    if isinstance(item, Choice):
                        received.first = received.first or time.perf_counter()
                        received.tokens += item.tokens

    async def _prefilled(self) -> float:
        asked = await self._worker.metric("vllm:prefix_cache_queries_total")
        return asked - await self._worker.metric("vllm:prefix_cache_hits_total")

    def _server_cpu_s(self) -> float:
        used = self._server.cpu_times()
        return float(used.user + used.system)


def prompts(kind: str, count: int) -> list[list[Any]]:
    """Conversations; the long ones begin with instructions of their own."""
    short: list[list[Any]] = [list(messages) for messages in held_out_prompts(count, seed=91)]
    if kind == "short":
        return short
    rng = random.Random(5)
    words = sorted({word for messages in short for message in messages for word in message["content"].split()})
    return [
        [{"role": "system", "content": " ".join(rng.choices(words, k=LONG_WORDS))}, messages[-1]] for messages in short
    ]


async def measure(worker: RealWorker, rounds: int) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4)) as session:
        bench = Bench(worker, session)
        entries = []
        for kind in ("short", "long"):
            for n in CANDIDATES:
                pairs = [
                    await _pair(bench, messages, n, number) for number, messages in enumerate(prompts(kind, rounds + 1))
                ]
                # The first is for warming up: connections, and vLLM's own first time at this many sequences.
                entries.append({"prompt": kind, "n": n, **_entry(pairs[1:])})
        return entries


async def _pair(bench: Bench, messages: list[Any], n: int, number: int) -> tuple[Run, Run]:
    """The prompt both ways, who is first in turns. (one, many)."""
    seed = 1000 * number
    common = {"model": POLICY, "messages": messages, **SAMPLING}
    salt = f"{number} {n} {random.random()}"
    one = [common | {"n": n, "seed": seed, "cache_salt": f"{salt} one"}]
    many = [common | {"n": 1, "seed": seed + index, "cache_salt": f"{salt} many"} for index in range(n)]
    if number % 2:
        run_many, run_one = await bench.run(many), await bench.run(one)
    else:
        run_one, run_many = await bench.run(one), await bench.run(many)
    return run_one, run_many


def _entry(pairs: Sequence[tuple[Run, Run]]) -> dict[str, Any]:
    return {
        "wall_ratio": quartiles([many.wall_ms / one.wall_ms for one, many in pairs]),
        "first_ratio": quartiles([many.first_ms / one.first_ms for one, many in pairs]),
        "one": medians([one for one, _ in pairs]),
        "many": medians([many for _, many in pairs]),
    }


def quartiles(ratios: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [round(one, 3) for one in statistics.quantiles(ratios, n=4)]


def medians(runs: Sequence[Run]) -> dict[str, float]:
    """Of each figure."""
    return {field.name: round(statistics.median(getattr(run, field.name) for run in runs), 1) for field in fields(Run)}


@contextmanager
def demo_worker() -> Iterator[RealWorker]:
    """A vLLM server with the demo policy."""
    with tempfile.TemporaryDirectory() as folder:
        policy = demo_on_free_ports(Path(folder)).policies[POLICY]
        [worker] = start_workers(POLICY, policy, free_ports(1), Path(folder))
        try:
            yield worker
        finally:
            worker.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=24)
    rounds = parser.parse_args().rounds
    with demo_worker() as worker:
        found = asyncio.run(measure(worker, rounds))
    print(json.dumps({"rounds": rounds, "stream_interval": SAMPLING["stream_interval"], "entries": found}, indent=1))


if __name__ == "__main__":
    main()
