"""Several guards, what becomes of what they flag, and the second check, through the whole gateway."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, running_gateway

TEXTS = ["a", "bbb", "cc", "dddd"]
BOTH = ["safety", "dear"]


def scorers(flagged: dict[str, float] | None = None, **more: Any) -> FakeScorers:
    """`dear` is a second guard, which flags these texts."""
    return FakeScorers(**{"rewards": len, "guards": {"dear": flagged or {}}, **more})


def contents(body: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in body["choices"]]


async def streamed(gateway: Harness, **fields: Any) -> tuple[int, str, dict[str, Any]]:
    """(status, text, last event with a receipt or an error) of a live stream."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **fields}
    async with gateway.session.post("/v1/chat/completions", json=body) as reply:
        raw = await reply.text()
    if reply.status != 200:
        return reply.status, "", json.loads(raw)
    events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for event in events for choice in event.get("choices", ())]
    text = "".join(delta.get("content") or "" for delta in deltas)
    return 200, text, next(event for event in events if "guidance" in event or "error" in event)


async def test_guards_are_asked_in_order_and_what_one_flags_the_next_does_not_read(tmp_path: Path) -> None:
    fake = scorers({"bbb": 0.9}, unsafe=frozenset({"dddd"}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, safety=BOTH) as gateway:
        _, _, body = await gateway.chat(guidance={"return_candidates": True})
        [record] = gateway.interactions
    assert contents(body) == ["cc"]
    assert sorted(fake.asked("dear")) == [["a"], ["bbb"], ["cc"], ["hi"]]
    assert body["guidance"]["safety_model"] == record.safety_model == "safety@1+dear@1"
    assert [one["message"] is None for one in body["guidance"]["candidates"]] == [False, True, False, True]
    verdicts = [one.verdict for one in record.candidates]
    assert all(verdict is not None for verdict in verdicts)
    assert [list(verdict.guards) for verdict in verdicts if verdict] == [["safety@1", "dear@1"]] * 3 + [["safety@1"]]
    assert verdicts[1] is not None and verdicts[1].guards["dear@1"]["insult"] == 0.9


async def test_a_prompt_must_pass_all_that_can_read_one_alone(tmp_path: Path) -> None:
    fake = scorers({"bad": 0.9})
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, safety=BOTH) as gateway:
        _, _, body = await gateway.chat("bad")
        assert body["guidance"]["refused"] == "prompt"
        fake.requests.clear()
        gateway.service.scorers["dear"].prompt_only = False
        _, _, body = await gateway.chat("bad")
        assert body["guidance"]["refused"] is None
    assert ["bad"] not in fake.asked("dear")


@pytest.mark.parametrize("away", BOTH)
async def test_one_guard_that_cannot_answer_is_a_503_for_prompt_and_answers(tmp_path: Path, away: str) -> None:
    fake = scorers(broken_for=frozenset({f"{away}:{text}" for text in TEXTS}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, safety=BOTH) as gateway:
        status, _, body = await gateway.chat()
        assert (status, body["error"]["code"]) == (503, "guard_unavailable")
        fake.down = frozenset({away})
        status, _, body = await gateway.chat()
        assert (status, body["error"]["code"]) == (503, "guard_unavailable")
        assert [one.outcome for one in gateway.interactions] == ["failed", "failed"]


async def test_live_streams_are_read_by_all_guards(tmp_path: Path) -> None:
    fake = scorers(dict.fromkeys(["one ", "one two ", "one two three"], 0.9))
    worker = FakeWorker(texts=["one two three"], word_s=0.02)
    options: dict[str, Any] = {"safety": BOTH, "stream_mode": "first", "stream_window": 5}
    async with running_gateway(tmp_path, worker, fake, **options) as gateway:
        _, text, last = await streamed(gateway)
    assert text == "No."
    assert last["guidance"]["refused"] == "candidates"


async def test_what_is_only_noted_is_delivered_and_said_everywhere(tmp_path: Path) -> None:
    fake = scorers(unsafe=frozenset({"hi", "dddd"}))
    options: dict[str, Any] = {"category_actions": {"insult": "flag"}}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, **options) as gateway:
        status, _, body = await gateway.chat(guidance={"return_candidates": True})
        [record] = gateway.interactions
        for stage in ("prompt", "candidate"):
            assert gateway.metric("bestow_flagged_total", stage=stage, category="insult", action="flag") == 1
    assert (status, contents(body)) == (200, ["dddd"])
    receipt = body["guidance"]
    assert (receipt["flags"], receipt["flagged"], receipt["safe"]) == (["insult"], [], 4)
    assert receipt["candidates"][3]["flags"] == ["insult"]
    assert record.prompt_verdict is not None and record.prompt_verdict.noted == ["insult"]
    assert record.candidates[3].verdict is not None and record.candidates[3].verdict.noted == ["insult"]


