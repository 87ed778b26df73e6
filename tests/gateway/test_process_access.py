"""A gateway process that serves HTTPS and reaches a worker, scorers and Redis behind TLS, keys and a password."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.log.connection import connect
from scorers.tls import trusting
from tests.certificates import Authority
from tests.fakes import FakeScorers, FakeWorker, serve
from tests.gateway.log.conftest import RedisServer
from tests.ports import free_port

WORKER_KEY, SCORER_KEY, PASSWORD = "sk-worker-4711", "sk-scorer-0815", "secret-of-redis"
ENVIRONMENT = {"SCORER_KEY_OF_A_TEST": SCORER_KEY}


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@contextlib.asynccontextmanager
async def gateway(config: dict[str, Any], folder: Path, environment: dict[str, str]) -> AsyncIterator[list[str]]:
    """The process, until it stops listening; yields a list that has its log once it has ended."""
    (folder / "bestow.yaml").write_text(yaml.safe_dump(config))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "--config", str(folder / "bestow.yaml")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    log: list[str] = []
    try:
        yield log
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        said, _ = await process.communicate()
        log.append(said.decode())


async def ready(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """/readyz once it is 200."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectorError):
                async with session.get(f"{url}/readyz") as reply:
                    if reply.status == 200:
                        report: dict[str, Any] = await reply.json()
                        if report["log"]["redis"] == "ready":
                            return report
            await asyncio.sleep(0.05)


async def test_everything_behind_tls_and_credentials_works_and_no_secret_is_logged(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with connect(redis_server.url) as admin:
        await admin.config_set("requirepass", PASSWORD)
    authority, front, clients = (Authority(tmp_path, name) for name in ("ca", "front", "clients"))
    mine, shown = clients.issue("gateway.test"), front.issue()
    (tmp_path / "worker.key").write_text(WORKER_KEY + "\n")
    (tmp_path / "redis.password").write_text(PASSWORD)
    worker, scorers = FakeWorker(), FakeScorers(rewards=len)
    port = free_port()
    async with (
        serve(worker, tls=authority.server(clients_of=clients), key=WORKER_KEY),
        serve(scorers, tls=authority.server(), key=SCORER_KEY),
    ):
        upstream = {"ca_file": str(authority.ca_file)}
        client = {"cert_file": str(mine.cert_file), "key_file": str(mine.key_file)}
        scorer = {"model": "m", "url": scorers.url, "api_key_env": "SCORER_KEY_OF_A_TEST", **upstream}
        config = {
            "data_dir": str(tmp_path / "data"),
            "gateway": {"port": port, "tls_cert_file": str(shown.cert_file), "tls_key_file": str(shown.key_file)},
            "redis": {"url": redis_server.url, "password_file": str(tmp_path / "redis.password")},
            "policies": {
                "policy": {
                    "model": "m",
                    "workers": [
                        {"url": worker.url, "api_key_file": str(tmp_path / "worker.key"), **upstream, **client}
                    ],
                }
            },
            "scorers": {"reward": {"kind": "reward", **scorer}, "safety": {"kind": "safety", **scorer}},
            "profiles": {"default": {"n": 4}},
            "models": {"m": {"policy": "policy"}},
        }
        url = f"https://127.0.0.1:{port}"
        connector = aiohttp.TCPConnector(ssl=trusting("x", front.ca_file))
        async with gateway(config, tmp_path, ENVIRONMENT) as log, aiohttp.ClientSession(connector=connector) as session:
            await ready(session, url)
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                answer = await reply.json()
            assert reply.status == 200 and answer["choices"][0]["message"]["content"] == "three"
            assert answer["guidance"]["degraded"] is None and answer["guidance"]["scored"] == 4
    assert not [secret for secret in (WORKER_KEY, SCORER_KEY, PASSWORD) if secret in log[0]]


def test_a_secret_that_cannot_be_read_is_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "bestow.yaml"
    path.write_text(
        "redis: {url: 'redis://h/0', password_env: NOT_SET_HERE}\n"
        "policies: {p: {model: m, workers: [{url: 'http://w:1', api_key_file: none}]}}\n"
        "profiles: {default: {reward: null, safety: null}}\nmodels: {m: {policy: p}}\n"
    )
    command = [sys.executable, "-m", "gateway", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "policies.p.workers.0.api_key_file: there is no file none.",
        "redis.password_env: the environment variable NOT_SET_HERE is not set.",
    ]
