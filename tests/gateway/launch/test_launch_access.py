"""Keys and TLS in `bestow doctor` and `bestow up`: how parts are asked, and what is said where that fails."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.config import Config, dump, load, parse
from gateway.errors import ConfigError
from gateway.launch import checks
from gateway.launch.addresses import gateway_endpoint
from gateway.launch.doctor import examine, same_server
from gateway.launch.machine import Machine, redis_server
from gateway.launch.parts import Plan, plan
from gateway.launch.ports import is_free
from gateway.launch.probe import HttpReady, RedisReady
from gateway.launch.up import prepare
from gateway.log.connection import redis_address
from scorers.credentials import Secret
from scorers.endpoint import Endpoint
from scorers.settings import Tls
from scorers.tls import client_context, server_context, trusting
from tests.certificates import Authority
from tests.gateway.launch.launch_stubs import wait_for
from tests.ports import free_port

KEY = "sk-secret-4711"
WHERE = "policies.p.workers.0"
CPU = Machine(cores=2, memory_gib=20, gpu=False)


@asynccontextmanager
async def guarded(tls: Any = None, key: str = KEY) -> AsyncIterator[str]:
    """A server like vLLM and the scorer server: health for all, /v1 for those who hold the key."""

    async def answer(request: web.Request) -> web.Response:
        if request.path.startswith("/v1") and request.headers.get("authorization") != f"Bearer {key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        return web.json_response({"data": [{"id": "p", "kind": "reward"}], "version": "0.32.0"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_worker_and_a_scorer_server_that_refuse_the_key_are_told_with_the_key_to_set() -> None:
    async with guarded() as url:
        for key, seen in ((None, "asks for a key"), (Secret(lambda: "sk-other"), "refuses the key")):
            worker = await checks.check_worker("p", Endpoint(url, key), WHERE)
            (scorer,) = await checks.check_scorers(Endpoint(url, key), {"p": "reward"})
            assert worker.level == scorer.level == "problem"
            assert seen in worker.text and seen in scorer.text
            assert f"{WHERE}.api_key_file" in str(worker.mend) and "scorers.p.api_key_file" in str(scorer.mend)
            assert "sk-" not in f"{worker} {scorer}"
        held = Endpoint(url, Secret(lambda: KEY))
        assert (await checks.check_worker("p", held, WHERE)).level == "ok"
        assert [one.level for one in await checks.check_scorers(held, {"p": "reward"})] == ["ok"]


async def test_a_certificate_that_fails_is_told_apart_from_no_answer(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    trusts = trusting("x", authority.ca_file)
    for tls, ours, said in (
        (authority.server(), None, "not trusted here"),
        (authority.server(), trusting("x", other.ca_file), "not trusted here"),
        (authority.server(expired=True), trusts, "has expired"),
        (authority.server("elsewhere.test"), trusts, "for another name"),
        (authority.server(clients_of=other), trusts, "wants a client certificate"),
    ):
        async with guarded(tls) as url:
            worker = await checks.check_worker("p", Endpoint(url, tls=ours), WHERE)
            (scorer,) = await checks.check_scorers(Endpoint(url, tls=ours), {"p": "reward"})
        for found in (worker, scorer):
            assert found.level == "problem" and "TLS fails" in found.text and said in found.text
        assert f"{WHERE}.ca_file" in str(worker.mend)
    async with guarded() as url:
        found = await checks.check_worker("p", Endpoint(url.replace("http", "https")), WHERE)
    assert "does not speak TLS" in found.text


async def test_mutual_tls_is_shown_by_doctor_too(tmp_path: Path) -> None:
    authority, clients = Authority(tmp_path), Authority(tmp_path, "clients")
    mine = clients.issue("gateway.test")
    shown = client_context("x", Tls(ca_file=authority.ca_file, cert_file=mine.cert_file, key_file=mine.key_file))
    async with guarded(authority.server(clients_of=clients)) as url:
        endpoint = Endpoint(url, Secret(lambda: KEY), shown)
        assert (await checks.check_worker("p", endpoint, WHERE)).level == "ok"
        assert await HttpReady(f"{url}/health", endpoint)()
        assert not await HttpReady(f"{url}/health")()


async def test_a_redis_that_refuses_the_password_is_told_with_the_key_to_set(tmp_path: Path) -> None:
    binary, port = redis_server(), free_port()
    assert binary is not None
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""]
    process = await asyncio.create_subprocess_exec(*command, "--requirepass", KEY, stdout=subprocess.DEVNULL)
    try:
        await asyncio.to_thread(wait_for, lambda: not is_free("127.0.0.1", port))
        url = f"redis://127.0.0.1:{port}/0"
        (tmp_path / "wrong").write_text("sk-other")
        (tmp_path / "right").write_text(KEY)
        for redis in ({"url": url}, {"url": url, "password_file": str(tmp_path / "wrong")}):
            (found,) = await checks.check_redis(redis_address(parse({"redis": redis}).redis))
            assert found.level == "problem" and "refuses us" in found.text and "sk-" not in found.text
            assert "redis.password_file" in str(found.mend)
        address = redis_address(parse({"redis": {"url": url, "password_file": str(tmp_path / "right")}}).redis)
        assert "ok" in [one.level for one in await checks.check_redis(address)]
        assert await RedisReady(address)() and not await RedisReady(url)()
    finally:
        process.kill()
        await process.wait()


async def test_doctor_says_which_secret_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "bestow.yaml"
    file.write_text(f"data_dir: {tmp_path}\nredis: {{url: 'redis://h/0', password_file: {tmp_path}/none}}\n")
    found = [one for one in await examine(file) if one.level == "problem"]
    assert any(one.text.startswith("redis.password_file: there is no file") for one in found)


def test_scorers_are_asked_together_where_address_and_key_are_the_same() -> None:
    at = {"kind": "reward", "model": "m", "url": "http://s:1"}
    config = parse({"scorers": {"a": at, "b": {**at, "api_key_env": "K"}, "c": at}})
    assert same_server(config) == [["a", "c"], ["b"]]


def own_scorers(folder: Path, names: tuple[str, ...] = (), scorer_server: dict[str, str] | None = None) -> Config:
    """A configuration whose scorer server is started here, with a key and a certificate for these names."""
    issued = Authority(folder).issue(*names)
    (folder / "key").write_text(KEY)
    return parse(
        {
            "data_dir": str(folder / "data"),
            "redis": {"url": "redis://10.0.0.1:6379/0"},
            "gateway": {"tls_cert_file": str(issued.cert_file), "tls_key_file": str(issued.key_file)},
            "policies": {"p": {"model": "org/p", "workers": [{"url": "http://10.0.0.2:8000"}]}},
            "scorers": {"reward": {"kind": "reward", "model": "org/r"}, "safety": {"kind": "safety", "model": "org/s"}},
            "scorer_server": {
                "api_key_file": str(folder / "key"),
                "tls_cert_file": str(issued.cert_file),
                "tls_key_file": str(issued.key_file),
                **(scorer_server or {}),
            },
            "profiles": {"default": {}},
            "models": {"m": {"policy": "p"}},
        }
    )


def planned(config: Config) -> Plan:
    return plan(config, CPU, None)


def test_a_scorer_server_of_our_own_with_key_and_certificate_is_called_with_them(tmp_path: Path) -> None:
    config = own_scorers(tmp_path)
    todo = planned(config)
    scorer = todo.config.scorers["reward"]
    assert scorer.url == "https://127.0.0.1:8201"
    assert (scorer.api_key_file, scorer.ca_file) == (tmp_path / "key", config.scorer_server.tls_cert_file)
    ready = {part.name: part.ready for part in todo.parts}
    assert isinstance(ready["scorers"], HttpReady) and ready["scorers"].url == "https://127.0.0.1:8201/readyz"
    assert ready["scorers"].endpoint is not None and ready["scorers"].endpoint.tls is not None
    assert isinstance(ready["gateway"], HttpReady) and ready["gateway"].url == "https://127.0.0.1:8000/readyz"
    todo.data_dir.mkdir()
    prepare(todo)
    for name in ("run.yaml", "run.scorers.yaml"):
        assert KEY not in (todo.data_dir / name).read_text()
    assert load(todo.data_dir / "run.yaml") == todo.config
    own = load(todo.data_dir / "run.scorers.yaml")
    assert own.scorer_server == todo.config.scorer_server and own.scorers["reward"].url is None
    assert KEY not in dump(todo.config)


async def test_the_gateways_certificate_need_not_name_the_loopback_and_no_other_will_do(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "public")
    issued = authority.issue("api.example.test")
    front = {"tls_cert_file": str(issued.cert_file), "tls_key_file": str(issued.key_file)}
    endpoint = gateway_endpoint(parse({"gateway": front}).gateway)
    assert endpoint.url == "https://127.0.0.1:8000"
    own = server_context("gateway", issued.cert_file, issued.key_file)
    async with guarded(own) as url:
        assert await HttpReady(f"{url}/readyz", endpoint)()
    async with guarded(authority.server("api.example.test")) as url:
        assert not await HttpReady(f"{url}/readyz", endpoint)()


def test_what_cannot_be_served_with_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^scorer_server\.tls_cert_file: the gateway would refuse .* 127\.0\.0\.1"):
        planned(own_scorers(tmp_path, ("elsewhere.test",)))
    for key in ("api_key_file", "tls_key_file"):
        with pytest.raises(ConfigError) as caught:
            planned(own_scorers(tmp_path, scorer_server={key: str(tmp_path / "none")}))
        (line,) = str(caught.value).splitlines()
        assert line.startswith(f"scorer_server.{key}: there is no file")


def test_paths_are_absolute_in_the_file_that_the_parts_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text(KEY)
    config = parse(
        {
            "redis": {"url": "redis://10.0.0.1/0", "password_file": "secret"},
            "policies": {"p": {"model": "org/p", "workers": [{"url": "http://10.0.0.2:8", "api_key_file": "secret"}]}},
        }
    )
    full = planned(config).config
    assert full.redis.password_file == full.policies["p"].workers[0].api_key_file == tmp_path / "secret"
