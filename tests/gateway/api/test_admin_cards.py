"""/admin/v1/models/{model}/card, in front of a real Redis and fakes."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.control.control import Control
from gateway.decoding.card import (
    FORMAT,
    CurvePoint,
    GuardLaw,
    LengthPoint,
    ModelCard,
    PartialPoint,
    Recommendation,
)
from scorers.calibration.quantiles import RewardLaw
from tests.gateway.api.test_admin_keys import call, make
from tests.gateway.api.test_openapi import check
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]

CARD = "/admin/v1/models/m/card"
MEASURED = ModelCard(
    format=FORMAT,
    model="m",
    policy="policy@1",
    reward_model="reward@1",
    created=1000.0,
    prompts=2,
    answers=8,
    law=RewardLaw(8, 0.5, 1.0, [-1.0, 0.5, 2.0], "policy@1"),
    deviation=1.0,
    residuals=[-1.5, 0.0, 1.5],
    mean_tokens=3.0,
    curve=[CurvePoint(1, 0.5, 0.4, 0.6, 3.0, 20.0), CurvePoint(2, 1.0, 0.9, 1.1, 6.0)],
    partial=[PartialPoint(1, 0.5, 0.3, 0.7, 8)],
    length=[LengthPoint(1.0, 0.0), LengthPoint(5.0, 1.0)],
    guard={"weapons": GuardLaw([0.0, 0.1, 1.0], 0.125)},
    recommendations=[Recommendation("gain=0.9", {"n": 2}, "it gains most")],
    lengths=[1.0, 3.0, 5.0],
)


def built(**changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(MEASURED)
    return {**found, **changed}


async def put(gateway: Harness, card: dict[str, Any], **body: Any) -> tuple[int, dict[str, Any]]:
    return await call(gateway, "PUT", CARD, json={"card": card, **body})


async def test_a_published_card_is_served_back_with_its_author_and_held_by_every_gateway(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with (
        running_gateway(tmp_path / "a", redis_url=redis_server.url) as gateway,
        running_gateway(tmp_path / "b", redis_url=redis_server.url) as other,
    ):
        assert (await call(gateway, "GET", CARD))[0] == 404
        status, made = await put(gateway, built(), reason="first")
        assert (status, made["object"], made["model"]) == (200, "model_card", "m")
        assert (made["changed"]["by"], made["changed"]["reason"]) == ("anonymous", "first")
        assert msgspec.convert(made["card"], ModelCard) == MEASURED
        held: Control = other.app.state.control
        async with asyncio.timeout(5):
            while held.cards.get("m", "policy@1", "reward@1") is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert held.cards.get("m", "policy@1", "reward@1") == MEASURED
        assert held.cards.get("m", "policy@2", "reward@1") is None
        assert held.cards.get("m", "policy@1", None) is None
        assert (await call(other, "GET", CARD))[1] == made

        assert await call(gateway, "DELETE", CARD) == (200, {"object": "model_card", "model": "m", "deleted": True})
        assert (await call(gateway, "GET", CARD))[0] == (await call(gateway, "DELETE", CARD))[0] == 404
        async with asyncio.timeout(5):
            while held.cards.get("m", "policy@1", "reward@1"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert held.state.card_notes == {}


async def test_its_answers_are_what_the_page_says(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        document = await (await gateway.session.get("/openapi.json")).json()
        at: dict[str, Any] = {"path": CARD, "template": "/admin/v1/models/{model}/card"}
        await check(gateway, document, "GET", wanted=404, **at)
        await check(gateway, document, "PUT", wanted=400, json={"card": built(format=9)}, **at)
        await check(gateway, document, "PUT", wanted=200, json={"card": built()}, **at)
        await check(gateway, document, "GET", wanted=200, **at)
        await check(gateway, document, "DELETE", wanted=200, **at)


async def test_the_same_card_again_changes_nothing_and_another_takes_its_place(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        await put(gateway, built(), reason="first")
        assert (await put(gateway, built(), reason="again"))[1]["changed"]["reason"] == "first"
        _, made = await put(gateway, built(deviation=2.0), reason="second")
        assert (made["card"]["deviation"], made["changed"]["reason"]) == (2.0, "second")


POINT = msgspec.to_builtins(MEASURED.partial[0])
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"format": 2}, "card.format"),
    ({"model": "other"}, "card.model"),
    ({"residuals": [0.0]}, "card.residuals"),
    ({"residuals": [1.0, 0.0]}, "card.residuals"),
    ({"law": {"count": 8, "mean": 0.5, "deviation": 1.0, "quantiles": [2.0, 1.0]}}, "card.law.quantiles"),
    ({"deviation": 0.0}, "card.deviation"),
    ({"mean_tokens": "many"}, "card.mean_tokens"),
    ({"curve": [{"n": 1, "reward": 9.0, "low": 0.0, "high": 1.0, "tokens": 1.0}]}, "card.curve.0"),
    ({"partial": [POINT, POINT]}, "card.partial"),
    ({"partial": [{**POINT, "high": 1.5}]}, "card.partial.0"),
    ({"length": [{"tokens": 2.0, "reward": 0.0}, {"tokens": 1.0, "reward": 0.0}]}, "card.length"),
    ({"lengths": [2.0, 1.0]}, "card.lengths"),
    ({"guard": {"weapons": {"quantiles": [0.0, 2.0], "flagged": 0.0}}}, "card.guard.weapons"),
]


@pytest.mark.parametrize(("changed", "param"), WRONG)
async def test_a_card_that_would_mislead_is_refused_by_name(
    redis_server: RedisServer, tmp_path: Path, changed: dict[str, Any], param: str
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        status, body = await put(gateway, built(**changed))
        assert (status, body["error"]["param"]) == (400, param), body
        assert (await call(gateway, "GET", CARD))[0] == 404


async def test_only_operators_may_and_only_for_models_that_are_there(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        there = await call(gateway, "PUT", "/admin/v1/models/no/card", json={"card": built(model="no")})
        assert (there[0], there[1]["error"]["code"]) == (404, "model_not_found")
        admin = await make(gateway, None, scopes=["admin"])
        chat = await make(gateway, admin["key"], scopes=["chat"])
        for method in ("GET", "PUT", "DELETE"):
            options: dict[str, Any] = {"json": {"card": built()}} if method == "PUT" else {}
            assert (await call(gateway, method, CARD, chat["key"], **options))[0] == 403
            assert (await call(gateway, method, CARD, **options))[0] == 401
