"""Two answers side by side, through the whole gateway: who gets them, what the receipt tells, what a pick becomes."""

import asyncio
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.access.caller import Caller
from gateway.api.chat_stream import ChatWriter
from gateway.api.protocol import parse_chat
from gateway.comparison.pair import Draw
from gateway.control.estimates import voted
from gateway.decoding.best_of_n import best_of_n
from gateway.decoding.strategy import Decision, Judge, Progress, Sampler, Strategy, Task
from gateway.ids import new_completion_id
from gateway.log.records import Feedback, Interaction
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis
from tests.openai_spec.validators import strict_model, validate
from tests.waiting import until

__all__ = ["redis_server", "stopped_redis"]

TEXTS = ["a", "bbb", "cc", "dddd"]
ALWAYS: dict[str, Any] = {"share": 1.0}
SHOWS: dict[str, Any] = {"comparison": True}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def contents(body: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in body["choices"]]


async def compared(gateway: Harness, **fields: Any) -> dict[str, Any]:
    """An answer to a request that can show two."""
    guidance = {**SHOWS, **fields.pop("guidance", {})}
    status, _, body = await gateway.chat(guidance=guidance, **fields)
    assert status == 200, body
    found: dict[str, Any] = body
    return found


async def post(gateway: Harness, **body: Any) -> tuple[int, dict[str, Any]]:
    async with gateway.session.post("/v1/feedback", json=body) as reply:
        return reply.status, await reply.json()


def last(gateway: Harness) -> Interaction:
    return gateway.interactions[-1]


async def test_two_answers_come_as_choices_in_the_drawn_order_and_nothing_tells_which_was_chosen(
    tmp_path: Path,
) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=ALWAYS) as gateway:
        orders = set[tuple[int, ...]]()
        # Both orders are met long before that.
        while len(orders) < 2 and len(gateway.interactions) < 64:
            status, headers, body = await gateway.chat(guidance=SHOWS)
            receipt, record = body["guidance"], last(gateway)
            assert status == 200 and [choice["index"] for choice in body["choices"]] == [0, 1]
            assert sorted(contents(body)) == ["bbb", "dddd"]
            assert [one["index"] for one in receipt["comparison"]["choices"]] == [0, 1]
            shown = [one["candidate"] for one in receipt["comparison"]["choices"]]
            assert contents(body) == [TEXTS[index] for index in shown]
            assert shown == ([3, 1] if Draw.of(body["id"]).order < 0.5 else [1, 3])
            assert [receipt[key] for key in ("chosen", "reward", "calibrated", "propensity")] == [None] * 4
            assert "candidates" not in receipt and "x-bestow-reward" not in headers
            # The rule's own choice is logged as it would have been alone.
            assert (record.chosen, record.delivered) == (3, [3, 1])
            assert [one.propensity for one in record.candidates] == [0, 0, 0, 1]
            assert record.comparison is not None
            assert (record.comparison.shown, record.comparison.against) == (shown, "best")
            assert (record.comparison.share, record.comparison.propensity) == (1.0, 1.0)
            usage = sum(record.candidates[index].completion_tokens for index in shown)
            assert body["usage"]["completion_tokens"] == record.usage.completion_tokens == usage
            orders.add(tuple(shown))
        assert orders == {(3, 1), (1, 3)}
        count = len(gateway.interactions)
        assert gateway.metric("bestow_comparisons_total", model="m", result="shown") == count
        assert gateway.metric("bestow_candidates_total", policy="policy", fate="delivered") == 2 * count


async def test_who_asks_for_all_candidates_sees_what_was_chosen(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=ALWAYS) as gateway:
        _, headers, body = await gateway.chat(guidance={**SHOWS, "return_candidates": True})
    receipt = body["guidance"]
    assert (receipt["chosen"], receipt["reward"], receipt["propensity"]) == (3, 4.0, 1.0)
    assert len(receipt["candidates"]) == 4 and len(body["choices"]) == 2
    assert float(headers["x-bestow-reward"]) == 4


