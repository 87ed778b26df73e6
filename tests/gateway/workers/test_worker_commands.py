"""`bestow workers` and `bestow adapters`, as a person and as a program use them, in front of a gateway."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeWorker, serve
from tests.gateway.api.test_admin_keys import make
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer

Done = subprocess.CompletedProcess[str]


def bestow(*arguments: str, cwd: Path, key: str | None = None) -> Done:
    env = {**os.environ, **({"BESTOW_API_KEY": key} if key else {})}
    command = [sys.executable, "-m", "gateway.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)


async def said(gateway: Harness, *arguments: str, cwd: Path, key: str | None = None) -> str:
    """What a command prints that does what it should."""
    done = await asyncio.to_thread(bestow, *arguments, "--url", gateway.url, cwd=cwd, key=key)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_worker_is_listed_added_drained_and_removed(redis_server: RedisServer, tmp_path: Path) -> None:
    async with serve(other := FakeWorker()), running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        first = json.loads(await said(gateway, "workers", "list", "--json", cwd=tmp_path))["data"][0]["id"]
        listed = await said(gateway, "workers", "list", cwd=tmp_path)
        assert first in listed and gateway.worker.url in listed and "0.32.0" in listed

        added = json.loads(await said(gateway, "workers", "add", other.url, "--json", cwd=tmp_path))
        assert (added["policy"], added["source"]) == ("policy", "admin")

        assert first in await said(gateway, "workers", "drain", first, "--reason", "new driver", cwd=tmp_path)
        assert f"{first} was drained by anonymous: new driver." in await said(gateway, "workers", "list", cwd=tmp_path)
        assert "now it is up" in await said(gateway, "workers", "undrain", first, cwd=tmp_path)

        back = await said(gateway, "workers", "remove", first, "--reason", "too old", cwd=tmp_path)
        assert f"bestow workers add {gateway.worker.url} --policy policy" in back
        listed = await said(gateway, "workers", "list", cwd=tmp_path)
        assert first not in listed and "was removed by anonymous: too old." in listed
        assert first in await said(gateway, "workers", "add", gateway.worker.url, "-p", "policy", cwd=tmp_path)


async def test_an_adapter_is_loaded_listed_and_unloaded(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        assert "no adapters" in await said(gateway, "adapters", "list", cwd=tmp_path)
        loaded = await said(gateway, "adapters", "load", "a", "/adapters/a", cwd=tmp_path)
        assert loaded == "The adapter a of policy is loaded, on 1 worker.\n"
        listed = await said(gateway, "adapters", "list", cwd=tmp_path)
        assert "1 of 1" in listed and "/adapters/a" in listed
        [adapter] = json.loads(await said(gateway, "adapters", "list", "--json", cwd=tmp_path))["data"]
        assert adapter["name"] == "a"
        assert "is unloaded" in await said(gateway, "adapters", "unload", "a", "--policy", "policy", cwd=tmp_path)
        assert not gateway.worker.adapters


async def test_the_gateway_is_the_configurations_and_the_key_the_environments(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path / "data", redis_url=redis_server.url) as gateway:
        port = gateway.url.rpartition(":")[2]
        (tmp_path / "bestow.yaml").write_text(f"gateway: {{port: {port}}}\n")
        key = (await make(gateway, None, scopes=["admin"]))["key"]
        done = await asyncio.to_thread(bestow, "workers", "list", cwd=tmp_path, key=key)
        assert done.returncode == 0 and gateway.worker.url in done.stdout
        refused = await asyncio.to_thread(bestow, "workers", "list", cwd=tmp_path)
        assert refused.returncode == 1 and "BESTOW_API_KEY" in refused.stderr
        given = await asyncio.to_thread(bestow, "workers", "list", "--api-key", key, cwd=tmp_path)
        assert given.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["workers", "drain", "w-none"], "There is no worker with the id 'w-none'"),
        (["workers", "remove", "w/../x?"], "here is nothing at DELETE"),
        (["workers", "add", "nowhere"], "must look like http://"),
        (["workers", "add", "http://10.0.0.1", "-p", "no"], "there is no policy 'no' (there is policy)"),
        (["adapters", "load", "a", "here"], "an absolute path that the workers can read"),
        (["adapters", "load", "a", "/nowhere"], "worker w-"),
        (["adapters", "unload", "a"], "no adapter 'a' (there is none)"),
    ],
)
async def test_what_is_wrong_is_one_plain_sentence(
    redis_server: RedisServer, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    worker = FakeWorker(broken_adapters={"/nowhere"})
    async with running_gateway(tmp_path, worker, redis_url=redis_server.url) as gateway:
        done = await asyncio.to_thread(bestow, *arguments, "--url", gateway.url, cwd=tmp_path)
        assert done.returncode == 1 and reason in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--url", "http://127.0.0.1:1"], "The gateway at http://127.0.0.1:1 does not answer: nothing listens there."),
        (["--url", "127.0.0.1:8000"], "not an address of a gateway"),
        (["--config", "none.yaml"], "There is no configuration file"),
        ([], "name one with --config, or a gateway with --url"),
    ],
)
def test_a_gateway_that_cannot_be_asked_is_named(tmp_path: Path, arguments: list[str], reason: str) -> None:
    done = bestow("workers", "list", *arguments, cwd=tmp_path)
    assert done.returncode == 1 and reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [["workers"], ["workers", "add"], ["adapters"], ["adapters", "load"]])
def test_every_command_explains_itself(command: list[str], tmp_path: Path) -> None:
    done = bestow(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0 and "Usage" in done.stdout


async def test_what_a_terminal_would_obey_is_shown_as_question_marks(redis_server: RedisServer, tmp_path: Path) -> None:
    worker: Any = FakeWorker(adapters={"\x1b[31m": "/x"})
    async with running_gateway(tmp_path, worker, redis_url=redis_server.url) as gateway:
        assert "\x1b" not in await said(gateway, "workers", "list", cwd=tmp_path)
