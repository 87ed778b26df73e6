"""How many interactions a second the log carries: accept -> journal -> Redis, the gateway's side on one core.

    python -m tests.bench.log_throughput [records] [--url redis://...]

Without --url it starts a redis-server of its own (append-only, in a temporary folder), on another core where there
is one. Prints one JSON object: records a second end to end, CPU per record of this process, and of `accept` alone.
"""

import argparse
import asyncio
import json
import os
import random
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from gateway.config import LogConfig
from gateway.ids import new_completion_id
from gateway.log.connection import connect
from gateway.log.records import CandidateRecord, Interaction, Verdict, encode
from gateway.log.writer import RecordLog
from tests.bench.log_latency import free_port

CANDIDATES = 8
BURST = 200
QUEUED = 2000


def interactions(count: int, rng: random.Random) -> list[Interaction]:
    """Best-of-8 with 40 words and 40 token ids a candidate: about 4 KB of JSON."""
    return [_interaction(rng) for _ in range(count)]


def _interaction(rng: random.Random) -> Interaction:
    candidates = [
        CandidateRecord(
            index=index,
            message={"role": "assistant", "content": " ".join(_word(rng) for _ in range(30))},
            finish_reason="stop",
            completion_tokens=40,
            token_ids=[rng.randrange(50_000) for _ in range(30)],
            reward=rng.gauss(0, 1),
            verdict=Verdict({"unsafe": rng.random()}),
        )
        for index in range(CANDIDATES)
    ]
    return Interaction(
        id=new_completion_id(),
        created=time.time(),
        model="demo",
        profile="default@1",
        policy="demo@1",
        strategy="best_of_n",
        outcome="delivered",
        messages=[{"role": "user", "content": "word " * 60}],
        parameters={"temperature": 0.7},
        candidates=candidates,
        chosen=0,
    )


def _word(rng: random.Random) -> str:
    """Of letters: rows of numbers look like telephone numbers, which no answer is full of."""
    return "".join(rng.choices(string.ascii_lowercase, k=5))


async def measure(url: str, folder: Path, count: int) -> dict[str, float | int]:
    """Feed `count` records in bursts, as fast as the log takes them, and wait until Redis has all."""
    made = interactions(min(count, 2000), random.Random(0))
    redis = connect(url)
    log = RecordLog(LogConfig.model_validate({}), folder, redis, CollectorRegistry())
    await log.start()
    began, cpu, accepting = time.perf_counter(), time.process_time(), 0.0
    for start in range(0, count, BURST):
        burst = [made[number % len(made)] for number in range(start, min(start + BURST, count))]
        before = time.perf_counter()
        for record in burst:
            log.accept(record)
        accepting += time.perf_counter() - before
        await asyncio.sleep(0)
        while log.health().queued > QUEUED:  # noqa: ASYNC110 (the log has no reason to signal this)
            await asyncio.sleep(0.001)
    journaled_s = time.perf_counter() - began
    complete = await log.drained(120)
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    dropped = log.health().dropped
    await log.close(5)
    await redis.aclose()
    return {
        "records": count,
        "bytes_per_record": sum(len(encode(record)) for record in made) // len(made),
        "complete": complete,
        "dropped": dropped,
        "records_per_s": round(count / wall),
        "journaled_per_s": round(count / journaled_s),
        "cpu_us_per_record": round(used / count * 1e6, 1),
        "accept_us": round(accepting / count * 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="?", type=int, default=40_000)
    parser.add_argument("--url")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        port = free_port()
        server = None if arguments.url else _start_redis(folder, port, cores[-1])
        try:
            url = arguments.url or f"redis://127.0.0.1:{port}"
            print(json.dumps(asyncio.run(measure(url, Path(folder) / "data", arguments.records))))
        finally:
            if server is not None:
                server.kill()
                server.wait()


def _start_redis(folder: str, port: int, core: int) -> subprocess.Popen[bytes]:
    binary = Path(sys.executable).with_name("redis-server")
    command = [str(binary), "--port", str(port), "--dir", folder, "--appendonly", "yes", "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    os.sched_setaffinity(server.pid, {core})
    time.sleep(1.0)
    return server


if __name__ == "__main__":
    main()
