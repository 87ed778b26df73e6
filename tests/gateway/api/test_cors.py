"""What browsers are told: which pages may call what, and which headers they can read."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.api.cors import EXPOSED
from gateway.api.openapi import _HEADERS
from gateway.errors import ConfigError
from gateway.ids import new_completion_id
from tests.fakes import FakeWorker
from tests.gateway.harness import Harness, config_for, running_gateway

APP = "https://app.example.com"
LISTED = {"cors_origins": [APP, "http://localhost:3000"]}
BOTH = {**LISTED, "cors_endpoints": ["feedback", "chat"]}


async def preflight(
    gateway: Harness, path: str, *, origin: str = APP, method: str = "POST", **headers: str
) -> aiohttp.ClientResponse:
    asked = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type,x-stainless-lang",
        **headers,
    }
    async with gateway.session.options(path, headers=asked) as reply:
        await reply.read()
        return reply


def vary(reply: aiohttp.ClientResponse) -> set[str]:
    return {name.strip().lower() for value in reply.headers.getall("vary", []) for name in value.split(",")}


@pytest.mark.parametrize("method", ["POST", "DELETE", "GET"])
async def test_a_preflight_of_a_listed_page_is_allowed_with_its_headers(tmp_path: Path, method: str) -> None:
    async with running_gateway(tmp_path, gateway=LISTED) as gateway:
        reply = await preflight(gateway, "/v1/feedback/chatcmpl-1", method=method)
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == APP
        assert method in reply.headers["access-control-allow-methods"]
        allowed = reply.headers["access-control-allow-headers"].split(",")
        assert {"authorization", "content-type", "x-stainless-lang"} <= set(allowed)
        assert int(reply.headers["access-control-max-age"]) > 0
        assert "access-control-allow-credentials" not in reply.headers
        assert "origin" in vary(reply)


async def test_a_page_in_front_of_a_private_gateway_is_let_in_where_it_was_named(tmp_path: Path) -> None:
    private = {"access-control-request-private-network": "true"}
    async with running_gateway(tmp_path / "named", gateway=LISTED) as gateway:
        reply = await preflight(gateway, "/v1/feedback", **private)
        assert (reply.status, reply.headers["access-control-allow-private-network"]) == (200, "true")
    async with running_gateway(tmp_path / "all", gateway={"cors_origins": ["*"]}) as gateway:
        assert (await preflight(gateway, "/v1/feedback", **private)).status == 400


async def test_another_page_is_told_nothing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, gateway=LISTED) as gateway:
        reply = await preflight(gateway, "/v1/feedback", origin="https://evil.example")
        assert reply.status == 400
        assert "access-control-allow-origin" not in reply.headers
        sent = {"origin": "https://evil.example"}
        async with gateway.session.post("/v1/feedback", json={}, headers=sent) as reply:
            assert "access-control-allow-origin" not in reply.headers
            assert "origin" in vary(reply)


async def test_a_thumb_from_a_page_with_the_answers_token(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, gateway=LISTED) as gateway:
        _, _, answer = await gateway.chat()
        headers = {"origin": APP, "authorization": f"Bearer {answer['guidance']['feedback_token']}"}
        body = {"id": answer["id"], "kind": "thumbs", "value": True}
        async with gateway.session.post("/v1/feedback", json=body, headers=headers) as reply:
            assert reply.status == 202
            assert reply.headers["access-control-allow-origin"] == APP
            assert set(reply.headers["access-control-expose-headers"].split(", ")) == set(EXPOSED)
            assert "origin" in vary(reply)


async def test_a_page_can_read_errors_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_gateway(tmp_path, gateway=LISTED) as gateway:
        bodies: list[tuple[dict[str, Any], int]] = [
            ({"id": "chatcmpl-1", "kind": "thumbs", "value": True}, 400),
            ({"id": new_completion_id(), "kind": "thumbs", "value": True}, 404),
            ({"id": new_completion_id(), "kind": "thumbs", "value": True, "token": "bft_x.y"}, 401),
        ]
        for body, status in bodies:
            async with gateway.session.post("/v1/feedback", json=body, headers={"origin": APP}) as reply:
                assert (reply.status, reply.headers["access-control-allow-origin"]) == (status, APP)
                assert "x-should-retry" in reply.headers["access-control-expose-headers"]
        async with gateway.session.put("/v1/feedback", headers={"origin": APP}) as reply:
            assert (reply.status, reply.headers["access-control-allow-origin"]) == (405, APP)

        def broken(_: float) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(gateway.service, "now", broken)
        body = {"id": new_completion_id(), "kind": "thumbs", "value": True, "token": "bft_x.y"}
        async with gateway.session.post("/v1/feedback", json=body, headers={"origin": APP}) as reply:
            assert (reply.status, reply.headers["access-control-allow-origin"]) == (500, APP)


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_is_open_to_pages_only_where_it_is_listed(tmp_path: Path, stream: bool) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    async with running_gateway(tmp_path / "both", FakeWorker(), gateway=BOTH) as gateway:
        assert (await preflight(gateway, "/v1/chat/completions")).status == 200
        async with gateway.session.post("/v1/chat/completions", json=body, headers={"origin": APP}) as reply:
            assert reply.status == 200
            assert reply.headers["access-control-allow-origin"] == APP
            assert "x-bestow-profile" in reply.headers["access-control-expose-headers"]
            assert "x-bestow-profile" in reply.headers
            text = await reply.text()
            assert ("data: [DONE]" in text) == stream
    async with running_gateway(tmp_path / "feedback", gateway=LISTED) as gateway:
        assert (await preflight(gateway, "/v1/chat/completions")).status == 405
        async with gateway.session.post("/v1/chat/completions", json=body, headers={"origin": APP}) as reply:
            assert "access-control-allow-origin" not in reply.headers
            await reply.read()


async def test_the_admin_api_is_never_open_to_pages(tmp_path: Path) -> None:
    everything = {"cors_origins": ["*"], "cors_endpoints": ["feedback", "chat"]}
    async with running_gateway(tmp_path, gateway=everything) as gateway:
        assert "access-control-allow-origin" not in (await preflight(gateway, "/admin/v1/keys")).headers
        assert "access-control-allow-origin" not in (await preflight(gateway, "/v1/feedbacks")).headers
        assert (await preflight(gateway, "/v1/feedback")).headers["access-control-allow-origin"] == "*"


async def test_without_origins_nothing_is_installed(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        assert "Cors" not in [getattr(one.cls, "__name__", "") for one in gateway.app.user_middleware]
        assert (await preflight(gateway, "/v1/feedback")).status == 405


def test_all_documented_headers_can_be_read() -> None:
    assert set(EXPOSED) == set(_HEADERS)


@pytest.mark.parametrize(
    "origin", ["https://app.example.com/", "app.example.com", "https://App.example.com", "https://a.b/path", "null"]
)
def test_what_is_no_origin_is_refused_with_an_example(tmp_path: Path, origin: str) -> None:
    from tests.fakes import FakeScorers  # noqa: PLC0415

    worker, scorers = FakeWorker(), FakeScorers(rewards=len)
    worker.url = scorers.url = "http://127.0.0.1:1"
    with pytest.raises(ConfigError, match=r"gateway\.cors_origins.*https://app\.example\.com"):
        config_for(worker, scorers, tmp_path, {}, gateway={"cors_origins": [origin]})
