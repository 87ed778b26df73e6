"""A disk that is full, and one that cannot be written at all."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.log.connection import connect
from gateway.signing import load_secret
from tests.gateway.harness import running_gateway
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.faults.steady import assert_all_there, steady
from tests.waiting import until


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system cannot be mounted here (only root can)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes what room is left."""
    path = folder / "filler"
    with pytest.raises(OSError, match="No space left"), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return path


async def test_a_full_disk_is_worked_round_and_used_again(
    small_disk: Path, redis_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(redis_server.url) as redis:
        async with steady(small_disk, redis, segment_bytes=65_536) as load:
            filler = fill(small_disk)
            await until(lambda: load.count("bypassed_total") > 0)
            assert not load.log.health().journal
            await load.more(1.0)
            filler.unlink()
            await until(lambda: load.log.health().journal)
            journaled = load.count("journaled_total")
            await until(lambda: load.count("journaled_total") > journaled)
        assert load.refused == 0
    await assert_all_there(redis_server.url, load)
    assert caplog.text.count("The journal cannot be written; records go to Redis from memory: ") >= 1


async def test_a_full_disk_while_redis_is_away_drops_only_what_the_queue_cannot_hold(
    small_disk: Path, stopped_redis: RedisServer, tmp_path: Path
) -> None:
    async with connect(stopped_redis.url) as redis:
        # A journal that nobody empties fills the disk by itself.
        async with steady(small_disk, redis, segment_bytes=65_536, queue_records=1500) as load:
            await until(lambda: load.refused > 0, 60)
            assert load.log.health().queued == 1500 and load.log.health().pending > 0
            await asyncio.to_thread(stopped_redis.start)
            await until(lambda: load.log.health().queued < 1000)
        assert load.count("dropped_total", reason="queue_full") == load.refused
    await assert_all_there(stopped_redis.url, load)


async def test_a_gateway_without_a_writable_disk_warns_once_and_works(
    redis_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    secret = tmp_path / "secret"
    secret.write_text("0" * 64)
    async with running_gateway(
        tmp_path / "data", redis_url=redis_server.url, gateway={"feedback_secret_file": str(secret)}
    ) as gateway:
        assert caplog.text.count("The journal cannot be written; records go to Redis from memory") == 1
        for _ in range(5):
            assert (await gateway.chat())[0] == 200
        assert await gateway.service.log.drained(15)
        async with gateway.session.get("/readyz") as reply:
            log = (await reply.json())["log"]
        assert log["journal"].startswith("cannot be written") and (log["redis"], log["dropped"]) == ("ready", 0)
        assert gateway.metric("bestow_log_bypassed_total") == 5
        assert caplog.text.count("The journal cannot be written; records go to Redis from memory") == 1


def test_without_a_place_for_the_feedback_secret_the_start_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match=r"cannot be made: .*gateway\.feedback_secret_file"):
        load_secret(tmp_path / "data" / "feedback.secret", create=True)
