"""The real log under a steady 500 records a second, while something is wrong with Redis or with the disk."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.connection import connect
from gateway.log.records import Feedback
from gateway.log.writer import RecordLog
from tests.gateway.log.log_samples import SHARD, assert_equations_hold, interaction, sample, thumb
from tests.gateway.log.running import running

PER_S = 500
_TICK_S = 0.02
# Each so many interactions, somebody votes on one.
_VOTED = 25
_DRAIN_S = 120.0


@dataclass
class Steady:
    """What was handed to the log so far. refused: what it did not take."""

    log: RecordLog
    registry: CollectorRegistry
    ids: set[str] = field(default_factory=set)
    votes: dict[str, Feedback] = field(default_factory=dict)
    refused: int = 0

    async def feed(self) -> None:
        began, given = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * PER_S)
            for _ in range(due - given):
                record = interaction()
                if self.log.accept(record):
                    self.ids.add(record.id)
                else:
                    self.refused += 1
                if len(self.ids) % _VOTED == 0 and record.id in self.ids:
                    vote = thumb(record.id)
                    if self.log.accept(vote):
                        self.votes[record.id] = vote
                    else:
                        self.refused += 1
            given = due
            await asyncio.sleep(_TICK_S)

    async def more(self, seconds: float) -> None:
        """Let so much time's records be accepted, however slow the machine is."""
        wanted = len(self.ids) + self.refused + int(seconds * PER_S)
        while len(self.ids) + self.refused < wanted:  # noqa: ASYNC110 (the log has no reason to signal this)
            await asyncio.sleep(_TICK_S)

    def count(self, name: str, **labels: str) -> float:
        return sample(self.registry, name, **labels)


@asynccontextmanager
async def steady(data_dir: Path, redis: Redis, **settings: Any) -> AsyncIterator[Steady]:
    """Records flow while the block runs. Behind it the lag has drained and the equations hold."""
    async with running(data_dir, redis, **settings) as (log, registry):
        load = Steady(log, registry)
        feeding = asyncio.create_task(load.feed())
        try:
            await load.more(0.5)
            yield load
            await load.more(0.5)
        finally:
            feeding.cancel()
            await asyncio.wait({feeding})
        assert await log.drained(_DRAIN_S)
        assert_equations_hold(registry)
        assert log.health().lag_s == 0


async def assert_all_there(url: str, load: Steady) -> None:
    """Every record that was taken is read, and read once; every vote counts."""
    async with connect(url) as redis:
        read = [logged.record.id async for logged in streams.interactions(redis, SHARD).after()]
        assert len(read) == len(set(read)) and set(read) == load.ids
        voted = list(load.votes)
        found = await streams.votes_of_all(redis, SHARD, voted)
        assert found == [[load.votes[one]] for one in voted]
