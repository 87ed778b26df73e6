"""Streams of one live sample over HTTP, in front of fakes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, running_gateway

TEXT = "it is a sunny day out there and the birds sing"


def worker(text: str = TEXT, word_s: float = 0.0) -> FakeWorker:
    return FakeWorker(texts=[text], word_s=word_s)


async def frames(gateway: Harness, **fields: Any) -> tuple[int, Any, list[Any]]:
    """(status, headers, the data of each event: JSON, or the text [DONE])."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **fields}
    async with gateway.session.post("/v1/chat/completions", json=body) as reply:
        text = await reply.text()
    data = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    if not data:
        return reply.status, reply.headers, [json.loads(text)]
    return reply.status, reply.headers, [one if one == "[DONE]" else json.loads(one) for one in data]


def said(found: list[Any]) -> str:
    choices = [choice for frame in found if frame != "[DONE]" for choice in frame.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


LIVE: dict[str, Any] = {"stream_mode": "first", "stream_window": 8}


@pytest.mark.parametrize("mode", ["hold-back", "window", "audit"])
async def test_a_live_stream_is_one_sample_with_its_receipt_on_the_last_finish(tmp_path: Path, mode: str) -> None:
    async with running_gateway(tmp_path, worker(), **LIVE, stream_guard=mode) as gateway:
        status, headers, found = await frames(gateway, stream_options={"include_usage": True})
    assert status == 200
    assert said(found) == TEXT
    assert found[-1] == "[DONE]"
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    [carrier] = [frame for frame in found[:-1] if "guidance" in frame]
    assert carrier["choices"][0]["finish_reason"] == "stop"
    receipt = carrier["guidance"]
    assert (receipt["sampled"], receipt["safe"], receipt["reward"]) == (1, 1, len(TEXT))
    assert found[-2]["usage"] == {"prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18}
    assert {frame["id"] for frame in found[:-1]} == {headers["x-request-id"]}
    [logged] = gateway.interactions
    assert (logged.outcome, logged.stream_mode, logged.n) == ("delivered", "first", 1)
    assert logged.candidates[0].message["content"] == TEXT


async def test_the_first_words_leave_while_the_rest_is_sampled(tmp_path: Path) -> None:
    slow = worker(" ".join(["word"] * 40), word_s=0.05)
    async with running_gateway(tmp_path, slow, **LIVE) as gateway:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with gateway.session.post("/v1/chat/completions", json=body) as reply:
            async for line in reply.content:
                if b"word" in line:
                    assert gateway.worker.running == 1
                    break
            rest = await reply.text()
    assert rest.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("mode", ["hold-back", "window"])
async def test_nothing_flagged_leaves_and_nothing_after_it(tmp_path: Path, mode: str) -> None:
    scorers = FakeScorers(rewards=len, unsafe_words=frozenset({"birds"}))
    async with running_gateway(tmp_path, worker(), scorers, **LIVE, stream_guard=mode) as gateway:
        status, _, found = await frames(gateway, stream_options={"include_usage": True})
    assert status == 200
    text = said(found)
    assert TEXT.startswith(text)
    assert text
    assert "birds" not in text
    [carrier] = [frame for frame in found[:-1] if "guidance" in frame]
    assert carrier["choices"][0]["finish_reason"] == "content_filter"
    assert carrier["guidance"]["refused"] == "candidates"
    assert found[-2]["usage"]["completion_tokens"] == len(text.split())
    [logged] = gateway.interactions
    assert logged.outcome == "refused_candidates"
    assert logged.candidates[0].verdict is not None
    assert logged.candidates[0].verdict.flagged == ["insult"]
    assert logged.usage.completion_tokens == len(text.split())
    assert logged.usage.sampled_tokens >= len(text.split())


async def test_a_stream_flagged_before_anything_left_is_the_refusal(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, unsafe_words=frozenset({"it"}))
    async with running_gateway(tmp_path, worker(), scorers, **LIVE) as gateway:
        _, _, found = await frames(gateway)
    assert said(found) == "No."
    assert found[-2]["choices"][0]["finish_reason"] == "content_filter"
    assert found[-2]["guidance"]["refused"] == "candidates"


async def test_an_unsafe_prompt_is_refused_on_a_live_stream_too(tmp_path: Path) -> None:
    scorers = FakeScorers(unsafe=frozenset({"hi"}))
    async with running_gateway(tmp_path, worker(), scorers, **LIVE) as gateway:
        _, _, found = await frames(gateway)
        assert gateway.worker.requests == []
    assert said(found) == "No."
    assert found[-2]["guidance"]["refused"] == "prompt"


async def test_audit_lets_it_out_and_says_what_was_flagged(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, unsafe_words=frozenset({"birds"}))
    async with running_gateway(tmp_path, worker(), scorers, **LIVE, stream_guard="audit") as gateway:
        _, _, found = await frames(gateway)
    assert said(found) == TEXT
    receipt = found[-2]["guidance"]
    assert (receipt["flagged"], receipt["safe"], receipt["refused"]) == (["insult"], 0, None)
    assert gateway.interactions[0].candidates[0].verdict.flagged == ["insult"]  # type: ignore[union-attr]


async def test_a_guard_that_is_away_is_a_503_with_its_status(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, down=frozenset({"safety"}))
    async with running_gateway(tmp_path, worker(), scorers, **LIVE) as gateway:
        status, headers, found = await frames(gateway)
    assert (status, found[0]["error"]["code"]) == (503, "guard_unavailable")
    assert headers["x-should-retry"] == "true"


async def test_a_failure_after_the_first_byte_is_an_error_frame(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker("it is a fine day <break>", word_s=0.01), **LIVE) as gateway:
        status, _, found = await frames(gateway)
    assert status == 200
    assert found[-1]["error"]["code"] == "worker_error"
    assert set(found[-1]["error"]) == {"message", "type", "param", "code"}
    assert "[DONE]" not in found
    [logged] = gateway.interactions
    assert (logged.outcome, logged.status) == ("failed", 502)
    assert logged.usage.sampled_tokens == 5


async def test_a_client_that_leaves_ends_the_sample_and_is_logged_with_what_was_spent(tmp_path: Path) -> None:
    slow = worker(" ".join(["word"] * 400), word_s=0.01)
    async with running_gateway(tmp_path, slow, **LIVE) as gateway:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with gateway.session.post("/v1/chat/completions", json=body) as reply:
            async for line in reply.content:
                if b"word" in line:
                    break
            reply.close()
        for _ in range(100):
            if gateway.interactions and gateway.worker.running == 0:
                break
            await asyncio.sleep(0.02)
        [logged] = gateway.interactions
        assert gateway.worker.running == 0
    assert (logged.outcome, logged.status) == ("cancelled", 499)
    assert 1 <= logged.usage.sampled_tokens < 400
    assert logged.usage.prompt_tokens == 7
    assert logged.candidates[0].finish_reason is None


async def test_at_the_deadline_a_live_stream_ends_with_what_it_has(tmp_path: Path) -> None:
    slow = worker(" ".join(["word"] * 400), word_s=0.01)
    async with running_gateway(tmp_path, slow, **LIVE) as gateway:
        _, _, found = await frames(gateway, guidance={"budget": {"ms": 400}})
    assert said(found).startswith("word word")
    assert found[-2]["choices"][0]["finish_reason"] == "length"
    assert found[-2]["guidance"]["degraded"] == "deadline"


async def test_usage_on_every_chunk_where_it_is_asked_for(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), **LIVE) as gateway:
        options = {"include_usage": True, "continuous_usage_stats": True}
        _, _, found = await frames(gateway, stream_options=options)
    counts = [frame["usage"]["completion_tokens"] for frame in found[:-1]]
    assert counts == sorted(counts)
    assert counts[-1] == 11


async def test_held_choices_are_streamed_one_after_the_other_whatever_the_profiles_mode(tmp_path: Path) -> None:
    several = FakeWorker(texts=["a", "bb", "ccc", "dddd"])
    async with running_gateway(tmp_path, several, stream_mode="first") as gateway:
        _, _, found = await frames(gateway, n=2)
    texts = {0: "", 1: ""}
    for frame in found[:-1]:
        for choice in frame["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == {0: "dddd", 1: "ccc"}