async def test_a_prompt_that_blocks_is_an_error_at_once(tmp_path: Path) -> None:
    fake = scorers(unsafe=frozenset({"a bad prompt"}))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, action="block") as gateway:
        status, _, body = await gateway.chat("a bad prompt")
        assert gateway.worker.requests == []
        [record] = gateway.interactions
        assert gateway.metric("bestow_flagged_total", stage="prompt", category="insult", action="block") == 1
    assert status == 400
    error = body["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "content_blocked", "messages")
    assert "bad" not in error["message"]
    assert (record.outcome, record.status) == ("blocked", 400)


async def test_answers_that_block_are_an_error_only_when_nothing_else_is_safe(tmp_path: Path) -> None:
    fake = scorers(unsafe=frozenset(TEXTS[1:]))
    options: dict[str, Any] = {"category_actions": {"insult": "block"}}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, **options) as gateway:
        status, _, body = await gateway.chat()
        assert (status, contents(body)) == (200, ["a"])
        fake.unsafe = frozenset(TEXTS)
        status, _, body = await gateway.chat()
        assert (status, body["error"]["code"]) == (400, "content_blocked")
        assert not any(text in body["error"]["message"].split() for text in TEXTS)
        record = gateway.interactions[-1]
        assert (record.outcome, len(record.candidates)) == ("blocked", 8)
        assert all(one.verdict is not None and one.verdict.blocked == ["insult"] for one in record.candidates)
        # Its status has left when the first candidate was finished.
        _, text, error = await streamed(gateway)
        assert (text, error["error"]["code"]) == ("", "content_blocked")


async def test_a_live_stream_that_blocks_ends_with_the_error(tmp_path: Path) -> None:
    fake = scorers(unsafe_words=frozenset({"bad"}))
    worker = FakeWorker(texts=["good so far then bad"], word_s=0.02)
    options: dict[str, Any] = {"stream_mode": "first", "stream_window": 5, "action": "block"}
    async with running_gateway(tmp_path, worker, fake, **options) as gateway:
        status, text, last = await streamed(gateway)
    assert status == 200
    assert text and "bad" not in text
    assert last["error"]["code"] == "content_blocked"


async def test_the_second_check_reads_the_winner_and_then_the_next(tmp_path: Path) -> None:
    fake = scorers({"dddd": 0.9, "bbb": 0.2})
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, second_check="dear") as gateway:
        _, headers, body = await gateway.chat()
        [record] = gateway.interactions
        assert gateway.metric("bestow_candidates_total", policy="policy", fate="flagged") == 1
        labels = {"stage": "second_check", "category": "insult", "action": "refuse"}
        assert gateway.metric("bestow_flagged_total", **labels) == 1
        assert gateway.metric("bestow_second_check_seconds_count") == 1
    assert fake.asked("dear") == [["dddd"], ["bbb"]]
    assert contents(body) == ["bbb"]
    assert float(headers["x-bestow-reward"]) == 3
    receipt = body["guidance"]
    assert (receipt["second_check"], receipt["safe"], receipt["chosen"]) == ("dear@1", 3, 1)
    assert [one.propensity for one in record.candidates] == [0, 1, 0, 0]
    assert [one.second_check is not None for one in record.candidates] == [False, True, False, True]
    assert record.candidates[3].second_check is not None and record.candidates[3].second_check.flagged == ["insult"]
    assert record.second_check == "dear@1" and record.safety_model == "safety@1"


