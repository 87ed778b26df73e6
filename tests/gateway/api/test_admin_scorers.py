"""/admin/v1/scorers: from a folder to traffic, in front of a real Redis and a fake scorer server."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeScorers
from tests.gateway.api.test_admin_keys import call
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]

SCORERS, DEFAULT = "/admin/v1/scorers", "/admin/v1/profiles/default"
NEW = {"settings": {"kind": "reward", "model": "/m/new"}, "reason": "june"}


async def one(gateway: Harness, name: str = "new") -> dict[str, Any]:
    status, found = await call(gateway, "GET", f"{SCORERS}/{name}")
    assert status == 200, found
    return found


async def tune(gateway: Harness, **changes: Any) -> int:
    _, held = await call(gateway, "GET", DEFAULT)
    body = {"version": held["version"], "settings": {**held["settings"], **changes}}
    status, made = await call(gateway, "PUT", DEFAULT, json=body)
    assert status == 200, made
    return int(made["version"])


async def compared(gateway: Harness, requests: int) -> None:
    async with asyncio.timeout(5):
        while gateway.metric("bestow_shadow_requests_total", scorer="new", outcome="scored") < requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_new_reward_model_goes_from_its_folder_by_the_shadow_to_traffic_and_back(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    # The reward likes long answers, what is added likes short ones.
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        status, added = await call(gateway, "PUT", f"{SCORERS}/new", json=NEW)
        assert (status, added["version"], added["state"], added["serving"]) == (200, "new@1", "ready", "new@1")
        assert (added["source"], added["changed"]["reason"], added["used_by"]) == ("added", "june", [])
        assert added["settings"] == {"kind": "reward", "model": "/m/new"} and added["info"]["gives"] == "value"

        await tune(gateway, shadow=["new"])
        _, _, answer = await gateway.chat()
        assert answer["choices"][0]["message"]["content"] == "three"
        assert answer["guidance"]["reward_model"] == "reward@1"
        await compared(gateway, 1)
        shadow = await one(gateway)
        assert shadow["shadow_of"] == ["default"] and shadow["used_by"] == []
        [agreement] = shadow["agreement"]
        assert (agreement["scorer"], agreement["profile"], agreement["decided_by"]) == (
            "new@1",
            "default@2",
            "reward@1",
        )
        assert agreement["requests"] == 1 and agreement["candidates"] == 4
        assert agreement["rank_correlation"]["mean"] == -1.0 and agreement["other_winner"]["share"] == 1.0

        await tune(gateway, reward="new", shadow=[])
        _, headers, answer = await gateway.chat()
        assert answer["choices"][0]["message"]["content"] == "one"
        assert answer["guidance"]["reward_model"] == "new@1" == headers["x-bestow-reward-model"]
        assert gateway.interactions[-1].reward_model == "new@1"
        status, refused = await call(gateway, "DELETE", f"{SCORERS}/new")
        assert (status, refused["error"]["code"]) == (409, "scorer_in_use")
        assert "default.reward" in refused["error"]["message"]

        await call(gateway, "POST", f"{DEFAULT}/revert", json={"to": 1})
        assert (await gateway.chat())[2]["guidance"]["reward_model"] == "reward@1"
        assert await call(gateway, "DELETE", f"{SCORERS}/new") == (
            200,
            {"object": "scorer", "name": "new", "deleted": True},
        )
        assert not gateway.scorers.added.serving
        assert (await call(gateway, "GET", f"{SCORERS}/new"))[0] == 404


async def test_a_shadow_scorer_holds_up_no_answer(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        await call(gateway, "PUT", f"{SCORERS}/new", json=NEW)
        await tune(gateway, shadow=["new"])
        asked = len(gateway.scorers.requests)
        status, _, _ = await gateway.chat()
        during = [body["model"] for body in gateway.scorers.requests[asked:]]
        assert status == 200 and "new" not in during
        await compared(gateway, 1)


async def test_all_scorers_are_listed_with_what_is_known_of_them(redis_server: RedisServer, tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len)
    scorers.added.unloadable = {"/m/bad": "there are no weights"}
    async with running_gateway(tmp_path, scorers=scorers, redis_url=redis_server.url) as gateway:
        await call(gateway, "PUT", f"{SCORERS}/new", json=NEW)
        bad = {"settings": {"kind": "reward", "model": "/m/bad"}}
        status, refused = await call(gateway, "PUT", f"{SCORERS}/bad", json=bad)
        assert (status, refused["error"]["code"]) == (400, "scorer_not_loaded")
        assert "there are no weights" in refused["error"]["message"]
        found = {each["name"]: each for each in (await call(gateway, "GET", SCORERS))[1]["data"]}
        assert {name: (each["source"], each["state"]) for name, each in found.items()} == {
            "reward": ("file", "ready"),
            "safety": ("file", "ready"),
            "new": ("added", "ready"),
            "bad": ("added", "failed"),
        }
        assert found["bad"]["reason"] == "there are no weights" and found["reward"]["used_by"] == ["default.reward"]
        assert scorers.url not in str(found)
        assert (await call(gateway, "DELETE", f"{SCORERS}/bad"))[0] == 200


async def test_an_added_scorer_that_decides_is_needed_for_readiness_and_one_in_the_shadow_is_not(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        await call(gateway, "PUT", f"{SCORERS}/new", json=NEW)
        await tune(gateway, shadow=["new"])
        assert set(gateway.app.state.readiness._scorers()) == {"reward", "safety"}
        await tune(gateway, reward="new", shadow=[])
        assert set(gateway.app.state.readiness._scorers()) == {"reward", "safety", "new"}


@pytest.mark.parametrize(
    ("name", "settings", "status", "param"),
    [
        ("new", {"kind": "reward"}, 400, "model"),
        ("new", {"kind": "reward", "model": "./here"}, 400, "model"),
        ("new", {"model": "/m"}, 400, "kind"),
        ("new", {"kind": "reward", "model": "/m", "api_key_file": "/etc/passwd"}, 400, None),
        ("reward", {"kind": "reward", "model": "/m"}, 409, None),
    ],
)
async def test_what_is_wrong_with_a_scorer_is_named_and_nothing_is_loaded(
    redis_server: RedisServer, tmp_path: Path, name: str, settings: dict[str, Any], status: int, param: str | None
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        found, reply = await call(gateway, "PUT", f"{SCORERS}/{name}", json={"settings": settings})
        assert (found, reply["error"]["param"]) == (status, param)
        assert not gateway.scorers.added.put


async def test_without_redis_scorers_are_listed_and_none_is_added(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        found = await one(gateway, "reward")
        assert (found["state"], found["agreement"]) == ("ready", None)
        assert (await call(gateway, "PUT", f"{SCORERS}/new", json=NEW))[0] == 503
        assert not gateway.scorers.added.put
