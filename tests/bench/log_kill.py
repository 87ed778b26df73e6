"""What `kill -9` of a gateway loses: records that were taken and not yet written to the journal.

    python -m tests.bench.log_kill [kills] [--records 500]

Each time, a gateway process logs numbered records at a steady rate, and is killed after a random while. The number of
the last record it took is in shared memory, what it has written is in its journal. Prints one JSON object: how many
records were lost, and how many milliseconds of the log that is (from the newest record in the journal to the last one
taken): median and largest.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from gateway.access.cache import cache_file, save
from gateway.access.snapshot import Snapshot
from gateway.config import Config, dump
from gateway.log.frames import FILE_HEADER, Kind
from gateway.log.records import decode_interaction
from gateway.log.segment import load
from tests.bench.gateway_process import answering
from tests.bench.log_latency import free_port
from tests.bench.shared.logging_gateway import read_counter
from tests.fakes import FakeScorers, FakeWorker, serve
from tests.gateway.harness import config_for

SEED = 11


@dataclass(frozen=True)
class Killed:
    """written: the numbers in the journal, in its order. taken: the last that the log took. lost_ms: see above."""

    written: list[int]
    taken: int
    lost_ms: float

    @property
    def lost(self) -> int:
        return self.taken + 1 - len(self.written)


async def kill_one(folder: Path, per_s: float, after_s: float) -> Killed:
    """Start a gateway without a Redis, let it log for a while, and kill it. folder: an empty one."""
    worker, scorers = FakeWorker(), FakeScorers()
    async with serve(worker), serve(scorers):
        config = config_for(worker, scorers, folder / "data", {"n": 1, "reward": None, "safety": None})
        return await _kill(config, folder, per_s, after_s)


async def _kill(config: Config, folder: Path, per_s: float, after_s: float) -> Killed:
    port = free_port()
    path, counter = folder / "bestow.yaml", folder / "counter"
    path.write_text(yaml.safe_dump(yaml.safe_load(dump(config)) | {"gateway": {"port": port}}))
    (folder / "data").mkdir()
    save(cache_file(folder / "data"), Snapshot())
    command = ("-m", "tests.bench.shared.logging_gateway", str(path), str(counter))
    async with answering(port, *command) as (_, process):
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
            session.post("/bench/records", params={"per_s": per_s}) as reply,
        ):
            assert reply.status == 200, await reply.text()
        await asyncio.sleep(after_s)
        os.kill(process.pid, signal.SIGKILL)
    taken, at = read_counter(counter)
    written: list[int] = []
    newest = 0.0
    for segment_path in sorted((folder / "data" / "journal").glob("*.seg")):
        segment = load(segment_path)
        assert segment is not None
        for entry in segment.read(len(FILE_HEADER), max_bytes=2**30).entries:
            if entry.kind is Kind.INTERACTION:
                record = decode_interaction(entry.payload)
                written.append(int(record.model.removeprefix("n")))
                newest = record.created
    return Killed(written, taken, max(0.0, at - newest) * 1000 if taken + 1 > len(written) else 0.0)


async def run(kills: int, per_s: float) -> dict[str, object]:
    rng = random.Random(SEED)
    found = []
    for _ in range(kills):
        with tempfile.TemporaryDirectory() as folder:
            found.append(await kill_one(Path(folder), per_s, rng.uniform(0.5, 1.5)))
    return {
        "kills": kills,
        "records_per_s": per_s,
        "taken": sum(one.taken + 1 for one in found),
        "lost": {"median": statistics.median(one.lost for one in found), "most": max(one.lost for one in found)},
        "lost_ms": {
            "median": round(statistics.median(one.lost_ms for one in found), 1),
            "most": round(max(one.lost_ms for one in found), 1),
        },
        "load_of_the_machine": [round(one, 2) for one in os.getloadavg()],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", nargs="?", type=int, default=20)
    parser.add_argument("--records", type=float, default=500.0)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(run(given.kills, given.records)), indent=1))
