"""Erasing a person over HTTP in front of a real Redis; what erasing does is tested beside it."""

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.ids import new_uuid7
from gateway.log import audit
from gateway.log.erase.orders import subject_of
from gateway.log.keys import audit_key
from tests.gateway.api.test_admin_keys import call, make
from tests.gateway.harness import running_gateway
from tests.gateway.log.conftest import RedisServer, redis, redis_server, stopped_redis
from tests.gateway.log.log_samples import SHARD

__all__ = ["redis", "redis_server", "stopped_redis"]

PATH = "/admin/v1/interactions"


async def test_an_order_is_taken_told_and_noted(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        query = {"user": "ada@example.org", "reason": "ticket 7"}
        status, order = await call(gateway, "DELETE", PATH, params=query)
        assert (status, order["object"], order["tenant"], order["status"]) == (202, "erasure", "default", "open")
        assert (order["ordered"]["by"], order["ordered"]["reason"]) == ("anonymous", "ticket 7")
        status, told = await call(gateway, "GET", f"/admin/v1/erasures/{order['id']}")
        assert (status, told["id"], told["ordered"]) == (200, order["id"], order["ordered"])
        hashed = gateway.service.signer.hash_user("ada@example.org")
        assert hashed is not None
        assert hashed not in str(order) and "ada@" not in str(order)
        status, again = await call(gateway, "DELETE", PATH, params={"user_hash": hashed})
        assert (status, again["id"] != order["id"]) == (202, True)
    entries = [audit.decode(data) async for _, data in audit.entries(redis, SHARD)]
    noted = [(one.actor, one.target, one.detail) for one in entries if one is not None and one.action == "erase"]
    subject = f"subject {subject_of('default', hashed)}"
    assert noted[:2] == [("anonymous", subject, f"order {one['id']}") for one in (order, again)]


async def test_an_admin_erases_of_their_own_tenant(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        admin = (await make(gateway, None, scopes=["admin"]))["key"]
        assert (await call(gateway, "PUT", "/admin/v1/tenants/acme", admin, json={}))[0] == 200
        of_acme = (await make(gateway, admin, scopes=["admin"], tenant="acme"))["key"]
        reader = (await make(gateway, admin, scopes=["read-logs"], tenant="acme"))["key"]
        assert (await call(gateway, "DELETE", PATH, reader, params={"user": "ada"}))[0] == 403
        status, said = await call(gateway, "DELETE", PATH, of_acme, params={"user": "ada", "tenant": "default"})
        assert (status, said["error"]["param"]) == (403, "tenant")
        _, own = await call(gateway, "DELETE", PATH, of_acme, params={"user": "ada"})
        assert own["tenant"] == "acme"
        _, others = await call(gateway, "DELETE", PATH, admin, params={"user": "ada"})
        assert others["tenant"] == "default"
        for key, order, expected in (
            (of_acme, own, 200),
            (of_acme, others, 404),
            (admin, own, 200),
            (reader, own, 403),
            (admin, {"id": new_uuid7()}, 404),
        ):
            assert (await call(gateway, "GET", f"/admin/v1/erasures/{order['id']}", key))[0] == expected


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({}, "user"),
        ({"user": ""}, "user"),
        ({"user_hash": "ada"}, "user_hash"),
        ({"user": "ada", "user_hash": "0" * 32}, "user_hash"),
        ({"user": "ada", "reason": "x" * 1001}, "reason"),
        ({"user": "ada", "since": "2027-01-01"}, "since"),
    ],
)
async def test_a_wrong_order_is_a_400_that_names_the_parameter(
    tmp_path: Path, query: dict[str, Any], param: str
) -> None:
    async with running_gateway(tmp_path) as gateway:
        status, said = await call(gateway, "DELETE", PATH, params=query)
    assert (status, said["error"]["param"]) == (400, param)


async def test_what_cannot_be_noted_is_not_ordered(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    await redis.set(audit_key(SHARD), "no stream")
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        status, said = await call(gateway, "DELETE", PATH, params={"user": "ada"})
        assert (status, said["error"]["code"]) == (503, "audit_unavailable")
        redis_server.kill()
        status, said = await call(gateway, "DELETE", PATH, params={"user": "ada"})
        assert (status, said["error"]["code"]) == (503, "audit_unavailable")
        assert (await call(gateway, "GET", "/admin/v1/erasures/x"))[1]["error"]["code"] == "log_unavailable"
    assert orders_on_disk(tmp_path) == []


def orders_on_disk(folder: Path) -> list[Path]:
    return list(folder.glob("**/erasures/*.json"))
