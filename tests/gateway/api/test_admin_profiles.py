"""/admin/v1/profiles, in front of a real Redis and fakes."""

from pathlib import Path
from typing import Any

import pytest

from tests.gateway.api.test_admin_keys import call, make
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]

PROFILES = "/admin/v1/profiles"
DEFAULT = f"{PROFILES}/default"


async def put(gateway: Harness, version: int, **settings: Any) -> tuple[int, dict[str, Any]]:
    return await call(gateway, "PUT", DEFAULT, json={"version": version, "settings": settings, "reason": "cheaper"})


async def test_a_change_holds_for_the_next_answer_whose_receipt_and_record_name_it(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        _, found = await call(gateway, "GET", DEFAULT)
        assert (found["version"], found["settings"]["n"], found["models"]) == (1, 4, ["m"])
        assert found["changed"]["by"] == "file"
        status, made = await put(gateway, 1, **{**found["settings"], "n": 2, "min_n": 2})
        assert (status, made["version"], made["settings"]["n"], made["changed"]["reason"]) == (200, 2, 2, "cheaper")
        _, headers, body = await gateway.chat()
        assert (body["guidance"]["profile"], body["guidance"]["sampled"]) == ("default@2", 2)
        assert headers["x-bestow-profile"] == "default@2" and gateway.interactions[-1].profile == "default@2"

        status, back = await call(gateway, "POST", f"{DEFAULT}/revert", json={"reason": "worse"})
        assert (status, back["version"], back["settings"]["n"]) == (200, 3, 4)
        assert (await gateway.chat())[2]["guidance"]["sampled"] == 4
        _, history = await call(gateway, "GET", f"{DEFAULT}/history")
        assert [(one["version"], one["changed"]["by"], one["changed"]["reason"]) for one in history["data"]] == [
            (3, "anonymous", "worse"),
            (2, "anonymous", "cheaper"),
            (1, "file", None),
        ]
        assert history["data"][0]["changes"]["n"] == {"from": 2, "to": 4} and history["data"][2]["changes"] == {}


async def test_a_new_profile_can_be_asked_for_by_name_and_given_to_a_tenant(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        body = {"version": 0, "settings": {"n": 1, "reward": None}}
        assert (await call(gateway, "PUT", f"{PROFILES}/quick", json=body))[0] == 200
        answer = (await gateway.chat(guidance={"profile": "quick"}))[2]["guidance"]
        assert (answer["profile"], answer["sampled"], answer["reward_model"]) == ("quick@1", 1, None)
        limits = {"profiles": ["quick"]}
        assert (await call(gateway, "PUT", "/admin/v1/tenants/t", json=limits))[0] == 200
        assert [one["name"] for one in (await call(gateway, "GET", PROFILES))[1]["data"]] == ["default", "quick"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("PUT", DEFAULT, {"settings": {}}, 400, "version"),
        ("PUT", DEFAULT, {"version": 1, "settings": {"n": 99}}, 400, "settings"),
        ("PUT", DEFAULT, {"version": 1, "settings": {"n": "many"}}, 400, "settings.n"),
        ("PUT", DEFAULT, {"version": 1, "settings": {"reward": "no"}}, 400, "settings.reward"),
        ("PUT", DEFAULT, {"version": 1, "settings": {"reward": "safety", "safety": None}}, 400, "settings.reward"),
        ("PUT", DEFAULT, {"version": 7, "settings": {}}, 409, "version"),
        ("PUT", DEFAULT, {"version": 1, "settings": {}, "reason": "a" * 501}, 400, "reason"),
        ("PUT", f"{PROFILES}/a b", {"version": 0, "settings": {}}, 400, None),
        ("GET", f"{PROFILES}/no", None, 404, None),
        ("POST", f"{PROFILES}/no/revert", None, 404, None),
        ("POST", f"{DEFAULT}/revert", {"to": 9}, 400, "to"),
        ("POST", f"{DEFAULT}/revert", None, 400, "to"),
    ],
)
async def test_what_is_wrong_is_named_and_changes_nothing(
    redis_server: RedisServer,
    tmp_path: Path,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: int,
    param: str | None,
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        options: dict[str, Any] = {"json": body} if body else {}
        found, reply = await call(gateway, method, path, **options)
        assert (found, reply["error"]["param"]) == (status, param)
        assert (await call(gateway, "GET", DEFAULT))[1]["version"] == 1


async def test_only_admins_of_the_tenant_default_see_and_change_profiles_and_scorers(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        root = (await make(gateway, None, scopes=["admin"]))["key"]
        assert (await call(gateway, "PUT", "/admin/v1/tenants/shop", root, json={}))[0] == 200
        shop = (await make(gateway, root, tenant="shop", scopes=["admin"]))["key"]
        chatter = (await make(gateway, root))["key"]
        for method, path in (
            ("GET", PROFILES),
            ("GET", DEFAULT),
            ("PUT", DEFAULT),
            ("GET", f"{DEFAULT}/history"),
            ("POST", f"{DEFAULT}/revert"),
            ("GET", "/admin/v1/scorers"),
            ("GET", "/admin/v1/scorers/reward"),
            ("PUT", "/admin/v1/scorers/new"),
            ("DELETE", "/admin/v1/scorers/new"),
        ):
            assert [(await call(gateway, method, path, key))[0] for key in (shop, chatter, None)] == [403, 403, 401]
        assert (await call(gateway, "GET", PROFILES, root))[0] == 200


async def test_without_redis_the_files_profiles_serve_and_nothing_is_changed(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        _, found = await call(gateway, "GET", DEFAULT)
        assert (found["version"], found["changed"]) == (1, None)
        assert (await put(gateway, 1, n=2))[0] == 503
        assert (await call(gateway, "GET", f"{DEFAULT}/history"))[0] == 503
        assert (await gateway.chat())[2]["guidance"]["profile"] == "default@1"