async def test_against_random_each_other_answer_is_as_likely(tmp_path: Path) -> None:
    settings = {**ALWAYS, "against": "random"}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=settings) as gateway:
        for _ in range(8):
            body = await compared(gateway)
            by_reward = [1, 2, 0]
            other = by_reward[int(Draw.of(body["id"]).other * 3)]
            assert sorted(contents(body)) == sorted(["dddd", TEXTS[other]])
            record = last(gateway)
            assert record.delivered == [3, other] and record.comparison is not None
            assert record.comparison.propensity == pytest.approx(1 / 3) and record.comparison.against == "random"


@pytest.mark.parametrize(
    ("profile", "fields"),
    [
        ({}, {}),
        ({}, {"guidance": {"comparison": False}}),
        ({"ask": "all"}, {"guidance": {"comparison": False}}),
        ({"share": 0.0}, {"guidance": SHOWS}),
        ({}, {"guidance": SHOWS, "n": 2}),
        ({}, {"guidance": SHOWS, "temperature": 0}),
        ({}, {"guidance": SHOWS, "tools": [TOOL]}),
        ({}, {"guidance": SHOWS, "tools": [TOOL], "tool_choice": "none"}),
        ({}, {"guidance": SHOWS, "response_format": SCHEMA}),
        ({}, {"guidance": SHOWS, "response_format": {"type": "json_object"}}),
        ({}, {"guidance": SHOWS, "store": False}),
        ({}, {"guidance": {**SHOWS, "n": 1}}),
    ],
)
async def test_where_two_cannot_be_shown_the_answer_is_the_usual_one(
    tmp_path: Path, profile: dict[str, Any], fields: dict[str, Any]
) -> None:
    comparison = {**ALWAYS, **profile}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS, lenient=True), comparison=comparison) as gateway:
        status, _, body = await gateway.chat(**fields)
        assert status == 200, body
        assert "comparison" not in body["guidance"]
        assert len(body["choices"]) == fields.get("n", 1)
        assert body["guidance"]["chosen"] is not None
        assert all(record.comparison is None for record in gateway.interactions)
        assert gateway.metric("bestow_comparisons_total", model="m", result="shown") == 0


async def test_a_profile_may_ask_all_and_text_completions_and_responses_never_get_two(tmp_path: Path) -> None:
    settings = {**ALWAYS, "ask": "all"}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=settings) as gateway:
        _, _, body = await gateway.chat()
        assert len(body["choices"]) == 2
        for path, asked in (("completions", {"prompt": "hi"}), ("responses", {"input": "hi"})):
            async with gateway.session.post(f"/v1/{path}", json={"model": "m", **asked}) as reply:
                found = await reply.json()
            assert reply.status == 200, found
            assert "comparison" not in found["guidance"] and found["guidance"]["chosen"] == 3


@pytest.mark.parametrize("mode", ["first", "hold"])
async def test_a_held_stream_has_both_choices_and_a_live_one_has_one(tmp_path: Path, mode: str) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=ALWAYS) as gateway:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        body |= {"guidance": {**SHOWS, "stream_mode": mode}, "stream_options": {"include_usage": True}}
        async with gateway.session.post("/v1/chat/completions", json=body) as reply:
            lines = (await reply.text()).splitlines()
        chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        record = last(gateway)
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    texts = Counter[int]()
    said: dict[int, str] = {}
    for choice in choices:
        said[choice["index"]] = said.get(choice["index"], "") + (choice["delta"].get("content") or "")
        texts[choice["index"]] += choice["finish_reason"] is not None
    receipts = [chunk for chunk in chunks if "guidance" in chunk]
    assert len(receipts) == 1 and receipts[0]["choices"][0]["finish_reason"]
    if mode == "first":
        assert set(said) == {0} and "comparison" not in receipts[0]["guidance"]
        return
    assert texts == {0: 1, 1: 1}
    assert record.comparison is not None
    assert said == {place: TEXTS[index] for place, index in enumerate(record.comparison.shown)}
    assert receipts[0]["choices"][0]["index"] == 1 and receipts[0]["guidance"]["comparison"]["token"]
    assert chunks[-1]["usage"]["completion_tokens"] == record.usage.completion_tokens


