import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai.types import Completion

from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, running_gateway
from tests.openai_spec.validators import strict_model, validate

TEXTS = ["a", "bbb", "cc", "dddd"]
UNGUARDED: dict[str, Any] = {"n": 1, "safety": None, "reward": None}


def check_schema(answer: dict[str, Any]) -> None:
    """An answer or a chunk against OpenAI's published schema and its client's type."""
    validate("CreateCompletionResponse", answer)
    strict_model(Completion, answer)


async def complete(gateway: Harness, prompt: Any = "hi", **fields: Any) -> tuple[int, Any, dict[str, Any]]:
    """(status, headers, body) of one unary text completion."""
    async with gateway.session.post("/v1/completions", json={"model": "m", "prompt": prompt, **fields}) as reply:
        return reply.status, reply.headers, await reply.json()


async def streamed(gateway: Harness, prompt: Any = "hi", **fields: Any) -> tuple[int, Any, str]:
    body = {"model": "m", "prompt": prompt, "stream": True, **fields}
    async with gateway.session.post("/v1/completions", json=body) as reply:
        return reply.status, reply.headers, await reply.text()


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def texts_of(chunks: list[dict[str, Any]]) -> dict[int, str]:
    """The text of each choice of a stream."""
    found: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
    return found


async def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true"
        await asyncio.sleep(0.01)


