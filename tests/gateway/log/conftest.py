"""A real redis-server of one's own for each test that asks, and records to log."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from redis.asyncio import Redis

from gateway.log.connection import connect
from tests.gateway.log.log_samples import SECRET
from tests.gateway.log.redis_fleets import Cluster, Watched
from tests.ports import free_port


def redis_binary() -> str:
    """What BESTOW_REDIS_SERVER names, to run these tests against another Redis; else the wheel's or the system's."""
    beside = Path(sys.executable).with_name("redis-server")
    found = os.environ.get("BESTOW_REDIS_SERVER") or (str(beside) if beside.exists() else shutil.which("redis-server"))
    if not found:
        pytest.skip("no redis-server beside Python or on the path")
    return found


class RedisServer:
    """redis-server on a port of its own, append-only, in a folder of its own."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port = free_port() if port is None else port
        self.process: subprocess.Popen[bytes] | None = None
        self._known = False

    @property
    def url(self) -> str:
        self._known = True
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def append_only_file(self) -> Path:
        """Where its newest writes are; Redis 7 has a folder of such files."""
        newest = sorted((self.folder / "appendonlydir").glob("*.incr.aof"))
        return newest[-1] if newest else self.folder / "appendonly.aof"

    def forget(self) -> None:
        """Lose everything, while it does not run."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()

    def start(self, *arguments: str) -> None:
        """At the port it had; the first time, while nobody knows it, at another one where that has been taken."""
        while not self._started(arguments):
            assert not self._known, "redis-server did not start"
            self.port = free_port()
        self._known = True

    def _started(self, arguments: Sequence[str]) -> bool:
        """False where it has ended again."""
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--appendonly", "yes", "--save", "", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)
        return True

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three masters, each with a replica; it runs."""
    cluster = Cluster([RedisServer(tmp_path / f"node{number}") for number in range(6)])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A master, its replica, and a Sentinel that watches them; all run."""
    watched = Watched(
        RedisServer(tmp_path / "one"), RedisServer(tmp_path / "other"), RedisServer(tmp_path / "sentinel")
    )
    try:
        watched.start(redis_binary())
        yield watched
    finally:
        watched.kill()


@pytest.fixture
def stopped_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test starts when it wants."""
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


@pytest.fixture
def redis_server(stopped_redis: RedisServer) -> RedisServer:
    stopped_redis.start()
    return stopped_redis


@pytest.fixture
async def redis(stopped_redis: RedisServer) -> AsyncIterator[Redis]:
    """A client; whether the server runs is up to the test."""
    client = connect(stopped_redis.url)
    yield client
    await client.aclose()


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer) -> Path:
    """A configuration file for `bestow log` and its like: that Redis, data beside it, a secret that tests know."""
    path = tmp_path / "bestow.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(tmp_path), "redis": {"url": redis_server.url}}))
    (tmp_path / "feedback.secret").write_text(SECRET)
    return path
