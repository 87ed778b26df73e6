"""A log at work in a test's folder, and records for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.log.writer import RecordLog
from tests.gateway.log.log_samples import assert_equations_hold, interaction, settings


@asynccontextmanager
async def running(
    data_dir: Path, redis: Redis | None, close_s: float = 5.0, **changes: Any
) -> AsyncIterator[tuple[RecordLog, CollectorRegistry]]:
    registry = CollectorRegistry()
    log = RecordLog(settings(**changes), data_dir, redis, registry)
    await log.start()
    try:
        yield log, registry
    finally:
        await log.close(close_s)
        assert_equations_hold(registry)


async def stream_of(redis: Redis, key: str) -> list[dict[bytes, bytes]]:
    """The fields of a stream's entries, oldest first."""
    entries: Any = await redis.xrange(key)
    return [fields for _, fields in entries]


def accept_many(log: RecordLog, count: int) -> set[str]:
    records = [interaction() for _ in range(count)]
    assert all(log.accept(record) for record in records)
    return {record.id for record in records}