async def test_what_the_second_check_has_not_cleared_is_shown_to_nobody(tmp_path: Path) -> None:
    fake = scorers({"dddd": 0.9, "a": 0.9})
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, second_check="dear") as gateway:
        _, _, body = await gateway.chat(guidance={"return_candidates": True})
    shown = [one["message"] and one["message"]["content"] for one in body["guidance"]["candidates"]]
    assert shown == [None, "bbb", "cc", None]
    assert "dddd" not in json.dumps(body)


async def test_as_many_choices_as_the_client_wants_pass_the_second_check(tmp_path: Path) -> None:
    fake = scorers({"dddd": 0.9})
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, second_check="dear") as gateway:
        _, _, body = await gateway.chat(n=2)
        assert contents(body) == ["bbb", "cc"]
        _, _, body = await gateway.chat(n=4)
        assert contents(body) == ["bbb", "cc", "a"]
        assert body["guidance"]["degraded"] == "fewer_safe"


async def test_where_nothing_passes_the_second_check_the_answer_is_the_refusal(tmp_path: Path) -> None:
    fake = scorers(dict.fromkeys(TEXTS, 0.9))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, second_check="dear") as gateway:
        _, _, body = await gateway.chat()
        assert contents(body) == ["No."]
        assert gateway.interactions[0].outcome == "refused_candidates"
        assert [one.propensity for one in gateway.interactions[0].candidates] == [0, 0, 0, 0]


@pytest.mark.parametrize("safety", [None, "safety"])
async def test_a_second_check_that_cannot_answer_follows_the_profile(tmp_path: Path, safety: str | None) -> None:
    fake = scorers(down=frozenset({"dear"}))
    options: dict[str, Any] = {"second_check": "dear", "safety": safety}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, **options) as gateway:
        status, _, body = await gateway.chat()
        assert (status, body["error"]["code"]) == (503, "guard_unavailable")
        assert len(gateway.interactions[0].candidates) == 4
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, **options, unreadable="pass") as gateway:
        status, _, body = await gateway.chat()
        assert (status, contents(body), body["guidance"]["degraded"]) == (200, ["dddd"], "guard_partial")


async def test_the_best_so_far_must_pass_the_second_check_too(tmp_path: Path) -> None:
    fake = scorers({"bbb": 0.9})
    worker = FakeWorker(texts=TEXTS, delays_s=(0.0, 0.0, 30.0, 30.0))
    async with running_gateway(tmp_path, worker, fake, second_check="dear") as gateway:
        _, _, body = await gateway.chat(guidance={"budget": {"ms": 700}})
    assert contents(body) == ["a"]
    assert body["guidance"]["degraded"] == "deadline"


async def test_on_a_live_stream_the_second_check_is_one_of_the_guards(tmp_path: Path) -> None:
    fake = scorers({"one two three": 0.9})
    worker = FakeWorker(texts=["one two three"])
    options: dict[str, Any] = {"second_check": "dear", "stream_mode": "first", "stream_window": 100}
    async with running_gateway(tmp_path, worker, fake, **options) as gateway:
        _, text, last = await streamed(gateway)
    assert text == "No."
    assert (last["guidance"]["safety_model"], last["guidance"]["second_check"]) == ("safety@1+dear@1", None)
    # The prompt is not its business.
    assert ["hi"] not in fake.asked("dear")
