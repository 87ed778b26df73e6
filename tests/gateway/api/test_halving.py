"""Halving through a whole gateway: streams are aborted one by one, and receipt and log say what became of each."""

import asyncio
from pathlib import Path
from typing import Any

from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import running_gateway
from tests.waiting import until

WORDS = 60
POINT = 17
PROFILE: dict[str, Any] = {
    "n": 4,
    "strategy": "halving",
    "options": {"checkpoints": [POINT], "keep": 0.25, "unmeasured": True},
    "safety": "safety",
}
# Candidate i says its number over and over, and no other is as good as a higher one.
TEXTS = [" ".join([str(number)] * WORDS) for number in range(4)]


def rewards(text: str) -> float:
    return float(text.split()[0]) + len(text) / 1000


def slow_worker(**more: Any) -> FakeWorker:
    return FakeWorker(texts=TEXTS, word_s=0.01, **more)


async def test_losers_are_aborted_and_the_best_of_the_rest_is_the_answer(tmp_path: Path) -> None:
    worker = slow_worker()
    async with running_gateway(tmp_path, worker, FakeScorers(rewards=rewards), **PROFILE) as gateway:
        asking = asyncio.create_task(gateway.chat(seed=0, guidance={"return_candidates": True}))
        running = []
        while not asking.done():
            running.append(worker.running)
            await asyncio.sleep(0.01)
        status, _, body = await asking
        assert status == 200
        # All at once, and then one to its end.
        assert max(running) == 4 and running.count(1) > 10
        assert body["choices"][0]["message"]["content"] == TEXTS[3]
        receipt = body["guidance"]
        assert (receipt["strategy"], receipt["sampled"], receipt["pruned"], receipt["safe"]) == ("halving", 4, 3, 1)
        assert receipt["degraded"] is None
        [record] = gateway.interactions
        assert gateway.metric("bestow_candidates_total", policy="policy", fate="pruned") == 3.0
        assert gateway.service.admissions["policy"]._held == 0
    # A request for each, with the seeds that one for all would have given them.
    assert [(one["n"], one["stream_interval"]) for one in worker.requests] == [(1, 16)] * 4
    assert sorted(one["seed"] for one in worker.requests) == [0, 1, 2, 3]
    given_up = [one for one in record.candidates if one.pruned_by]
    assert [one.index for one in given_up] == [0, 1, 2]
    for one in given_up:
        assert one.finish_reason is None and one.reward is None and one.propensity == 0.0
        assert POINT <= one.completion_tokens < WORDS
        assert len(str(one.message["content"]).split()) == one.completion_tokens
        assert one.scores["reward@1"].value == one.index + (2 * POINT) / 1000
    # What no guard has read is not shown.
    assert [one["message"] is None for one in receipt["candidates"]] == [True, True, True, False]
    spent = sum(one.completion_tokens for one in record.candidates)
    assert record.usage.sampled_tokens == receipt["usage"]["completion_tokens"] == spent < 3 * WORDS
    assert body["usage"]["completion_tokens"] == WORDS


async def test_places_of_aborted_candidates_are_free_while_the_rest_goes_on(tmp_path: Path) -> None:
    worker = slow_worker()
    async with running_gateway(tmp_path, worker, FakeScorers(rewards=rewards), **PROFILE) as gateway:
        asking = asyncio.create_task(gateway.chat(seed=0))
        held = []
        while not asking.done():
            held.append(gateway.service.admissions["policy"]._held)
            await asyncio.sleep(0.01)
    assert max(held) == 4
    assert held.count(1) > 10


async def test_where_the_survivors_are_unsafe_a_plain_wave_follows(tmp_path: Path) -> None:
    worker = slow_worker()
    scorers = FakeScorers(rewards=rewards, unsafe=frozenset({TEXTS[3]}))
    async with running_gateway(tmp_path, worker, scorers, **PROFILE) as gateway:
        # A busy machine's late event loop would have the second wave given up.
        gateway.service.admissions["policy"]._lag_s = lambda: 0.0
        _, _, body = await gateway.chat(seed=0)
        assert body["choices"][0]["message"]["content"] == TEXTS[2]
        assert body["guidance"]["sampled"] == 8
    assert [one["n"] for one in worker.requests] == [1, 1, 1, 1, 4]
    assert worker.requests[-1]["seed"] == 4


async def test_where_all_are_unsafe_it_is_a_refusal_and_nothing_that_was_cut_off(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=rewards, unsafe=frozenset(TEXTS))
    async with running_gateway(tmp_path, slow_worker(), scorers, **PROFILE) as gateway:
        _, _, body = await gateway.chat(seed=0)
        assert body["choices"][0]["message"]["content"] == "No."
        assert body["guidance"]["refused"] == "candidates"
        assert body["guidance"]["pruned"] == 3


async def test_a_client_that_wants_two_answers_gets_two(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, slow_worker(), FakeScorers(rewards=rewards), **PROFILE) as gateway:
        _, _, body = await gateway.chat(seed=0, n=2)
        assert [one["message"]["content"] for one in body["choices"]] == [TEXTS[3], TEXTS[2]]
        assert body["guidance"]["pruned"] == 2


async def test_a_client_that_leaves_closes_all_streams(tmp_path: Path) -> None:
    worker = slow_worker()
    async with running_gateway(tmp_path, worker, FakeScorers(rewards=rewards), **PROFILE) as gateway:
        asking = asyncio.create_task(gateway.chat(seed=0))
        await until(lambda: worker.running == 4)
        asking.cancel()
        await until(lambda: not worker.running and not gateway.service.admissions["policy"]._held)


async def test_streams_that_break_are_sampled_again_with_their_seeds(tmp_path: Path) -> None:
    # Slow enough that none of those that are sampled again breaks before the last of the first ones has.
    worker = FakeWorker(texts=TEXTS, word_s=0.03, break_after=10)
    async with running_gateway(tmp_path, worker, FakeScorers(rewards=rewards), **PROFILE) as gateway:
        asking = asyncio.create_task(gateway.chat(seed=0))
        await until(lambda: len(worker.requests) == 8)
        worker.break_after = None
        _, _, body = await asking
        assert body["choices"][0]["message"]["content"] == TEXTS[3]
        assert body["guidance"]["pruned"] == 3
        [record] = gateway.interactions
    assert sorted(one["seed"] for one in worker.requests) == [0, 0, 1, 1, 2, 2, 3, 3]
    # What the lost streams had sent was spent as well: a part of one token each.
    assert record.usage.sampled_tokens == 4 + sum(one.completion_tokens for one in record.candidates)


async def test_without_a_card_it_is_best_of_n_and_counted(tmp_path: Path) -> None:
    profile = {**PROFILE, "options": {"checkpoints": [POINT]}}
    worker = FakeWorker(texts=TEXTS)
    async with running_gateway(tmp_path, worker, FakeScorers(rewards=rewards), **profile) as gateway:
        _, _, body = await gateway.chat(seed=0)
        assert body["choices"][0]["message"]["content"] == TEXTS[3]
        [record] = gateway.interactions
        assert record.strategy == body["guidance"]["strategy"] == "best_of_n"
        why = {"model": "m", "strategy": "halving", "reason": "unmeasured"}
        assert gateway.metric("bestow_strategy_replaced_total", **why) == 1.0
    assert [one["n"] for one in worker.requests] == [4]
