import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, running_gateway

TEXTS = ["a", "bbb", "cc", "dddd"]


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


async def streamed(gateway: Harness, **fields: Any) -> tuple[int, Any, str]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **fields}
    async with gateway.session.post("/v1/chat/completions", json=body) as reply:
        return reply.status, reply.headers, await reply.text()


async def test_the_best_safe_candidate_is_delivered_with_its_receipt(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, unsafe=frozenset({"dddd"}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers) as gateway:
        status, headers, body = await gateway.chat()
    assert status == 200
    assert body["choices"][0]["message"]["content"] == "bbb"
    assert headers["x-request-id"] == body["id"]
    assert headers["x-bestow-profile"] == "default@1"
    assert headers["x-bestow-policy"] == "policy@1"
    assert headers["x-bestow-reward-model"] == "reward@1"
    assert headers["x-bestow-candidates"] == "4"
    assert float(headers["x-bestow-reward"]) == 3
    assert float(headers["x-bestow-overhead-ms"]) >= 0
    receipt = body["guidance"]
    assert (receipt["sampled"], receipt["scored"], receipt["safe"], receipt["chosen"]) == (4, 4, 3, 1)
    assert receipt["reward"] == 3
    assert receipt["degraded"] is None
    assert "candidates" not in receipt
    assert body["usage"] == {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    assert receipt["usage"] == {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}


async def test_a_stream_holds_the_same_answer_and_guidance_on_the_last_finish(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS)) as gateway:
        status, headers, text = await streamed(gateway, stream_options={"include_usage": True})
    chunks = events(text)
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert text.endswith("data: [DONE]\n\n")
    content = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert content == "dddd"
    [carrier] = [chunk for chunk in chunks if "guidance" in chunk]
    assert carrier["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 1
    assert {chunk["id"] for chunk in chunks} == {headers["x-request-id"]}


async def test_an_unsafe_prompt_is_refused_without_sampling(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, unsafe=frozenset({"bad"}))
    async with running_gateway(tmp_path, scorers=scorers) as gateway:
        status, _, body = await gateway.chat("bad")
        assert status == 200
        assert body["choices"][0]["message"]["content"] == "No."
        assert body["choices"][0]["finish_reason"] == "content_filter"
        assert gateway.worker.requests == []
        assert gateway.interactions[0].outcome == "refused_prompt"
        assert gateway.metric("bestow_flagged_total", stage="prompt", category="insult", action="refuse") == 1


async def test_when_no_candidate_is_safe_it_samples_once_more_then_refuses(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, unsafe=frozenset(TEXTS))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers) as gateway:
        status, _, body = await gateway.chat(guidance={"return_candidates": True})
        assert status == 200
        assert len(gateway.worker.requests) == 2
        assert body["choices"][0]["finish_reason"] == "content_filter"
        assert body["guidance"]["refused"] == "candidates"
        assert body["guidance"]["sampled"] == 8
        assert all(one["message"] is None for one in body["guidance"]["candidates"])
        assert [choice["message"]["content"] for choice in body["choices"]] == ["No."]
        assert gateway.interactions[0].outcome == "refused_candidates"
        assert len(gateway.interactions[0].candidates) == 8


async def test_client_n_gets_the_n_best_ranked(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS)) as gateway:
        _, _, body = await gateway.chat(n=3)
        _, _, text = await streamed(gateway, n=2)
    assert [choice["message"]["content"] for choice in body["choices"]] == ["dddd", "bbb", "cc"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"]["completion_tokens"] == 3
    chunks = events(text)
    assert "guidance" in chunks[-1]
    assert chunks[-1]["choices"][0]["index"] == 1


async def test_fewer_safe_than_asked_for_is_said(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, unsafe=frozenset({"a", "bbb"}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers) as gateway:
        _, headers, body = await gateway.chat(n=3)
    assert len(body["choices"]) == 2
    assert body["guidance"]["degraded"] == headers["x-bestow-degraded"] == "fewer_safe"


async def test_a_reward_model_that_is_down_degrades_and_is_counted(tmp_path: Path) -> None:
    worker = FakeWorker(texts=TEXTS, delays_s=(0.1, 0.0, 0.2, 0.3))
    async with running_gateway(tmp_path, worker, FakeScorers(down=frozenset({"reward"}))) as gateway:
        status, _, body = await gateway.chat()
        assert status == 200
        assert body["choices"][0]["message"]["content"] == "bbb"
        assert body["guidance"]["degraded"] == "reward_unavailable"
        assert body["guidance"]["reward"] is None
        assert gateway.metric("bestow_degraded_total", model="m", reason="reward_unavailable") == 1
        assert gateway.metric("bestow_scorer_failures_total", scorer="reward", reason="scorer_unavailable") == 4


async def test_a_guard_that_is_down_is_a_503_and_never_a_refusal(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, scorers=FakeScorers(rewards=len, down=frozenset({"safety"}))) as gateway:
        status, headers, body = await gateway.chat()
        assert status == 503
        assert body["error"]["code"] == "guard_unavailable"
        assert "127.0.0.1" not in body["error"]["message"]
        assert "retry-after" in headers
        assert gateway.worker.requests == []
        assert gateway.interactions[0].outcome == "failed"


async def test_a_profile_may_let_unguarded_answers_pass_and_says_so(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, down=frozenset({"safety"}))
    async with running_gateway(tmp_path, scorers=scorers, unreadable="pass") as gateway:
        status, _, body = await gateway.chat()
    assert status == 200
    assert body["guidance"]["degraded"] == "guard_unavailable"


async def test_a_worker_that_is_down_is_a_clear_503(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        gateway.service.pools["policy"].workers[0].up = False
        status, headers, body = await gateway.chat()
        assert (status, body["error"]["code"]) == (503, "unavailable")
        assert headers["x-should-retry"] == "true"
        status, _, text = await streamed(gateway)
        assert status == 503
        assert json.loads(text)["error"]["code"] == "unavailable"


async def test_a_worker_that_breaks_off_leaves_the_survivors(tmp_path: Path) -> None:
    worker = FakeWorker(texts=["a"], break_after=1)
    async with running_gateway(tmp_path, worker) as gateway:
        status, _, body = await gateway.chat(guidance={"n": 4})
    assert status == 200
    assert body["choices"][0]["message"]["content"] == "a"
    assert body["guidance"]["degraded"] == "worker_partial"
    # Asked again once; a request that has broken two connections may be what breaks them.
    assert [asked["n"] for asked in worker.requests] == [4, 3]


async def test_the_workers_4xx_is_relayed_and_its_5xx_is_a_502(tmp_path: Path) -> None:
    worker = FakeWorker(error=(400, {"message": "top_p must be in (0, 1]", "param": "top_p"}))
    async with running_gateway(tmp_path, worker) as gateway:
        status, _, body = await gateway.chat(top_p=3)
        assert (status, body["error"]["param"]) == (400, "top_p")
        worker.error = (500, {"message": "cuda on 10.1.2.3"})
        status, _, body = await gateway.chat()
        assert (status, body["error"]["code"]) == (502, "worker_error")


async def test_a_prompt_longer_than_the_context_is_refused_before_anything_reads_it(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(max_model_len=100)) as gateway:
        status, _, body = await gateway.chat("word " * 200)
        assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
        assert "100 tokens" in body["error"]["message"]
        assert gateway.scorers.requests == []
        status, _, body = await gateway.chat("word " * 60)
        assert status == 200
        assert gateway.worker.requests[-1]["max_tokens"] == 40


async def test_the_deadline_delivers_the_best_so_far(tmp_path: Path) -> None:
    worker = FakeWorker(texts=TEXTS, delays_s=(0.0, 0.0, 30.0, 30.0))
    async with running_gateway(tmp_path, worker) as gateway:
        status, _, body = await gateway.chat(guidance={"budget": {"ms": 700}})
        assert status == 200
        assert body["choices"][0]["message"]["content"] == "bbb"
        assert body["guidance"]["degraded"] == "deadline"
        await eventually(lambda: worker.running == 0)


async def test_a_guard_slower_than_the_deadline_is_a_504(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, scorers=FakeScorers(rewards=len, delay_s=3.0)) as gateway:
        status, headers, body = await gateway.chat(guidance={"budget": {"ms": 200}})
        assert (status, body["error"]["code"]) == (504, "deadline_exceeded")
        assert "retry-after" in headers
        assert gateway.worker.requests == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_stops_the_sampling_and_is_logged(tmp_path: Path, stream: bool) -> None:
    worker = FakeWorker(texts=TEXTS, delays_s=(0.0, 30.0))
    async with running_gateway(tmp_path, worker) as gateway:
        request = asyncio.create_task(streamed(gateway) if stream else gateway.chat())
        await eventually(lambda: worker.running == 4)
        await asyncio.sleep(0.1)
        request.cancel()
        await eventually(lambda: worker.running == 0)
        await eventually(lambda: len(gateway.interactions) == 1)
        [interaction] = gateway.interactions
        assert (interaction.outcome, interaction.status) == ("cancelled", 499)
        assert len(interaction.candidates) == 2
        await eventually(lambda: gateway.metric("bestow_in_flight_requests") == 0)


async def test_a_slow_stream_gets_its_status_early_and_keep_alives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api.streaming._KEEP_ALIVE_S", 0.05)
    worker = FakeWorker(texts=["a"], delays_s=(0.0, 0.5))
    async with running_gateway(tmp_path, worker) as gateway:
        status, headers, text = await streamed(gateway, guidance={"n": 2})
    assert status == 200
    assert text.startswith(": keep-alive\n\n")
    assert headers["x-bestow-profile"] == "default@1"
    assert "x-bestow-reward" not in headers


async def test_a_failure_after_the_status_is_an_error_frame(tmp_path: Path) -> None:
    worker = FakeWorker(texts=["bad"], delays_s=(0.0, 0.3))
    scorers = FakeScorers(rewards=len, broken_for=frozenset({"safety:bad"}))
    async with running_gateway(tmp_path, worker, scorers) as gateway:
        status, _, text = await streamed(gateway, guidance={"n": 2})
    assert status == 200
    assert events(text)[-1]["error"]["code"] == "guard_unavailable"
    assert "[DONE]" not in text


async def test_bodies_that_are_no_requests_leave_connection_and_process_unharmed(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        for raw, wanted in (
            (b"", 400),
            (b"{", 400),
            (b"\xff\xfe", 400),
            (b"[" * 50_000, 400),
            (b'{"model":"zzz","messages":[{"role":"user","content":"x"}]}', 404),
            (b" " * 20_000_000, 413),
        ):
            async with gateway.session.post("/v1/chat/completions", data=raw) as reply:
                assert reply.status == wanted
                error = (await reply.json())["error"]
                assert error["message"]
                assert error["type"] == "invalid_request_error"
                assert reply.headers["x-request-id"]
        status, _, _ = await gateway.chat()
        assert status == 200
        assert gateway.metric("bestow_requests_total", route="/v1/chat/completions", model="", status="413") == 1


async def test_the_openapi_page_describes_bodies_guidance_included(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway, gateway.session.get("/openapi.json") as reply:
        schemas = (await reply.json())["components"]["schemas"]
    assert schemas["ChatBody"]["required"] == ["model", "messages"]
    assert "return_candidates" in schemas["GuidanceRequest"]["properties"]
    assert "thumbs" in schemas["FeedbackBody"]["properties"]["kind"]["enum"]


async def test_unknown_routes_and_methods_have_openais_shape(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        for method, path, wanted in (("GET", "/v1/nope", 404), ("PUT", "/v1/chat/completions", 405)):
            async with gateway.session.request(method, path) as reply:
                assert reply.status == wanted
                assert (await reply.json())["error"]["message"]


async def test_the_record_holds_candidates_scores_versions_and_timings(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS)) as gateway:
        _, _, body = await gateway.chat("hello", user="ann", seed=11)
        [record] = gateway.interactions
    assert record.id == body["id"]
    assert (record.model, record.profile, record.policy) == ("m", "default@1", "policy@1")
    assert (record.reward_model, record.safety_model) == ("reward@1", "safety@1")
    assert [one.reward for one in record.candidates] == [1, 3, 2, 4]
    assert [one.seed for one in record.candidates] == [11, 12, 13, 14]
    assert [one.propensity for one in record.candidates] == [0, 0, 0, 1]
    assert record.chosen == 3
    assert record.messages == [{"role": "user", "content": "hello"}]
    assert record.user is not None
    assert "ann" not in record.user
    assert record.usage.sampled_tokens == 4
    assert record.timings.total_ms >= record.timings.overhead_ms > 0
    assert record.prompt_verdict is not None


async def eventually(condition: Any, seconds: float = 5.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true"
        await asyncio.sleep(0.01)
