"""The gateway has rounds done by a process of its own."""

import asyncio
import logging
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.config import Config, parse
from gateway.log import streams
from gateway.log.archive import opening
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.runner import ArchiveRunner
from gateway.log.feedback import FeedbackStore
from gateway.log.keys import archiver_key
from gateway.log.own_process import ProcessFailed
from tests.gateway.log.archive.archiving import archive, archive_in, ids, interactions_read, made, send, store_in
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD, interaction, thumb


def config(server: RedisServer, folder: Path, **archive: Any) -> Config:
    settings = {"after_s": 0.001, "every_s": 0.05, **archive}
    return parse({"data_dir": str(folder), "redis": {"url": server.url}, "log": {"archive": settings}})


async def test_what_is_due_is_archived_by_another_process(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    records = [interaction() for _ in range(10)]
    await send(redis, *records, thumb(records[0].id))
    registry = CollectorRegistry()
    archiving = ArchiveRunner(config(redis_server, tmp_path), redis, registry)
    await asyncio.sleep(0.01)
    assert await archiving.look()
    assert await streams.interactions(redis, SHARD).length() == 0
    assert await interactions_read(redis, archive_in(tmp_path)) == (records, 0)
    assert registry.get_sample_value("bestow_archive_records_total", {"stream": "interactions"}) == 10
    assert registry.get_sample_value("bestow_archive_rounds_total", {"result": "done"}) == 1
    assert (registry.get_sample_value("bestow_archive_bytes_total") or 0) > 1000
    assert not await archiving.look()  # Nothing is left.
    assert await ArchiverLock(redis, SHARD, "next").take()  # And the lock is free.


async def test_an_archive_is_put_in_order_though_nothing_arrives(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    now = time.time()
    old = [made(now - 9 * 86_400 + index) for index in range(2)]
    for record in (*old, fresh := made(now - 3600)):
        await send(redis, record)
        await archive(redis, store_in(tmp_path))
    registry = CollectorRegistry()
    archiving = ArchiveRunner(config(redis_server, tmp_path, retain_days=7), redis, registry, clock=lambda: now)
    assert await archiving.look()
    assert registry.get_sample_value("bestow_archive_retired_total", {"stream": "interactions"}) == 2
    assert await interactions_read(redis, archive_in(tmp_path)) == ([fresh], 0)
    assert not await archiving.look()
    now += 3700
    assert await archiving.look()


async def test_while_another_archives_nothing_is_done(tmp_path: Path, redis_server: RedisServer, redis: Redis) -> None:
    await send(redis, interaction())
    await asyncio.sleep(0.01)
    assert await ArchiverLock(redis, SHARD, "other").take()
    assert not await ArchiveRunner(config(redis_server, tmp_path), redis, CollectorRegistry()).look()
    assert await streams.interactions(redis, SHARD).length() == 1


async def test_an_archive_that_cannot_be_written_is_one_sentence_and_tried_again(
    tmp_path: Path, redis_server: RedisServer, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await send(redis, record := interaction())
    blocked = tmp_path / "archive"
    blocked.write_text("a file where the folder should be")
    await asyncio.sleep(0.01)
    registry = CollectorRegistry()
    archiving = ArchiveRunner(config(redis_server, tmp_path), redis, registry)
    with pytest.raises(ProcessFailed, match="exists"):
        await archiving.look()
    assert await streams.interactions(redis, SHARD).length() == 1
    caplog.set_level(logging.WARNING)
    await archiving.start()
    deadline = time.monotonic() + 20
    while not registry.get_sample_value("bestow_archive_rounds_total", {"result": "failed"}):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    blocked.unlink()
    while await streams.interactions(redis, SHARD).length():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await archiving.close()
    assert caplog.text.count("they stay in Redis") >= 1
    assert ids((await interactions_read(redis, archive_in(tmp_path)))[0]) == [record.id]


async def test_closing_ends_a_round_in_the_middle(
    tmp_path: Path, redis_server: RedisServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(redis, interaction())
    (hangs := tmp_path / "hangs").write_text("#!/bin/sh\nexec sleep 1000\n")
    hangs.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(hangs))
    archiving = ArchiveRunner(config(redis_server, tmp_path), redis, CollectorRegistry())
    await archiving.start()
    deadline = time.monotonic() + 20
    while not await redis.exists(archiver_key(SHARD)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    began = time.monotonic()
    await archiving.close()
    assert time.monotonic() - began < 5
    assert not await redis.exists(archiver_key(SHARD))


async def test_without_pyarrow_nothing_is_archived_and_that_is_said(
    tmp_path: Path,
    redis_server: RedisServer,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    archiving = ArchiveRunner(config(redis_server, tmp_path), redis, CollectorRegistry())
    await archiving.start()
    await archiving.close()
    assert "bestow-gateway[archive]" in caplog.text
    assert opening.archive_of(config(redis_server, tmp_path).log.archive, tmp_path) is None


async def test_a_persons_votes_are_told_from_both_and_without_the_archive_in_part(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    record = interaction()
    await send(redis, record, old := thumb(record.id, user="bob"))
    await asyncio.sleep(0.01)
    assert await ArchiveRunner(config(redis_server, tmp_path), redis, CollectorRegistry()).look()
    await send(redis, new := thumb(record.id))
    store = FeedbackStore(redis, SHARD, archive=archive_in(tmp_path))
    votes = await store.of(record.id)
    assert (votes.feedback, votes.partial) == ([old, new], False)
    for part in (tmp_path / "archive").rglob("*.parquet"):
        part.write_bytes(b"damaged")
    votes = await store.of(record.id)
    assert (votes.feedback, votes.partial) == ([new], True)
