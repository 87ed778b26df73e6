"""/v1/responses through a whole gateway, on fakes and a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.ids import interaction_id
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.api.responses.shapes import check_items, check_response, events_of
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer

TEXTS = ["a", "bbb", "cc", "dddd"]


@pytest.fixture
async def gateway(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Harness]:
    scorers = FakeScorers(rewards=len, unsafe=frozenset({"dddd", "bad"}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers, redis_url=redis_server.url) as running:
        yield running


async def ask(gateway: Harness, **fields: Any) -> tuple[int, dict[str, Any]]:
    async with gateway.session.post("/v1/responses", json={"model": "m", "input": "hi", **fields}) as reply:
        return reply.status, await reply.json()


async def made(gateway: Harness, **fields: Any) -> dict[str, Any]:
    status, body = await ask(gateway, **fields)
    assert status == 200, body
    return check_response(body)


async def streamed(gateway: Harness, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": "m", "input": "hi", "stream": True, **fields}
    async with gateway.session.post("/v1/responses", json=body) as reply:
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        text = await reply.text()
    assert "[DONE]" not in text
    return events_of(text)


async def got(gateway: Harness, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    async with gateway.session.request(method, f"/v1/responses/{path}") as reply:
        return reply.status, await reply.json()


def text_of(response: dict[str, Any]) -> str:
    return "".join(part["text"] for item in response["output"] for part in item.get("content", []))


async def test_the_best_safe_candidate_is_the_response(gateway: Harness) -> None:
    response = await made(gateway, instructions="be brief", temperature=0.7, metadata={"k": "v"}, user="ann")
    assert text_of(response) == "bbb"
    assert response["status"] == "completed"
    assert response["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 8,
    }
    assert (response["guidance"]["sampled"], response["guidance"]["chosen"]) == (4, 1)
    said_back = {key: response[key] for key in ("instructions", "temperature", "metadata", "user", "store", "model")}
    assert said_back == {
        "instructions": "be brief",
        "temperature": 0.7,
        "metadata": {"k": "v"},
        "user": "ann",
        "store": True,
        "model": "m",
    }
    [logged] = gateway.interactions
    assert logged.id == interaction_id(response["id"])
    assert (logged.outcome, logged.endpoint) == ("delivered", "responses")
    assert logged.messages == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]


async def test_a_stream_tells_the_unary_answer(gateway: Harness) -> None:
    unary = await made(gateway)
    events = await streamed(gateway)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    final = check_response(events[-1]["response"])
    assert text_of(final) == text_of(unary) == "bbb"
    assert final["guidance"]["chosen"] == 1
    assert final["usage"] == unary["usage"]
    assert set(final) == set(unary)
    assert check_response(events[0]["response"])["status"] == "in_progress"
    assert (await got(gateway, final["id"])) == (200, final)


async def test_a_live_stream_has_a_delta_for_each_piece(tmp_path: Path, redis_server: RedisServer) -> None:
    worker = FakeWorker(texts=["one two three"])
    async with running_gateway(tmp_path, worker, redis_url=redis_server.url, safety=None) as gateway:
        events = await streamed(gateway, guidance={"stream_mode": "first"})
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert deltas == ["one ", "two ", "three"]
    assert text_of(events[-1]["response"]) == "one two three"


async def test_a_live_stream_refused_midway_ends_incomplete_with_what_was_sent(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    worker = FakeWorker(texts=["one two three"])
    scorers = FakeScorers(rewards=len, unsafe=frozenset({"one two three"}))
    profile: dict[str, Any] = {"stream_guard": "window", "stream_window": 4, "stream_context": 100}
    async with running_gateway(tmp_path, worker, scorers, redis_url=redis_server.url, **profile) as gateway:
        events = await streamed(gateway, guidance={"stream_mode": "first"})
        sent = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        final = check_response(events[-1]["response"])
        assert events[-1]["type"] == "response.incomplete"
        assert final["incomplete_details"] == {"reason": "content_filter"}
        assert 0 < len(sent) < len("one two three")
        assert text_of(final) == sent
        assert final["output"][-1]["status"] == "incomplete"
        assert (await got(gateway, final["id"]))[1] == final


async def test_a_failure_after_the_first_byte_is_an_error_event_and_a_failed_response(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    worker = FakeWorker(texts=["one two <break>"], word_s=0.05)
    async with running_gateway(tmp_path, worker, redis_url=redis_server.url, safety=None) as gateway:
        events = await streamed(gateway, guidance={"stream_mode": "first"})
        assert [event["type"] for event in events][-2:] == ["error", "response.failed"]
        assert events[-2]["message"]
        failed = check_response(events[-1]["response"])
        assert (failed["status"], failed["error"]["code"], text_of(failed)) == ("failed", "server_error", "one two ")
        assert (await got(gateway, failed["id"]))[0] == 404


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_an_incomplete_response(gateway: Harness, stream: bool) -> None:
    response = (await streamed(gateway, input="bad"))[-1]["response"] if stream else await made(gateway, input="bad")
    check_response(response)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
    assert (text_of(response), response["guidance"]["refused"], response["completed_at"]) == ("No.", "prompt", None)


async def test_a_conversation_goes_on_from_what_is_stored_but_for_its_instructions(gateway: Harness) -> None:
    first = await made(gateway, input="one?", instructions="old")
    second = await made(gateway, input="two?", previous_response_id=first["id"], instructions="new")
    third = await made(gateway, input="three?", previous_response_id=second["id"])
    assert third["previous_response_id"] == second["id"]
    assert [(message["role"], message["content"]) for message in gateway.interactions[1].messages] == [
        ("system", "new"),
        ("user", "one?"),
        ("assistant", "bbb"),
        ("user", "two?"),
    ]
    assert [message["content"] for message in gateway.interactions[2].messages] == [
        *["one?", "bbb", "two?", "bbb", "three?"]
    ]


async def test_items_of_any_stored_response_can_be_referred_to(gateway: Harness) -> None:
    first = await made(gateway, input="one?")
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    await made(gateway, input=[{"role": "user", "content": "say it again"}, reference])
    assert gateway.interactions[1].messages[1] == {"role": "assistant", "content": "bbb"}
    status, body = await ask(gateway, input=[{"type": "item_reference", "id": "msg_unknown"}])
    assert (status, body["error"]["code"], body["error"]["param"]) == (404, "item_not_found", "input[0].id")


async def test_a_stored_response_is_read_listed_and_deleted(gateway: Harness) -> None:
    first = await made(gateway, input="one?")
    second = await made(gateway, input="two?", previous_response_id=first["id"])
    assert await got(gateway, second["id"]) == (200, second)
    status, items = await got(gateway, f"{second['id']}/input_items?order=asc")
    assert status == 200
    assert [text_of({"output": [item]}) for item in check_items(items)["data"]] == ["one?", "bbb", "two?"]
    _, page = await got(gateway, f"{second['id']}/input_items?limit=1&after={items['data'][2]['id']}")
    assert (page["data"], page["has_more"]) == ([items["data"][1]], True)
    assert (await got(gateway, second["id"], "DELETE"))[1] == {
        "id": second["id"],
        "object": "response",
        "deleted": True,
    }
    for path, method in ((second["id"], "GET"), (second["id"], "DELETE"), (f"{second['id']}/input_items", "GET")):
        status, body = await got(gateway, path, method)
        assert (status, body["error"]["code"]) == (404, "response_not_found")
    assert (await got(gateway, first["id"]))[0] == 200


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "order=up", "after=msg_x"])
async def test_bad_pages_are_400(gateway: Harness, query: str) -> None:
    response = await made(gateway)
    status, body = await got(gateway, f"{response['id']}/input_items?{query}")
    assert (status, body["error"]["param"]) == (400, query.partition("=")[0])


async def test_unknown_foreign_and_malformed_ids_are_the_same_404(gateway: Harness) -> None:
    response = await made(gateway)
    for wrong in ("resp_1", response["id"].replace("resp_", "chatcmpl-"), response["id"][:-1] + "g"):
        status, body = await ask(gateway, previous_response_id=wrong)
        assert (status, body["error"]["code"]) == (404, "response_not_found")
        assert body["error"]["param"] == "previous_response_id"
    assert len(gateway.interactions) == 1


async def test_nothing_is_stored_where_the_client_does_not_want_it(gateway: Harness) -> None:
    response = await made(gateway, store=False)
    assert response["store"] is False
    assert (await got(gateway, response["id"]))[0] == 404
    assert gateway.metric("bestow_responses_stored_total", result="stored") == 0


async def test_there_is_nothing_to_cancel(gateway: Harness) -> None:
    response = await made(gateway)
    status, body = await got(gateway, f"{response['id']}/cancel", "POST")
    assert (status, body["error"]["code"]) == (400, "unsupported_operation")


async def test_without_redis_answers_go_on_unstored_and_say_so(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS)) as gateway:
        response = await made(gateway)
        assert (text_of(response), response["store"]) == ("dddd", False)
        assert (await streamed(gateway))[-1]["response"]["store"] is False
        assert gateway.metric("bestow_responses_stored_total", result="unavailable") == 2
        async with gateway.session.post(
            "/v1/responses", json={"model": "m", "input": "hi", "previous_response_id": response["id"]}
        ) as reply:
            assert reply.status == 503
            assert float(reply.headers["retry-after"]) > 0


async def test_mistakes_that_chat_finds_are_told_with_the_clients_own_fields(gateway: Harness) -> None:
    status, body = await ask(gateway, max_output_tokens=1_000_000)
    assert (status, body["error"]["param"]) == (400, "max_output_tokens")
    status, body = await ask(gateway, model="no-such-model")
    assert (status, body["error"]["code"]) == (404, "model_not_found")


async def test_history_counts_towards_the_context(tmp_path: Path, redis_server: RedisServer) -> None:
    worker = FakeWorker(texts=["word"], max_model_len=100)
    async with running_gateway(tmp_path, worker, redis_url=redis_server.url, max_tokens=4) as gateway:
        first = await made(gateway, input="word " * 60)
        status, body = await ask(gateway, input="word " * 60, previous_response_id=first["id"])
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "context_length_exceeded", "input")


async def test_another_tenants_response_is_not_there(tmp_path: Path, redis_server: RedisServer) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), redis_url=redis_server.url) as gateway:
        root = await _key(gateway, "", scopes=["admin"])
        shop, other = [await _key(gateway, root, tenant=name, scopes=["chat"]) for name in ("shop", "other")]
        status, mine = await _as(gateway, shop, "POST", "", json={"model": "m", "input": "hi"})
        assert status == 200
        assert (await _as(gateway, shop, "GET", mine["id"]))[0] == 200
        ask_on = {"model": "m", "input": "hi", "previous_response_id": mine["id"]}
        reference = {"model": "m", "input": [{"type": "item_reference", "id": mine["output"][0]["id"]}]}
        for method, path, options in (
            ("GET", mine["id"], {}),
            ("GET", f"{mine['id']}/input_items", {}),
            ("DELETE", mine["id"], {}),
            ("POST", f"{mine['id']}/cancel", {}),
            ("POST", "", {"json": ask_on}),
            ("POST", "", {"json": reference}),
        ):
            status, body = await _as(gateway, other, method, path, **options)
            assert status == 404, (method, path, body)
            assert (await _as(gateway, None, method, path, **options))[0] == 401
        assert (await _as(gateway, shop, "POST", "", json=ask_on))[0] == 200


async def _key(gateway: Harness, by: str, **body: Any) -> str:
    headers = {"authorization": f"Bearer {by}"} if by else {}
    for tenant in filter(None, [body.get("tenant")]):
        async with gateway.session.put(f"/admin/v1/tenants/{tenant}", json={}, headers=headers) as reply:
            assert reply.status == 200
    async with gateway.session.post("/admin/v1/keys", json={"name": "n", **body}, headers=headers) as reply:
        key: str = (await reply.json())["key"]
        return key


async def _as(gateway: Harness, key: str | None, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = f"/v1/responses/{path}".rstrip("/")
    async with gateway.session.request(method, url, headers=headers, **options) as reply:
        return reply.status, await reply.json()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeated_idempotency_key_gives_the_same_response(gateway: Harness, stream: bool) -> None:
    body = {"model": "m", "input": "hi", "stream": stream}
    replies = []
    for _ in range(2):
        async with gateway.session.post("/v1/responses", json=body, headers={"idempotency-key": "k"}) as reply:
            replies.append(await reply.text())
    assert replies[0] == replies[1]
    assert len(gateway.interactions) == 1


@pytest.mark.parametrize("mode", ["hold", "first"])
async def test_a_client_that_goes_away_ends_the_work(tmp_path: Path, redis_server: RedisServer, mode: str) -> None:
    worker = FakeWorker(texts=["one two three four five six"], delays_s=(30.0,), word_s=0.3)
    async with running_gateway(tmp_path, worker, redis_url=redis_server.url, safety=None) as gateway:
        body = {"model": "m", "input": "hi", "stream": True, "guidance": {"stream_mode": mode}}
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0), gateway.session.post("/v1/responses", json=body) as reply:
                await reply.read()
        for _ in range(100):
            if gateway.interactions and not worker.running:
                break
            await asyncio.sleep(0.02)
        assert worker.running == 0
        assert gateway.interactions[0].outcome == "cancelled"


@pytest.mark.parametrize(
    "body",
    [
        {"input": [5]},
        {"input": [{"type": ["message"]}]},
        {"input": [{"type": "item_reference", "id": {}}]},
        {"input": [{"id": None}]},
        {"input": [{"role": ["user"], "content": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "u", "detail": []}]}]},
        {"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "function", "name": {}}},
        {"tools": [{"type": "function", "name": {}}]},
        {"text": {"format": {"type": {}}}},
        {"text": []},
        {"metadata": []},
        {"max_output_tokens": 10**40},
        {"temperature": "hot"},
        {"guidance": 5},
        {"guidance": {"n": 10_000}},
        {"reasoning": {"summary": "all"}},
        {"include": "message.output_text.logprobs"},
    ],
)
async def test_what_makes_no_sense_is_a_400_with_its_field(gateway: Harness, body: dict[str, Any]) -> None:
    status, answer = await ask(gateway, **body)
    assert status in (400, 404), answer
    assert answer["error"]["param"].split("[")[0].split(".")[0] in body


async def test_the_openapi_page_has_the_routes_and_their_bodies(gateway: Harness) -> None:
    async with gateway.session.get("/openapi.json") as reply:
        page = await reply.json()
    paths, schema = page["paths"], page["components"]["schemas"]["ResponsesBody"]
    assert {"model", "input", "previous_response_id", "guidance"} <= set(schema["properties"])
    assert {"get", "delete"} == set(paths["/v1/responses/{response_id}"])
