"""/admin/v1 and the door of every endpoint, in front of a real Redis."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.access.changes import set_tenant
from gateway.log.records import Interaction
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]

Reply = tuple[int, dict[str, Any]]


async def call(gateway: Harness, method: str, path: str, key: str | None = None, **options: Any) -> Reply:
    headers = {**options.pop("headers", {}), **({"authorization": f"Bearer {key}"} if key else {})}
    async with gateway.session.request(method, path, headers=headers, **options) as reply:
        return reply.status, await reply.json()


async def make(gateway: Harness, by: str | None, **body: Any) -> dict[str, Any]:
    status, made = await call(gateway, "POST", "/admin/v1/keys", by, json={"name": "n", **body})
    assert status == 201, made
    return made


async def chat(gateway: Harness, **headers: str) -> tuple[int, Any, dict[str, Any]]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with gateway.session.post("/v1/chat/completions", json=body, headers=headers) as reply:
        return reply.status, reply.headers, await reply.json()


async def test_the_first_key_is_made_without_one_and_shuts_the_door(
    redis_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        assert "open to this machine" in caplog.text
        assert (await chat(gateway, authorization="Bearer none needed"))[0] == 200
        made = await make(gateway, None, scopes=["admin"])
        status, headers, body = await chat(gateway)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert body["error"]["type"] == "authentication_error"
        assert body["error"]["code"] == "missing_api_key" and body["error"]["param"] is None
        assert (await chat(gateway, authorization="Bearer none needed"))[2]["error"]["code"] == "invalid_api_key"
        for header in (
            {"authorization": f"Bearer {made['key']}"},
            {"x-api-key": made["key"]},
            {"api-key": made["key"]},
        ):
            assert (await chat(gateway, **header))[0] == 200
        assert made["id"] in caplog.text and made["key"] not in caplog.text
        assert gateway.metric("bestow_access_denied_total", reason="missing_api_key") == 1


async def test_probes_and_metrics_need_no_key(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        await make(gateway, None, scopes=["admin"])
        for path in ("/healthz", "/readyz", "/metrics"):
            async with gateway.session.get(path) as reply:
                assert reply.status == 200
        status, report = await call(gateway, "GET", "/readyz")
        assert (status, report["access"]) == (200, {"redis": "ready", "keys": 1})


async def test_the_scope_decides(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        admin = (await make(gateway, None, scopes=["admin"]))["key"]
        reader = (await make(gateway, admin, scopes=["read-logs"]))["key"]
        chatter = (await make(gateway, admin))["key"]
        status, _, body = await chat(gateway, authorization=f"Bearer {reader}")
        assert (status, body["error"]["type"], body["error"]["code"]) == (403, "permission_error", "insufficient_scope")
        assert "needs the scope chat" in body["error"]["message"]
        for method, path in (
            ("GET", "/admin/v1/keys"),
            ("POST", "/admin/v1/keys"),
            ("POST", "/admin/v1/keys/x/rotate"),
            ("DELETE", "/admin/v1/keys/x"),
            ("GET", "/admin/v1/tenants"),
            ("PUT", "/admin/v1/tenants/x"),
            ("DELETE", "/admin/v1/tenants/x"),
        ):
            assert (await call(gateway, method, path, chatter))[0] == 403
            assert (await call(gateway, method, path))[0] == 401
        assert (await call(gateway, "GET", "/v1/models", reader))[0] == 403
        assert (await call(gateway, "GET", "/v1/models", chatter))[0] == 200


async def test_keys_are_listed_rotated_and_revoked(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        admin = await make(gateway, None, scopes=["admin"])
        shop = await make(gateway, admin["key"], expires="90d")
        assert shop["expires"] - shop["created"] == 90 * 86_400 and shop["created_by"] == f"key:{admin['id']}"
        path = f"/admin/v1/keys/{shop['id']}"
        status, fresh = await call(gateway, "POST", f"{path}/rotate", admin["key"], json={"grace": "1h"})
        assert status == 201 and fresh["replaces"]["status"] == "retiring"
        for key in (shop["key"], fresh["key"]):
            assert (await chat(gateway, authorization=f"Bearer {key}"))[0] == 200
        assert (await call(gateway, "DELETE", path, admin["key"]))[1]["status"] == "revoked"
        assert (await chat(gateway, authorization=f"Bearer {shop['key']}"))[2]["error"]["code"] == "revoked_api_key"
        status, rotated = await call(gateway, "POST", f"/admin/v1/keys/{fresh['id']}/rotate", admin["key"])
        assert status == 201 and rotated["replaces"]["expires"] > fresh["created"]
        _, listed = await call(gateway, "GET", "/admin/v1/keys", admin["key"])
        assert [one["status"] for one in listed["data"]] == ["active", "revoked", "retiring", "active"]
        assert all("key" not in one and "hash" not in one for one in listed["data"])


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "/admin/v1/keys", {}, "name"),
        ("POST", "/admin/v1/keys", {"name": "n", "colour": "red"}, "colour"),
        ("POST", "/admin/v1/keys", {"name": "n", "scopes": ["root"]}, "scopes[0]"),
        ("POST", "/admin/v1/keys", {"name": "n", "scopes": []}, "scopes"),
        ("POST", "/admin/v1/keys", {"name": "n", "tenant": "nobody"}, "tenant"),
        ("POST", "/admin/v1/keys", {"name": "n", "expires": "yesterday"}, "expires"),
        ("POST", "/admin/v1/keys/x/rotate", {"grace": "long"}, "grace"),
        ("PUT", "/admin/v1/tenants/t", {"models": ["gpt-7"]}, "models"),
        ("PUT", "/admin/v1/tenants/t", {"profiles": ["no"]}, "profiles"),
        ("PUT", "/admin/v1/tenants/t", {"model": ["m"]}, "model"),
        ("PUT", "/admin/v1/tenants/t", {"tier": "gold"}, "tier"),
        ("PUT", "/admin/v1/tenants/a%20b", {}, "name"),
    ],
)
async def test_a_bad_body_is_a_400_that_names_the_field(
    redis_server: RedisServer, tmp_path: Path, method: str, path: str, body: dict[str, Any], param: str
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        status, reply = await call(gateway, method, path, json=body)
        assert (status, reply["error"]["type"], reply["error"]["param"]) == (400, "invalid_request_error", param)


async def test_what_is_not_there_is_a_404(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        assert (await call(gateway, "DELETE", "/admin/v1/keys/x"))[0] == 404
        assert (await call(gateway, "POST", "/admin/v1/keys/x/rotate"))[0] == 404
        assert (await call(gateway, "DELETE", "/admin/v1/tenants/x"))[0] == 404


async def test_a_tenants_admin_manages_its_own_keys_alone(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        root = await make(gateway, None, scopes=["admin"])
        for tenant in ("shop", "other"):
            assert (await call(gateway, "PUT", f"/admin/v1/tenants/{tenant}", root["key"], json={}))[0] == 200
        admin = (await make(gateway, root["key"], tenant="shop", scopes=["admin"]))["key"]
        made = await make(gateway, admin)
        assert made["tenant"] == "shop"
        for tenant in ("default", "other", "nobody"):
            status, reply = await call(gateway, "POST", "/admin/v1/keys", admin, json={"name": "n", "tenant": tenant})
            assert (status, reply["error"]["param"]) == (403, "tenant")
        _, listed = await call(gateway, "GET", "/admin/v1/keys", admin)
        assert {one["tenant"] for one in listed["data"]} == {"shop"}
        assert (await call(gateway, "DELETE", f"/admin/v1/keys/{root['id']}", admin))[0] == 404
        assert (await call(gateway, "POST", f"/admin/v1/keys/{root['id']}/rotate", admin))[0] == 404
        assert (await call(gateway, "PUT", "/admin/v1/tenants/shop", admin, json={}))[0] == 403
        assert (await call(gateway, "DELETE", "/admin/v1/tenants/other", admin))[0] == 403
        _, tenants = await call(gateway, "GET", "/admin/v1/tenants", admin)
        assert [one["name"] for one in tenants["data"]] == ["shop"]
        assert (await call(gateway, "DELETE", f"/admin/v1/keys/{made['id']}", admin))[0] == 200


async def test_a_tenant_has_its_own_models_ids_and_feedback(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        root = (await make(gateway, None, scopes=["admin"]))["key"]
        limits = {"models": ["m"], "profiles": ["default"]}
        assert (await call(gateway, "PUT", "/admin/v1/tenants/shop", root, json=limits))[0] == 200
        await call(gateway, "PUT", "/admin/v1/tenants/shut", root, json={"models": ["m"]})
        shop = (await make(gateway, root, tenant="shop"))["key"]
        default = (await make(gateway, root))["key"]

        status, headers, answer = await chat(gateway, authorization=f"Bearer {shop}")
        assert status == 200 and headers["x-request-id"] == answer["id"]
        assert gateway.service.signer.issued(answer["id"], "shop")
        [record] = gateway.accepted
        assert isinstance(record, Interaction) and (record.id, record.tenant) == (answer["id"], "shop")

        vote = {"id": answer["id"], "kind": "thumbs", "value": True}
        assert (await call(gateway, "POST", "/v1/feedback", default, json=vote))[0] == 404
        assert (await call(gateway, "POST", "/v1/feedback", shop, json=vote))[0] == 202
        assert (await call(gateway, "GET", f"/v1/feedback/{answer['id']}", default))[0] == 404
        assert len((await call(gateway, "GET", f"/v1/feedback/{answer['id']}", shop))[1]["data"]) == 1


async def test_what_is_kept_of_a_tenant_is_put_and_what_is_left_out_stays(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        at = "/admin/v1/tenants/shop"
        log = {"store": False, "redact": ["ip"], "training": "tenant"}
        status, made = await call(gateway, "PUT", at, json={"log": log})
        assert status == 200 and {name: made["log"][name] for name in log} == log
        _, made = await call(gateway, "PUT", at, json={"tier": "flex", "log": {"redact": None}})
        assert (made["tier"], made["log"]["store"], made["log"]["redact"]) == ("flex", False, None)
        for wrong, param in (({"share": 2}, "log.share"), ({"redact": ["x"]}, "log.redact")):
            status, answer = await call(gateway, "PUT", at, json={"log": wrong})
            assert (status, answer["error"]["param"]) == (400, param)


async def test_models_that_a_tenant_may_not_use_are_as_if_they_were_not_there(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        root = (await make(gateway, None, scopes=["admin"]))["key"]
        # A model of another gateway's configuration, as `bestow tenants set --redis` allows.
        await gateway.app.state.access.change(set_tenant("shop", ["elsewhere"], None))
        shop = (await make(gateway, root, tenant="shop"))["key"]
        assert [one["id"] for one in (await call(gateway, "GET", "/v1/models", root))[1]["data"]] == ["m"]
        assert (await call(gateway, "GET", "/v1/models", shop))[1]["data"] == []
        unknown = await call(gateway, "GET", "/v1/models/n", shop)
        hidden = await call(gateway, "GET", "/v1/models/m", shop)
        assert unknown[0] == hidden[0] == 404
        assert unknown[1]["error"]["message"].replace("'n'", "'m'") == hidden[1]["error"]["message"]
        status, _, body = await chat(gateway, authorization=f"Bearer {shop}")
        assert (status, body["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"x-forwarded-for": "192.0.2.1"},
    ],
)
async def test_without_keys_administration_is_for_this_machine_and_no_web_page(
    redis_server: RedisServer, tmp_path: Path, headers: dict[str, str]
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        status, reply = await call(gateway, "POST", "/admin/v1/keys", json={"name": "n"}, headers=headers)
        assert (status, reply["error"]["type"]) == (403, "permission_error")
        assert (await call(gateway, "GET", "/admin/v1/keys"))[1]["data"] == []
        assert (await chat(gateway, **headers))[0] == 200
        # With a key it does not matter where the call comes from.
        key = (await make(gateway, None, scopes=["admin"]))["key"]
        assert (await call(gateway, "GET", "/admin/v1/keys", key, headers=headers))[0] == 200


async def test_anonymous_callers_where_they_are_allowed_may_chat_and_no_more(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = {"allow_anonymous": True}
    async with running_gateway(tmp_path, redis_url=redis_server.url, gateway=settings) as gateway:
        assert (await chat(gateway))[0] == 200
        assert (await call(gateway, "GET", "/admin/v1/keys"))[0] == 401
        assert (await chat(gateway, authorization="Bearer bk_aaaaaaaaaa_wrong"))[0] == 401


async def test_a_revocation_holds_on_other_gateways_within_a_second_or_so(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with (
        running_gateway(tmp_path / "a", redis_url=redis_server.url) as one,
        running_gateway(tmp_path / "b", redis_url=redis_server.url) as other,
    ):
        admin = await make(one, None, scopes=["admin"])
        made = await make(one, admin["key"])
        bearer = {"authorization": f"Bearer {made['key']}"}
        await asyncio.sleep(1.5)
        assert (await chat(other, **bearer))[0] == 200
        assert (await chat(other))[0] == 401
        await call(one, "DELETE", f"/admin/v1/keys/{made['id']}", admin["key"])
        await asyncio.sleep(1.5)
        assert (await chat(other, **bearer))[2]["error"]["code"] == "revoked_api_key"


async def test_while_redis_is_away_keys_count_and_cannot_be_changed(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        admin = await make(gateway, None, scopes=["admin"])
        redis_server.kill()
        assert (await chat(gateway, authorization=f"Bearer {admin['key']}"))[0] == 200
        assert (await chat(gateway))[0] == 401
        status, reply = await call(gateway, "POST", "/admin/v1/keys", admin["key"], json={"name": "n"})
        assert (status, reply["error"]["code"]) == (503, "unavailable")


async def test_the_openapi_page_has_the_admin_routes_and_their_bodies(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        _, page = await call(gateway, "GET", "/openapi.json")
        routes = {(path, method) for path, found in page["paths"].items() for method in found if "/admin/v1" in path}
        assert len(routes) == 41
        body = page["components"]["schemas"]["CreateKey"]
        assert set(body["properties"]) == {"name", "tenant", "scopes", "expires"}
        assert body["additionalProperties"] is False
        assert not page["paths"]["/admin/v1/keys/{key_id}/rotate"]["post"]["requestBody"]["required"]
        assert page["security"] and "security" not in page["paths"]["/admin/v1/keys"]["get"]


async def test_a_gateway_that_never_knew_the_keys_answers_nobody(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        gateway.app.state.access._known = None
        status, headers, body = await chat(gateway)
        assert (status, body["error"]["code"]) == (503, "access_unavailable")
        assert headers["retry-after"]
        async with aiohttp.ClientSession(gateway.url) as session, session.get("/readyz") as reply:
            assert reply.status == 503
