"""/admin/v1/workers and /admin/v1/adapters, in front of a real Redis and fake workers."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeWorker, serve
from tests.gateway.api.test_admin_keys import call, make
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]

WORKERS, ADAPTERS = "/admin/v1/workers", "/admin/v1/adapters"


async def listed(gateway: Harness) -> dict[str, dict[str, Any]]:
    """The workers by address."""
    status, body = await call(gateway, "GET", WORKERS)
    assert status == 200
    return {one["url"]: one for one in body["data"]}


async def test_workers_are_listed_with_what_is_known_of_them(redis_server: RedisServer, tmp_path: Path) -> None:
    worker = FakeWorker(waiting=3, kv_usage=0.5)
    async with running_gateway(tmp_path, worker, redis_url=redis_server.url) as gateway:
        found = (await listed(gateway))[worker.url]
        assert found.pop("id").startswith("w-")
        assert found == {
            "object": "worker",
            "policy": "policy",
            "url": worker.url,
            "source": "file",
            "state": "up",
            "reason": None,
            "changed": None,
            "version": "0.32.0",
            "adapters": [],
            "alias": None,
            "max_model_len": 100_000,
            "breaker": "closed",
            "load": {"sequences": 0, "tokens": 0, "running": 0.0, "waiting": 3.0, "kv_usage": 0.5},
        }


async def test_a_worker_is_added_drained_brought_back_and_removed(redis_server: RedisServer, tmp_path: Path) -> None:
    async with serve(other := FakeWorker()), running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        body = {"policy": "policy", "url": other.url, "reason": "more load"}
        status, added = await call(gateway, "POST", WORKERS, json=body)
        assert (status, added["source"], added["changed"]["reason"]) == (201, "admin", "more load")
        assert (await call(gateway, "POST", WORKERS, json=body))[0] == 409

        first = (await listed(gateway))[gateway.worker.url]["id"]
        status, drained = await call(gateway, "POST", f"{WORKERS}/{first}/drain", json={"reason": "new driver"})
        assert (status, drained["state"]) == (200, "draining")
        assert drained["changed"]["by"] == "anonymous" and drained["changed"]["reason"] == "new driver"
        await gateway.service.pools["policy"].check()
        for _ in range(4):
            assert (await gateway.chat())[0] == 200
        assert not gateway.worker.requests and other.requests

        assert (await call(gateway, "POST", f"{WORKERS}/{first}/undrain"))[1]["state"] == "up"
        status, gone = await call(gateway, "DELETE", f"{WORKERS}/{first}?reason=old")
        assert (status, gone["deleted"]) == (200, True)
        _, left = await call(gateway, "GET", WORKERS)
        assert [one["url"] for one in left["data"]] == [other.url]
        [removed] = left["removed"]
        assert (removed["url"], removed["removed"]["reason"]) == (gateway.worker.url, "old")


async def test_an_adapter_is_loaded_listed_and_unloaded(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        body = {"policy": "policy", "name": "a", "path": "/adapters/a"}
        status, loaded = await call(gateway, "POST", ADAPTERS, json=body)
        [worker] = (await listed(gateway)).values()
        assert status == 201 and loaded["loaded_on"] == [worker["id"]] and not loaded["missing_on"]
        assert worker["adapters"] == ["a"] and gateway.worker.adapters == {"a": "/adapters/a"}
        assert (await call(gateway, "GET", ADAPTERS))[1]["data"] == [loaded]
        elsewhere = {**body, "path": "/adapters/b"}
        assert (await call(gateway, "POST", ADAPTERS, json=elsewhere))[1]["error"]["code"] == "adapter_exists"
        status, gone = await call(gateway, "DELETE", f"{ADAPTERS}/policy/a")
        assert (status, gone) == (200, {"object": "adapter", "policy": "policy", "name": "a", "deleted": True})
        assert not gateway.worker.adapters and not (await call(gateway, "GET", ADAPTERS))[1]["data"]


async def test_an_adapter_that_a_worker_refuses_is_a_502_that_names_the_worker(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    worker = FakeWorker(broken_adapters={"/nowhere"})
    async with running_gateway(tmp_path, worker, redis_url=redis_server.url) as gateway:
        identifier = (await listed(gateway))[worker.url]["id"]
        body = {"policy": "policy", "name": "a", "path": "/nowhere"}
        status, refused = await call(gateway, "POST", ADAPTERS, json=body)
        assert (status, refused["error"]["code"]) == (502, "adapter_not_loaded")
        assert identifier in refused["error"]["message"] and "127.0.0.1" not in refused["error"]["message"]
        assert not worker.adapters


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("POST", WORKERS, {"policy": "policy"}, 400, "url"),
        ("POST", WORKERS, {"policy": "no", "url": "http://10.0.0.1"}, 400, "policy"),
        ("POST", WORKERS, {"policy": "policy", "url": "here"}, 400, "url"),
        ("POST", WORKERS, {"policy": "policy", "url": "http://10.0.0.1", "reason": "a" * 501}, 400, "reason"),
        ("POST", f"{WORKERS}/w-x/drain", {"why": "x"}, 400, "why"),
        ("POST", f"{WORKERS}/w-x/drain", {}, 404, None),
        ("POST", f"{WORKERS}/w-x/undrain", {}, 404, None),
        ("DELETE", f"{WORKERS}/w-x", {}, 404, None),
        ("POST", ADAPTERS, {"policy": "policy", "name": "a b", "path": "/a"}, 400, "name"),
        ("POST", ADAPTERS, {"policy": "policy", "name": "policy", "path": "/a"}, 400, "name"),
        ("POST", ADAPTERS, {"policy": "policy", "name": "a", "path": "here"}, 400, "path"),
        ("POST", ADAPTERS, {"policy": "no", "name": "a", "path": "/a"}, 400, "policy"),
        ("DELETE", f"{ADAPTERS}/policy/a", {}, 404, None),
        ("DELETE", f"{ADAPTERS}/no/a", {}, 400, "policy"),
    ],
)
async def test_what_is_wrong_is_named(
    redis_server: RedisServer,
    tmp_path: Path,
    method: str,
    path: str,
    body: dict[str, Any],
    status: int,
    param: str | None,
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        found, reply = await call(gateway, method, path, json=body)
        assert (found, reply["error"]["param"]) == (status, param)


async def test_only_admins_of_the_tenant_default_see_and_change_workers(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        root = (await make(gateway, None, scopes=["admin"]))["key"]
        assert (await call(gateway, "PUT", "/admin/v1/tenants/shop", root, json={}))[0] == 200
        shop = (await make(gateway, root, tenant="shop", scopes=["admin"]))["key"]
        chatter = (await make(gateway, root))["key"]
        for method, path in (
            ("GET", WORKERS),
            ("POST", WORKERS),
            ("POST", f"{WORKERS}/x/drain"),
            ("POST", f"{WORKERS}/x/undrain"),
            ("DELETE", f"{WORKERS}/x"),
            ("GET", ADAPTERS),
            ("POST", ADAPTERS),
            ("DELETE", f"{ADAPTERS}/policy/a"),
        ):
            assert [(await call(gateway, method, path, key))[0] for key in (shop, chatter, None)] == [403, 403, 401]
        assert (await call(gateway, "GET", WORKERS, root))[0] == 200


async def test_without_redis_nothing_is_changed_and_workers_are_listed(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        [worker] = (await listed(gateway)).values()
        status, refused = await call(gateway, "POST", f"{WORKERS}/{worker['id']}/drain")
        assert (status, refused["error"]["type"]) == (503, "server_error")
        assert (await listed(gateway))[gateway.worker.url]["state"] == "up"
        body = {"policy": "policy", "name": "a", "path": "/a"}
        assert (await call(gateway, "POST", ADAPTERS, json=body))[0] == 503
        assert not gateway.worker.adapters