async def test_the_best_safe_candidate_is_delivered_with_its_receipt(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, unsafe=frozenset({"dddd"}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers) as gateway:
        status, headers, body = await complete(gateway, temperature=0.5)
        [record] = gateway.interactions
    assert status == 200
    check_schema(body)
    assert body["object"] == "text_completion"
    assert body["id"].removeprefix("cmpl-") == headers["x-request-id"].removeprefix("chatcmpl-")
    assert body["choices"] == [{"index": 0, "text": "bbb", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    assert body["guidance"]["safe"] == 3
    assert "prompts" not in body["guidance"]
    assert headers["x-bestow-reward"] == "3"
    [sent] = gateway.worker.requests
    assert (sent["prompt"], sent["n"], sent["temperature"]) == ("hi", 4, 0.5)
    assert sent["max_tokens"] == 512
    assert (record.id, record.endpoint) == (headers["x-request-id"], "completions")
    assert record.messages == [{"role": "user", "content": "hi"}]
    assert "prompt" not in record.parameters


async def test_several_prompts_are_answered_in_their_order_each_with_its_receipt(tmp_path: Path) -> None:
    worker = FakeWorker(texts=["<prompt>:a", "<prompt>:bb"])
    async with running_gateway(tmp_path, worker, n=2) as gateway:
        _, headers, body = await complete(gateway, ["x", "y", "z"], n=2)
        records = {record.messages[0]["content"]: record for record in gateway.interactions}
        metric = gateway.metric("bestow_outcomes_total", model="m", outcome="delivered")
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [
        (0, "x:bb"), (1, "x:a"), (2, "y:bb"), (3, "y:a"), (4, "z:bb"), (5, "z:a"),
    ]  # fmt: skip
    assert body["usage"] == {"prompt_tokens": 21, "completion_tokens": 6, "total_tokens": 27}
    check_schema(body)
    receipts = body["guidance"]["prompts"]
    assert [one["id"].removeprefix("cmpl-") for one in receipts] == [
        records[prompt].id.removeprefix("chatcmpl-") for prompt in ("x", "y", "z")
    ]
    assert receipts[0]["id"] == body["id"] == body["guidance"]["id"]
    assert headers["x-bestow-candidates"] == "6"
    assert metric == 3


async def test_every_prompts_id_takes_feedback(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        _, _, body = await complete(gateway, ["x", "y"])
        for one in body["guidance"]["prompts"]:
            vote = {"id": one["id"], "kind": "thumbs", "value": True}
            async with gateway.session.post("/v1/feedback", json=vote) as reply:
                assert reply.status == 202, await reply.text()
    feedback = [record for record in gateway.accepted if record not in gateway.interactions]
    assert {one.interaction for one in feedback} == {one.id for one in gateway.interactions}  # type: ignore[union-attr]


async def test_token_ids_reach_the_worker_and_their_text_reaches_guard_scorer_and_log(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, unsafe=frozenset({"t6 t6"}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers) as gateway:
        _, _, body = await complete(gateway, [[1, 2], [6, 6]])
        prompts = [record.messages[0]["content"] for record in gateway.interactions]
        asked = {message["content"] for request in scorers.requests for message in request["messages"]}
    assert [sent["prompt"] for sent in gateway.worker.requests] == [[1, 2]]
    assert [choice["text"] for choice in body["choices"]] == ["dddd", "No."]
    assert sorted(prompts) == sorted(asked) == ["t1 t2", "t6 t6"]


async def test_places_stay_aligned_where_some_choices_cannot_be_delivered(tmp_path: Path) -> None:
    worker = FakeWorker(texts=["<prompt>:a", "<prompt>:bb", "<prompt>:ccc"])
    scorers = FakeScorers(rewards=len, unsafe=frozenset({"bad", "x:bb", "x:ccc"}))
    async with running_gateway(tmp_path, worker, scorers, n=3, resample=0) as gateway:
        _, _, body = await complete(gateway, ["bad", "x", "y"], n=2)
        _, _, text = await streamed(gateway, ["bad", "x", "y"], n=2)
    wanted = ["No.", "No.", "x:a", "No.", "y:ccc", "y:bb"]
    assert [choice["text"] for choice in body["choices"]] == wanted
    assert [choice["finish_reason"] for choice in body["choices"]] == [
        "content_filter", "content_filter", "stop", "content_filter", "stop", "stop",
    ]  # fmt: skip
    assert [one["refused"] for one in body["guidance"]["prompts"]] == ["prompt", None, None]
    assert texts_of(events(text)) == dict(enumerate(wanted))


@pytest.mark.parametrize("stream", [False, True])
async def test_one_prompt_that_fails_fails_the_request_and_stops_the_others(tmp_path: Path, stream: bool) -> None:
    worker = FakeWorker(delays_s=(30.0,))
    scorers = FakeScorers(rewards=len, broken_for=frozenset({"safety:x"}), delay_s=0.1)
    async with running_gateway(tmp_path, worker, scorers, n=2) as gateway:
        status, headers, body = await (streamed(gateway, ["y", "x"]) if stream else complete(gateway, ["y", "x"]))
        error = json.loads(body) if isinstance(body, str) else body
        assert (status, error["error"]["code"]) == (503, "guard_unavailable")
        assert "retry-after" in headers
        await eventually(lambda: worker.running == 0)
        outcomes = {record.messages[0]["content"]: record.outcome for record in gateway.interactions}
    assert outcomes == {"x": "failed", "y": "cancelled"}


async def test_a_client_that_goes_away_stops_all_prompts(tmp_path: Path) -> None:
    worker = FakeWorker(delays_s=(30.0,))
    async with running_gateway(tmp_path, worker, n=2) as gateway:
        request = asyncio.create_task(complete(gateway, ["x", "y", "z"]))
        await eventually(lambda: worker.running == 6)
        request.cancel()
        await eventually(lambda: worker.running == 0)
        await eventually(lambda: len(gateway.interactions) == 3)
        assert {record.outcome for record in gateway.interactions} == {"cancelled"}


async def test_an_echo_works_where_nothing_is_judged_and_is_refused_elsewhere(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=[" there"]), **UNGUARDED) as gateway:
        _, _, body = await complete(gateway, echo=True)
        _, _, held = await streamed(gateway, echo=True)
        _, _, live = await streamed(gateway, echo=True, guidance={"stream_mode": "first"})
        _, _, nothing = await complete(gateway, echo=True, max_tokens=0)
    assert body["choices"][0]["text"] == "hi there"
    assert texts_of(events(held)) == texts_of(events(live)) == {0: "hi there"}
    assert nothing["choices"][0]["text"] == "hi"
    assert nothing["usage"]["completion_tokens"] == 0
    async with running_gateway(tmp_path / "guarded") as gateway:
        status, _, body = await complete(gateway, echo=True)
        assert (status, body["error"]["param"]) == (400, "echo")


async def test_a_held_stream_has_one_finished_chunk_a_choice_and_the_unary_text(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS)) as gateway:
        status, headers, text = await streamed(gateway, n=2, stream_options={"include_usage": True})
        _, _, body = await complete(gateway, n=2)
    chunks = events(text)
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert text.endswith("data: [DONE]\n\n")
    assert [chunk["choices"] for chunk in chunks] == [*([choice] for choice in body["choices"]), []]
    assert ["guidance" in chunk for chunk in chunks] == [False, True, False]
    for chunk in chunks:
        check_schema(chunk)
    assert chunks[-1]["usage"] == body["usage"]
    assert {chunk["id"] for chunk in chunks} == {"cmpl-" + headers["x-request-id"].removeprefix("chatcmpl-")}
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


async def test_several_live_prompts_interleave_and_end_once(tmp_path: Path) -> None:
    worker = FakeWorker(texts=["<prompt> says a word"], word_s=0.05)
    async with running_gateway(tmp_path, worker, **UNGUARDED, stream_mode="first") as gateway:
        _, _, text = await streamed(gateway, ["x", "y"], return_token_ids=True, stream_options={"include_usage": True})
        modes = {record.stream_mode for record in gateway.interactions}
    chunks = events(text)
    assert text.count("[DONE]") == 1
    assert modes == {"first"}
    assert texts_of(chunks) == {0: "x says a word", 1: "y says a word"}
    order = [chunk["choices"][0]["index"] for chunk in chunks if chunk["choices"]]
    assert order[:2] in ([0, 1], [1, 0])
    carriers = [chunk for chunk in chunks if "guidance" in chunk]
    assert sorted(chunk["choices"][0]["index"] for chunk in carriers) == [0, 1]
    assert all(chunk["choices"][0]["finish_reason"] == "stop" for chunk in carriers)
    assert len({chunk["guidance"]["id"] for chunk in carriers}) == 2
    assert chunks[-1]["usage"] == {"prompt_tokens": 14, "completion_tokens": 8, "total_tokens": 22}
    told = [
        chunk["choices"][0]["index"]
        for chunk in chunks
        if chunk["choices"] and "prompt_token_ids" in chunk["choices"][0]
    ]
    assert sorted(told) == [0, 1]


async def test_a_live_stream_that_turns_unsafe_ends_as_filtered(tmp_path: Path) -> None:
    worker = FakeWorker(texts=["one two three four"], word_s=0.02)
    scorers = FakeScorers(rewards=len, unsafe_words=frozenset({"three"}))
    async with running_gateway(tmp_path, worker, scorers, n=1, stream_mode="first", stream_window=4) as gateway:
        _, _, text = await streamed(gateway)
    chunks = events(text)
    assert texts_of(chunks)[0] in ("one ", "one two ")
    assert chunks[-1]["choices"][0]["finish_reason"] == "content_filter"


async def test_a_failure_after_the_first_byte_is_an_error_frame(tmp_path: Path) -> None:
    worker = FakeWorker(texts=["one two <break>"], word_s=0.05)
    async with running_gateway(tmp_path, worker, **UNGUARDED, stream_mode="first") as gateway:
        status, _, text = await streamed(gateway, ["x", "y"])
        await eventually(lambda: worker.running == 0)
    assert status == 200
    assert events(text)[-1]["error"]["code"] == "worker_error"
    assert "[DONE]" not in text


async def test_a_prompt_longer_than_the_context_is_refused_in_the_words_of_this_endpoint(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(max_model_len=100)) as gateway:
        for prompt in ("word " * 200, list(range(200))):
            status, _, body = await complete(gateway, prompt)
            assert (status, body["error"]["code"], body["error"]["param"]) == (400, "context_length_exceeded", "prompt")
            assert "messages" not in body["error"]["message"]
        status, _, _ = await complete(gateway, list(range(60)))
        assert status == 200
        assert gateway.worker.requests[-1]["max_tokens"] == 40


async def test_a_retry_with_the_same_idempotency_key_samples_once(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        gateway.session.headers["idempotency-key"] = "k1"
        first = await complete(gateway, ["x", "y"])
        again = await complete(gateway, ["x", "y"])
        assert first[2] == again[2]
        assert len(gateway.worker.requests) == 2


async def test_the_limit_on_prompts_is_the_configurations(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, gateway={"max_prompts": 2}) as gateway:
        status, _, body = await complete(gateway, ["x", "y", "z"])
        assert (status, body["error"]["param"]) == (400, "prompt")
        assert "at most 2" in body["error"]["message"]
        assert gateway.worker.requests == []