@pytest.mark.parametrize(
    ("texts", "fake"),
    [
        (["same"], FakeScorers(rewards=len)),
        (TEXTS, FakeScorers(rewards=len, unsafe=frozenset({"a", "bbb", "cc"}))),
        (TEXTS, FakeScorers(rewards={"dddd": 4.0})),
        (TEXTS, FakeScorers(rewards={})),
    ],
    ids=["all say the same", "one is safe", "one has a reward", "no reward came"],
)
async def test_without_two_different_ones_that_may_be_shown_there_is_one(
    tmp_path: Path, texts: list[str], fake: FakeScorers
) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=texts), fake, comparison=ALWAYS) as gateway:
        body = await compared(gateway)
        assert len(body["choices"]) == 1 and body["guidance"]["chosen"] is not None
        assert "comparison" not in body["guidance"] and last(gateway).comparison is None
        assert gateway.metric("bestow_comparisons_total", model="m", result="none") == 1


async def test_each_choice_of_a_stream_has_its_own_end(tmp_path: Path) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "guidance": SHOWS}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=ALWAYS) as gateway:
        request = parse_chat(json.dumps(body).encode())
        exchange = gateway.service.begin(request, new_completion_id(), Caller("default", None, frozenset({"chat"})))
        answer = await exchange.run()
    assert answer.comparison is not None
    first, second = answer.comparison.shown
    cut = replace(first, candidate=replace(first.candidate, finish_reason="length"))
    shown = replace(answer, comparison=replace(answer.comparison, shown=(cut, second)))
    lines = ChatWriter(exchange, request).end(shown).decode().splitlines()
    choices = [json.loads(line[6:])["choices"][0] for line in lines if line.startswith("data: {")]
    ends = {choice["index"]: choice["finish_reason"] for choice in choices if choice["finish_reason"]}
    assert ends == {0: "length", 1: "stop"}


async def test_what_its_strategy_would_not_deliver_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def picky(task: Task, sampler: Sampler, judge: Judge, progress: Progress) -> Decision:
        decision = await best_of_n(task, sampler, judge, progress)
        return replace(decision, order=(decision.order[0], decision.order[3]))

    monkeypatch.setattr("gateway.serving.strategy", lambda _: Strategy("picky", "", picky))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=ALWAYS) as gateway:
        assert sorted(contents(await compared(gateway))) == ["a", "dddd"]


async def test_a_refusal_is_no_comparison(tmp_path: Path) -> None:
    fake = FakeScorers(rewards=len, unsafe=frozenset(TEXTS))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, comparison=ALWAYS) as gateway:
        body = await compared(gateway)
    assert contents(body) == ["No."] and "comparison" not in body["guidance"]


async def test_what_no_guard_has_cleared_is_not_compared(tmp_path: Path) -> None:
    fake = FakeScorers(rewards=len, broken_for=frozenset({"safety:bbb"}))
    settings: dict[str, Any] = {"comparison": ALWAYS, "unreadable": "pass"}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, **settings) as gateway:
        assert sorted(contents(await compared(gateway))) == ["cc", "dddd"]
        fake.broken_for = frozenset({"safety:dddd"})
        assert contents(await compared(gateway)) == ["dddd"]


async def test_the_second_check_reads_all_that_may_be_shown_and_changes_nothing_else(tmp_path: Path) -> None:
    fake = FakeScorers(rewards=len, guards={"dear": {"bbb": 0.9}})
    settings: dict[str, Any] = {"second_check": "dear", "comparison": ALWAYS}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), fake, **settings) as gateway:
        body = await compared(gateway)
        record = last(gateway)
        assert sorted(contents(body)) == ["cc", "dddd"]
        assert sorted(text for [text] in fake.asked("dear")) == TEXTS
        assert (record.chosen, record.delivered, record.degraded) == (3, [3, 2], None)
        assert [one.propensity for one in record.candidates] == [0, 0, 0, 1]
        fake.requests.clear()
        await gateway.chat()
        assert fake.asked("dear") == [["dddd"]]
        fake.guards = {"dear": dict.fromkeys(("a", "bbb", "cc"), 0.9)}
        alone = await compared(gateway)
    assert contents(alone) == ["dddd"] and alone["guidance"]["degraded"] is None


