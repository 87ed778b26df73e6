"""The scheduler as a process, on a real Redis."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from redis.asyncio import Redis

from gateway.log.keys import feedback_key
from gateway.log.records import SCHEMA_VERSION, encode
from gateway.release.leader import Leader
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD, thumb
from training.cycle.feedback import feedback_since
from training.cycle.schedule_command import LOCK
from training.cycle.turn import read_turns, turns_of


@pytest.fixture
def home(tmp_path: Path, redis_server: RedisServer) -> Path:
    """A folder with a configuration, and settings by which three votes are worth a turn."""
    config = {
        "data_dir": str(tmp_path / "data"),
        "redis": {"url": redis_server.url},
        "policies": {"demo-policy": {"model": str(tmp_path)}},
        "profiles": {"default": {"reward": None, "safety": None}},
        "models": {"bestow-demo": {"policy": "demo-policy"}},
    }
    (tmp_path / "bestow.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (tmp_path / "cycle.yaml").write_text("min_feedback: 3\n", encoding="utf-8")
    return tmp_path


def schedule_once(home: Path) -> str:
    command = [sys.executable, "-m", "gateway.cli", "train", "schedule", "--once"]
    command += ["--settings", str(home / "cycle.yaml"), "--config", str(home / "bestow.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=home, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def vote(redis: Redis, count: int) -> None:
    for number in range(count):
        record = thumb("chatcmpl-x", user=f"u{number}")
        await redis.xadd(feedback_key(SHARD), {"v": SCHEMA_VERSION, "d": encode(record)})


@pytest.mark.usefixtures("redis_server")
async def test_votes_are_counted_from_a_moment_on(redis: Redis) -> None:
    await vote(redis, 3)
    assert await feedback_since(redis, SHARD, None, 0.0, 100) == 3
    assert await feedback_since(redis, SHARD, None, 0.0, 2) == 2
    assert await feedback_since(redis, SHARD, None, time.time() + 60, 100) == 0


async def test_too_little_feedback_is_no_turn(home: Path, redis: Redis) -> None:
    await vote(redis, 2)
    assert "2 new votes of 3" in schedule_once(home)
    assert read_turns(turns_of(home / "data" / "training")) == []


async def test_a_turn_that_fails_says_why_and_waits_before_it_is_tried_again(home: Path, redis: Redis) -> None:
    await vote(redis, 3)
    assert "failed; what serves is unchanged" in schedule_once(home)
    [turn] = read_turns(turns_of(home / "data" / "training"))
    assert turn.ending == "failed"
    assert turn.why.startswith("snapshot: ")
    assert "tried again later" in schedule_once(home)


async def test_while_another_scheduler_leads_nothing_is_begun(home: Path, redis: Redis) -> None:
    await vote(redis, 3)
    other = Leader(redis, LOCK)
    assert await other.lead() is not None
    try:
        assert "another scheduler leads" in schedule_once(home)
    finally:
        await other.close()
    assert read_turns(turns_of(home / "data" / "training")) == []
