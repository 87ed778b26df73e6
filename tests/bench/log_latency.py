"""What the log costs requests: a gateway at a steady rate, with nothing logged and with 500 records a second.

    python -m tests.bench.log_latency [--records 500] [--per-s 60] [--rounds 12] [--seconds 5]

The gateway (one process, one candidate, no scorers) stands in front of a fake worker and a real Redis. Each round is
two stretches of `seconds` in random order. In one, every request says `store: false`, which is counted and not logged.
In the other all are logged, and made-up records of 4 KB besides until they are `records` a second, since one process
answers fewer requests than it can log: journal, Redis, everything. Requests are sent when their time has come, however
many are still open, and their time is counted from then, so that a stall counts for all that it kept waiting.

Prints one JSON object: median, 95th and 99th percentile of both in ms (over all requests), and the ratio of logged to
not logged (median over the rounds, with a 95 % bootstrap interval); the gateway's CPU, and what a record takes of it;
requests sent late by the generator; the log's own counts at the end.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

from gateway.config import dump
from tests.bench.gateway_process import answering
from tests.bench.shared.paired import median_ratio
from tests.fakes import FakeScorers, FakeWorker, serve
from tests.gateway.harness import config_for

SEED = 7
WARM_S = 3.0
LATE_S = 0.005
BODY = {"model": "m", "messages": [{"role": "user", "content": "How do I keep a houseplant healthy? " * 8}]}
ANSWER = "Give it light, and water when the soil is dry; turn it now and then, and feed it in summer. " * 4


@dataclass
class Stretch:
    """One kind of requests for some seconds: each one's time, and the gateway's CPU, in seconds."""

    took: list[float] = field(default_factory=list)
    cpu: float = 0.0
    late: int = 0
    records: float = 0.0

    def percentile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.took, n=100)[percent - 1] * 1000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Bench:
    """session: its base is the gateway. per_s: requests a second. records: what is logged a second where it is."""

    session: aiohttp.ClientSession
    process: psutil.Process
    per_s: float
    records: float

    async def stretch(self, seconds: float, *, store: bool) -> Stretch:
        found = Stretch(records=self.records * seconds if store else 0)
        body = json.dumps({**BODY, "store": store}).encode()
        headers = {"content-type": "application/json"}

        async def one(due: float) -> None:
            async with self.session.post("/v1/chat/completions", data=body, headers=headers) as reply:
                text = await reply.read()
                assert reply.status == 200, text
            found.took.append(time.perf_counter() - due)

        await self._make_up(max(0.0, self.records - self.per_s) if store else 0.0)
        used, begun = self._cpu(), time.perf_counter()
        async with asyncio.TaskGroup() as open_requests:
            for number in range(int(self.per_s * seconds)):
                due = begun + number / self.per_s
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                found.late += time.perf_counter() - due > LATE_S
                open_requests.create_task(one(due))
        await self._make_up(0.0)
        # What was logged is on its way for some milliseconds more; the other kind gets the same time.
        await asyncio.sleep(0.5)
        found.cpu = self._cpu() - used
        return found

    async def rounds(self, seconds: float, count: int) -> list[tuple[Stretch, Stretch]]:
        """(not logged, logged) of each round."""
        rng = random.Random(SEED)
        for store in (True, False):
            await self.stretch(WARM_S, store=store)
        pairs = []
        for _ in range(count):
            first = rng.random() < 0.5
            found = {store: await self.stretch(seconds, store=store) for store in (first, not first)}
            pairs.append((found[False], found[True]))
        return pairs

    async def _make_up(self, per_s: float) -> None:
        async with self.session.post("/bench/records", params={"per_s": per_s}) as reply:
            assert reply.status == 200, await reply.text()

    def _cpu(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


def summed(stretches: Sequence[Stretch]) -> dict[str, float]:
    everything = Stretch([took for one in stretches for took in one.took])
    requests = len(everything.took)
    return {
        "requests": requests,
        **{f"p{percent}_ms": round(everything.percentile_ms(percent), 2) for percent in (50, 95, 99)},
        "cpu_s": round(sum(one.cpu for one in stretches), 2),
        "sent_late": sum(one.late for one in stretches),
    }


def told(pairs: Sequence[tuple[Stretch, Stretch]]) -> dict[str, Any]:
    off, on = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratios = {}
    for percent in (50, 95, 99):
        ones, others = ([one.percentile_ms(percent) for one in kind] for kind in (on, off))
        ratios[f"p{percent}"] = {**median_ratio(ones, others, SEED).as_dict(), "of": "rounds"}
    extra = [(one.cpu - none.cpu) / one.records * 1e6 for none, one in pairs]
    return {
        "not_logged": summed(off),
        "logged": summed(on),
        "logged_over_not": ratios,
        "cpu_us_per_record": {"median": round(statistics.median(extra)), "rounds": [round(one) for one in extra]},
    }


async def log_counts(session: aiohttp.ClientSession) -> dict[str, float]:
    async with session.get("/metrics") as reply:
        lines = (await reply.text()).splitlines()
    wanted = ("accepted_total", "journaled_total", "dropped_total", "pending", "queued")
    found = {}
    for line in lines:
        name, _, value = line.rpartition(" ")
        if name.removeprefix("bestow_log_") in wanted and name.startswith("bestow_log_"):
            found[name.removeprefix("bestow_log_")] = float(value)
    return found


async def run(per_s: float, records: float, seconds: float, count: int) -> dict[str, Any]:
    worker, scorers = FakeWorker(texts=[ANSWER]), FakeScorers(rewards=len)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with own_redis(folder) as url:
            async with serve(worker), serve(scorers):
                profile = {"n": 1, "reward": None, "safety": None}
                config = config_for(worker, scorers, folder / "data", profile, redis_url=url)
                port, path = free_port(), folder / "bestow.yaml"
                path.write_text(yaml.safe_dump(yaml.safe_load(dump(config)) | {"gateway": {"port": port}}))
                command = ("-m", "tests.bench.shared.logging_gateway", str(path), str(folder / "counter"))
                everybody = aiohttp.TCPConnector(limit=0)
                async with (
                    answering(port, *command) as (_, process),
                    aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=everybody) as session,
                ):
                    pairs = await Bench(session, process, per_s, records).rounds(seconds, count)
                    counts = await log_counts(session)
    asked = {"requests_per_s": per_s, "records_per_s": records, "seconds": seconds, "rounds": count}
    load = [round(one, 2) for one in os.getloadavg()]
    return {**asked, **told(pairs), "log": counts, "load_of_the_machine": load}


@contextmanager
def own_redis(folder: Path) -> Iterator[str]:
    """Its address."""
    port, binary = free_port(), Path(sys.executable).with_name("redis-server")
    keeping = ("--dir", str(folder), "--appendonly", "yes", "--save", "")
    redis = subprocess.Popen([str(binary), "--port", str(port), *keeping], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        redis.kill()
        redis.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=float, default=500.0)
    parser.add_argument("--per-s", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(run(given.per_s, given.records, given.seconds, given.rounds)), indent=1))
