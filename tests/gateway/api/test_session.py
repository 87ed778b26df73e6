"""Which conversation a request belongs to, by whatever way the application says it."""

from pathlib import Path
from typing import Any

import pytest

from gateway.api.session import HEADERS, named_by, named_in
from gateway.ids import interaction_id
from gateway.log.records import encode
from gateway.signing import Signer
from tests.gateway.api.responses.test_routes import made
from tests.gateway.harness import running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]

NAME = "chat-42 of ada"


@pytest.mark.parametrize(
    "body",
    [
        {"guidance": {"session": NAME}, "session_id": "another"},
        {"session_id": NAME, "metadata": {"session_id": "another"}},
        {"metadata": {"session_id": NAME, "thread_id": "another"}},
        {"metadata": {"Conversation_ID": NAME}},
        {"metadata": {"chat_id": NAME}},
        {"metadata": {"thread_id": NAME}},
        {"metadata": {"langfuse_session_id": NAME}},
        {"session_id": 7, "metadata": {"session_id": "", "thread_id": NAME}},
        {"session_id": "x" * 513, "metadata": {"thread_id": NAME}},
    ],
)
def test_the_likeliest_field_names_it_and_what_is_no_name_is_passed_over(body: dict[str, Any]) -> None:
    assert named_in(body) == NAME


@pytest.mark.parametrize(
    "body", [{}, {"metadata": ["session_id"]}, {"guidance": None}, {"metadata": {"session": NAME}}]
)
def test_nothing_names_it(body: dict[str, Any]) -> None:
    assert named_in(body) is None
    assert named_by({"x-request-id": NAME}) is None


def test_a_tenants_sessions_are_its_own_and_no_users_hash() -> None:
    signer = Signer(b"s" * 16, 60)
    found = {signer.hash_session("acme", NAME), signer.hash_session("other", NAME), signer.hash_user(NAME)}
    assert len(found) == 3 and all(one is not None and len(one) == 32 for one in found)
    assert signer.hash_session("acme", NAME) == Signer(b"s" * 16, 9).hash_session("acme", NAME)
    assert signer.hash_session("acme", None) is None


@pytest.mark.parametrize("header", HEADERS)
async def test_a_header_names_it_where_the_body_does_not(tmp_path: Path, header: str) -> None:
    async with running_gateway(tmp_path, n=1) as gateway:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        for more in ({}, {"guidance": {"session": "of the body"}}):
            async with gateway.session.post(
                "/v1/chat/completions", json={**body, **more}, headers={header: NAME}
            ) as reply:
                assert reply.status == 200
        hashed = gateway.service.signer.hash_session
        assert [one.session for one in gateway.interactions] == [
            hashed("default", NAME),
            hashed("default", "of the body"),
        ]


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True])
async def test_every_endpoint_logs_it_and_its_name_is_nowhere(tmp_path: Path, endpoint: str, stream: bool) -> None:
    prompts: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
        "/v1/completions": {"prompt": ["hi", "there"]},
        "/v1/responses": {"input": "hi", "store": True},
    }
    async with running_gateway(tmp_path, n=1) as gateway:
        body = {"model": "m", "stream": stream, "metadata": {"session_id": NAME, "topic": "maps"}, **prompts[endpoint]}
        async with gateway.session.post(endpoint, json=body) as reply:
            assert reply.status == 200
            await reply.read()
        hashed = gateway.service.signer.hash_session("default", NAME)
        for record in gateway.interactions:
            assert (record.session, record.previous) == (hashed, None)
            assert record.parameters["metadata"] == {"topic": "maps"}
            assert NAME.encode() not in encode(record)
        # It goes on to the worker as it came: the log alone does not keep it.
        assert gateway.worker.requests[0]["metadata"]["session_id"] == NAME


async def test_a_session_that_is_no_name_is_refused_in_guidance_alone(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, n=1) as gateway:
        status, _, body = await gateway.chat(guidance={"session": ""})
        assert (status, body["error"]["param"]) == (400, "guidance.session")
        assert (await gateway.chat(session_id="", metadata={"session_id": ""}))[0] == 200
        assert gateway.interactions[0].session is None


async def test_a_response_tells_which_one_it_goes_on_from(tmp_path: Path, redis_server: RedisServer) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url, n=1) as gateway:
        first = await made(gateway)
        await made(gateway, previous_response_id=first["id"])
        assert [one.previous for one in gateway.interactions] == [None, interaction_id(first["id"])]
        assert gateway.interactions[1].previous == gateway.interactions[0].id
