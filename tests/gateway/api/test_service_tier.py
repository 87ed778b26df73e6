"""`service_tier` on every endpoint that samples: who gets which class, and what the answer says of it."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.access.cache import cache_file, save
from gateway.access.keys import make_key
from gateway.access.snapshot import Snapshot, Tenant
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.api.responses.shapes import check_response, events_of
from tests.gateway.harness import Harness, running_gateway
from tests.openai_spec.validators import validate

TENANTS = {
    "shop": Tenant("shop", tier="priority"),
    "blog": Tenant("blog"),
    "crawler": Tenant("crawler", tier="flex"),
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
}


class Keyed:
    """A gateway with a key for each of the tenants."""

    def __init__(self, gateway: Harness, keys: dict[str, str]) -> None:
        self.gateway = gateway
        self._keys = keys

    async def post(self, path: str, tenant: str, **fields: Any) -> tuple[int, str]:
        headers = {"authorization": f"Bearer {self._keys[tenant]}"}
        body = {"model": "m", **BODIES[path], **fields}
        async with self.gateway.session.post(path, json=body, headers=headers) as reply:
            return reply.status, await reply.text()

    async def answer(self, path: str, tenant: str, **fields: Any) -> dict[str, Any]:
        status, text = await self.post(path, tenant, **fields)
        assert status == 200, text
        body: dict[str, Any] = json.loads(text)
        return body


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Keyed]:
    made = {
        name: make_key(name=name, tenant=name, scopes=("chat",), expires=None, created_by="test", now=time.time())
        for name in TENANTS
    }
    save(cache_file(tmp_path), Snapshot(1, {record.id: record for record, _ in made.values()}, TENANTS))
    async with running_gateway(tmp_path, FakeWorker(), FakeScorers(rewards=len)) as gateway:
        yield Keyed(gateway, {name: key for name, (_, key) in made.items()})


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("tenant", "asked", "got"),
    [
        ("shop", "priority", "priority"),
        ("shop", "fast", "priority"),
        ("shop", "auto", "default"),
        ("shop", "flex", "flex"),
        ("blog", "priority", "default"),
        ("blog", "scale", "default"),
        ("crawler", "priority", "flex"),
        ("crawler", "auto", "flex"),
    ],
)
async def test_the_answer_says_the_class_that_it_got(
    keyed: Keyed, path: str, tenant: str, asked: str, got: str
) -> None:
    body = await keyed.answer(path, tenant, service_tier=asked)
    assert body["service_tier"] == got
    assert [record.tier for record in keyed.gateway.interactions] == [got]
    assert ["service_tier" in request for request in keyed.gateway.worker.requests] == [False]
    if path == "/v1/chat/completions":
        validate("CreateChatCompletionResponse", body)
    if path == "/v1/responses":
        check_response(body)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("fields", [{}, {"service_tier": None}])
async def test_who_does_not_ask_is_not_told_and_has_the_usual_class(
    keyed: Keyed, path: str, fields: dict[str, Any]
) -> None:
    assert "service_tier" not in await keyed.answer(path, "shop", **fields)
    await keyed.answer(path, "crawler", **fields)
    assert [record.tier for record in keyed.gateway.interactions] == ["default", "flex"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream_mode", ["hold", "first"])
async def test_every_chunk_of_a_stream_says_it(keyed: Keyed, path: str, stream_mode: str) -> None:
    fields: dict[str, Any] = {"stream": True, "guidance": {"stream_mode": stream_mode}}
    _, text = await keyed.post(path, "shop", service_tier="priority", **fields)
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert chunks and {chunk["service_tier"] for chunk in chunks} == {"priority"}
    _, text = await keyed.post(path, "shop", **fields)
    assert "service_tier" not in text


async def test_the_events_of_a_response_say_it(keyed: Keyed) -> None:
    _, text = await keyed.post("/v1/responses", "blog", service_tier="priority", stream=True)
    tiers = [event["response"]["service_tier"] for event in events_of(text) if "response" in event]
    assert tiers == ["default"] * 3


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("tier", ["gold", "", 5, ["flex"]])
async def test_a_class_that_there_is_not_is_a_400_that_names_the_field(keyed: Keyed, path: str, tier: Any) -> None:
    status, text = await keyed.post(path, "shop", service_tier=tier)
    error = json.loads(text)["error"]
    assert (status, error["param"], error["type"]) == (400, "service_tier", "invalid_request_error")
    assert keyed.gateway.worker.requests == []
