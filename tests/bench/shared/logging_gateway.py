"""A gateway process that also logs made-up records, as many a second as it is told: for benchmarks of the log.

    python -m tests.bench.shared.logging_gateway CONFIG COUNTER

POST /bench/records?per_s=500 sets how many a second. Each is about 4 KB (`log_throughput`), with its number as its
model's name; COUNTER, a file, holds the number of the last one that the log took, and when, whatever becomes of this
process.
"""

import asyncio
import mmap
import random
import struct
import sys
import time
from pathlib import Path

import msgspec
import uvicorn
from fastapi import FastAPI

from gateway.api.wire import JsonHttpProtocol
from gateway.app import create_app
from gateway.config import load
from gateway.ids import new_completion_id
from gateway.serving import ChatService
from tests.bench.log_throughput import interactions

COUNTED = struct.Struct("=qd")
_TICK_S = 0.002


class Feeder:
    def __init__(self, app: FastAPI, counter: mmap.mmap) -> None:
        self._app = app
        self._counter = counter
        self._made = interactions(500, random.Random(0))
        self._number = 0
        self.per_s = 0.0

    async def run(self) -> None:
        owed, last = 0.0, time.perf_counter()
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.perf_counter()
            owed, last = owed + (now - last) * self.per_s, now
            while owed >= 1:
                owed -= 1
                self._accept()

    def _accept(self) -> None:
        service: ChatService = self._app.state.service
        at = time.time()
        made = self._made[self._number % len(self._made)]
        record = msgspec.structs.replace(made, id=new_completion_id(), model=f"n{self._number}", created=at)
        if service.log.accept(record):
            COUNTED.pack_into(self._counter, 0, self._number, at)
            self._number += 1


def read_counter(path: Path) -> tuple[int, float]:
    """Number of the last record that was taken, and when (seconds since 1970)."""
    number, at = COUNTED.unpack(path.read_bytes()[: COUNTED.size])
    return int(number), float(at)


def main() -> None:
    config = load(Path(sys.argv[1]))
    path = Path(sys.argv[2])
    path.write_bytes(bytes(mmap.PAGESIZE))
    with path.open("r+b") as file:
        counter = mmap.mmap(file.fileno(), 0)
    app = create_app(config)
    feeder = Feeder(app, counter)
    tasks: list[asyncio.Task[None]] = []

    @app.post("/bench/records")
    async def records(per_s: float) -> None:
        if not tasks:
            tasks.append(asyncio.create_task(feeder.run()))
        feeder.per_s = per_s

    settings = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=config.gateway.port,
        loop="uvloop",
        http=JsonHttpProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
    )
    uvicorn.Server(settings).run()


if __name__ == "__main__":
    main()