async def test_asking_changes_nothing_in_what_is_chosen(tmp_path: Path) -> None:
    soft = {"rule": "soft", "temperature": 0.5}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), selection=soft, comparison=ALWAYS) as gateway:
        for seed in range(8):
            await gateway.chat(guidance={"seed": seed})
            await compared(gateway, guidance={"seed": seed})
        pairs = list(zip(gateway.interactions[::2], gateway.interactions[1::2], strict=True))
    for alone, both in pairs:
        assert both.chosen == alone.chosen == both.delivered[0]
        assert [one.propensity for one in both.candidates] == [one.propensity for one in alone.candidates]
        assert both.selection == alone.selection
        assert both.comparison is not None
        chances = [one.propensity for one in both.candidates]
        other = both.delivered[1]
        # The best beside another one is 3; beside 3 it is 1.
        expected = chances[3] + chances[1] if {both.chosen, other} == {1, 3} else chances[both.chosen or 0]
        assert both.comparison.propensity == pytest.approx(expected)


async def test_the_share_is_kept_and_drawn_from_the_id(tmp_path: Path) -> None:
    count, share = 200, 0.3
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison={"share": share}) as gateway:
        for _ in range(10):
            await asyncio.gather(*(compared(gateway, guidance={"seed": 7}) for _ in range(count // 10)))
        records = gateway.interactions
        asked = sum(record.comparison is not None for record in records)
        assert gateway.metric("bestow_comparisons_total", model="m", result="shown") == asked
        assert gateway.metric("bestow_comparisons_total", model="m", result="not_asked") == count - asked
    assert len(records) == count
    for record in records:
        assert (record.comparison is not None) == (Draw.of(record.id).asked < share)
    # The ids are new in each run: beyond six deviations is once in 5e8 runs.
    assert abs(asked - share * count) < 6 * math.sqrt(count * share * (1 - share))


async def test_a_pick_by_its_place_becomes_a_preference_between_candidates(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=ALWAYS) as gateway:
        body = await compared(gateway, user="ann")
        comparison = body["guidance"]["comparison"]
        shown = [one["candidate"] for one in comparison["choices"]]
        said = {"id": body["id"], "kind": "preference", "token": comparison["token"]}
        status, vote = await post(gateway, **said, choice=1)
        assert status == 202, vote
        assert (vote["candidate"], vote["over"], vote["value"], vote["shown"]) == (shown[1], shown[0], 1, shown)
        assert vote["user"] == gateway.service.signer.hash_user("ann")
        await post(gateway, **said, choice=0, value=4)
        async with gateway.session.get(f"/v1/feedback/{body['id']}", params={"token": comparison["token"]}) as reply:
            [held] = (await reply.json())["data"]
        assert (held["candidate"], held["over"], held["value"], held["shown"]) == (*shown, 4, shown)
        await post(gateway, **said, value="tie")
        record = gateway.accepted[-1]
        assert isinstance(record, Feedback)
        assert (record.value, record.candidate, record.over, record.shown) == ("tie", *shown, shown)
        for picked, count in (("first", 1), ("second", 1), ("tie", 1), ("both_bad", 0)):
            assert gateway.metric("bestow_comparison_picks_total", picked=picked) == count
        params = {"kind": "preference", "token": comparison["token"]}
        async with gateway.session.delete(f"/v1/feedback/{body['id']}", params=params) as reply:
            assert reply.status == 202
        async with gateway.session.get(f"/v1/feedback/{body['id']}") as reply:
            assert (await reply.json())["data"] == []


async def test_a_pick_of_another_candidate_or_without_the_comparisons_token_is_refused(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=ALWAYS) as gateway:
        body, another = await compared(gateway), await compared(gateway)
        token = body["guidance"]["comparison"]["token"]
        said = {"id": body["id"], "kind": "preference"}
        for wrong, status, param in (
            ({"choice": 0}, 400, "choice"),
            ({"choice": 0, "token": body["guidance"]["feedback_token"]}, 400, "choice"),
            ({"choice": 0, "token": another["guidance"]["comparison"]["token"]}, 401, "token"),
            ({"choice": 0, "token": token[:-2] + "xx"}, 401, "token"),
            ({"choice": 2, "token": token}, 400, "choice"),
            ({"candidate": 0, "over": 3, "value": 1, "token": token}, 400, "candidate"),
            ({"choice": 0, "value": 5, "token": token}, 400, "value"),
            ({"value": "draw", "candidate": 3, "over": 1, "token": token}, 400, "value"),
            ({"kind": "thumbs", "value": True, "choice": 0, "token": token}, 400, "choice"),
        ):
            found, reply = await post(gateway, **{**said, **wrong})
            assert (found, reply["error"]["param"]) == (status, param), wrong
        assert not any(isinstance(record, Feedback) for record in gateway.accepted)
        # It is a feedback token too.
        assert (await post(gateway, id=body["id"], kind="thumbs", value=True, candidate=3, token=token))[0] == 202


async def test_a_comparison_is_replayed_with_its_token(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=ALWAYS) as gateway:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "guidance": SHOWS}
        replies = []
        for _ in range(2):
            headers = {"idempotency-key": "one"}
            async with gateway.session.post("/v1/chat/completions", json=body, headers=headers) as reply:
                replies.append(await reply.json())
        assert replies[0] == replies[1] and len(replies[0]["choices"]) == 2
        assert len(gateway.interactions) == 1


async def test_a_thumb_that_names_neither_of_two_is_not_on_the_chosen_one(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=ALWAYS) as gateway:
        body = await compared(gateway)
        await post(gateway, id=body["id"], kind="thumbs", value=True)
        await post(gateway, id=body["id"], kind="thumbs", value=False, candidate=3)
        record = last(gateway)
        votes = [one for one in gateway.accepted if isinstance(one, Feedback)]
    assert voted(record, votes[:1]) is None
    found = voted(record, votes)
    assert found is not None and (found.chosen, found.up) == (3, 0.0)


async def test_a_share_is_tuned_while_everything_runs(tmp_path: Path, redis_server: RedisServer) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), redis_url=redis_server.url) as gateway:
        assert len((await compared(gateway))["choices"]) == 1
        change = {"version": 1, "settings": {"n": 4, "min_n": 4, "refusal": "No.", "comparison": {"share": 1}}}
        async with gateway.session.put("/admin/v1/profiles/default", json=change) as reply:
            assert reply.status == 200, await reply.text()
        await until(lambda: gateway.service.profiles.get("default").version == "default@2")
        assert len((await compared(gateway))["choices"]) == 2
        for wrong, said in (
            ({"share": 2}, "settings.comparison.share"),
            ({"pairs": 1}, "settings.comparison.pairs"),
        ):
            change = {"version": 2, "settings": {"comparison": wrong}}
            async with gateway.session.put("/admin/v1/profiles/default", json=change) as reply:
                assert (reply.status, (await reply.json())["error"]["param"]) == (400, said)
        change = {"version": 2, "settings": {"n": 1, "max_n": 1, "comparison": {"share": 0.1}}}
        async with gateway.session.put("/admin/v1/profiles/default", json=change) as reply:
            assert "comparison.share needs max_n of 2 or more" in (await reply.json())["error"]["message"]


async def test_openais_own_client_reads_both_and_sends_the_pick(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), comparison=ALWAYS) as gateway:
        asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        asked["extra_body"] = {"guidance": SHOWS}
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none needed", max_retries=0) as client:
            answer = await client.chat.completions.create(**asked)
            sent = answer.to_dict()
            validate("CreateChatCompletionResponse", sent)
            strict_model(ChatCompletion, sent)
            comparison = sent["guidance"]["comparison"]
            pick = {"id": answer.id, "kind": "preference", "choice": 1, "token": comparison["token"]}
            vote = await client.post("/feedback", body=pick, cast_to=dict[str, Any])
            assert (vote["status"], vote["value"]) == ("accepted", 1)
            chunks = [chunk async for chunk in await client.chat.completions.create(**asked, stream=True)]
            for chunk in chunks:
                validate("CreateChatCompletionStreamResponse", chunk.to_dict())
                strict_model(ChatCompletionChunk, chunk.to_dict())
            async with client.chat.completions.stream(**asked) as stream:
                whole = await stream.get_final_completion()
    assert sorted(choice.message.content or "" for choice in whole.choices) == ["bbb", "dddd"]
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
    assert sorted(choice.message.content or "" for choice in answer.choices) == ["bbb", "dddd"]
