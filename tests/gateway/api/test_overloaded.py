"""What clients see of a gateway whose workers are full."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.admission.capacity import Capacity
from gateway.tasks import end
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, running_gateway
from tests.waiting import until

TEXTS = ["a", "bbb", "cc", "dddd"]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Harness]:
    worker = FakeWorker(texts=TEXTS)
    async with running_gateway(
        tmp_path, worker, FakeScorers(rewards=len), gateway={"max_waiting": 1}, min_n=2
    ) as running:
        yield running


def has(gateway: Harness, **capacity: Any) -> None:
    """The pool's capacity from here on."""
    fixed = Capacity(**{"places": 8, "running": 0, "others": 0.0, "waiting": 0.0, "kv_usage": None, **capacity})
    gateway.service.admissions["policy"]._capacity = lambda: fixed


def admission(gateway: Harness, name: str, **labels: str) -> float:
    return gateway.metric(f"bestow_admission_{name}", policy="policy", **labels)


async def running(gateway: Harness) -> "asyncio.Task[Any]":
    """A request that is being sampled, and will be."""
    gateway.worker.delays_s = (60.0,)
    task = asyncio.create_task(gateway.chat())
    await until(lambda: gateway.worker.requests)
    return task


async def waiting(gateway: Harness) -> "asyncio.Task[Any]":
    """A request that waits for a place."""
    task = asyncio.create_task(gateway.chat())
    await until(lambda: admission(gateway, "waiting", tier="default"))
    return task


async def test_with_room_a_request_gets_all_its_candidates(gateway: Harness) -> None:
    has(gateway)
    _, headers, body = await gateway.chat()
    assert (body["guidance"]["sampled"], body["guidance"]["degraded"]) == (4, None)
    assert "x-bestow-degraded" not in headers
    [record] = gateway.interactions
    assert (record.n, record.asked, record.tier) == (4, None, "default")
    assert admission(gateway, "saturation") == 0.0


async def test_as_it_fills_a_request_gets_fewer_and_the_answer_says_why(gateway: Harness) -> None:
    has(gateway, others=6.0)
    status, headers, body = await gateway.chat()
    assert (status, body["choices"][0]["message"]["content"]) == (200, "bbb")
    assert (body["guidance"]["sampled"], body["guidance"]["degraded"]) == (2, "load")
    assert headers["x-bestow-degraded"] == "load"
    [record] = gateway.interactions
    assert (record.n, record.asked, record.degraded) == (2, 4, "load")
    assert admission(gateway, "shrunk_total") == 1


async def test_the_choices_that_a_client_wants_are_not_shrunk_away(gateway: Harness) -> None:
    has(gateway, others=5.0)
    _, _, body = await gateway.chat(n=3)
    assert (len(body["choices"]), body["guidance"]["sampled"], body["guidance"]["degraded"]) == (3, 3, "load")


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"stream": True, "guidance": {"stream_mode": "first"}}])
async def test_where_one_sample_is_all_nothing_is_lost(gateway: Harness, fields: dict[str, Any]) -> None:
    has(gateway, others=7.0)
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    async with gateway.session.post("/v1/chat/completions", json=body) as reply:
        assert reply.status == 200 and await reply.read()
    [record] = gateway.interactions
    assert (record.n, record.asked, record.degraded) == (1, None, None)


async def test_no_second_wave_is_sampled_while_it_fills(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, unsafe=frozenset(TEXTS))
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers, resample=1, min_n=1) as gateway:
        has(gateway)
        await gateway.chat()
        has(gateway, others=4.5)
        await gateway.chat()
        assert [request["n"] for request in gateway.worker.requests] == [4, 4, 3]


async def test_where_too_many_wait_the_lowest_class_gets_a_429_that_says_when_to_come_back(gateway: Harness) -> None:
    first = await running(gateway)
    has(gateway, places=5)
    second = await waiting(gateway)
    status, headers, body = await gateway.chat(service_tier="flex")
    assert (status, body["error"]["type"], body["error"]["code"]) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert int(headers["retry-after"]) >= 1 and headers["x-should-retry"] == "true"
    assert admission(gateway, "rejected_total", tier="flex", reason="queue_full") == 1
    [record] = gateway.interactions
    assert (record.outcome, record.status, record.n, record.candidates) == ("failed", 429, 4, [])
    await end(first, second)


async def test_who_leaves_the_queue_leaves_no_trace(gateway: Harness) -> None:
    first = await running(gateway)
    has(gateway, places=4)
    second = await waiting(gateway)
    await end(second)
    await until(lambda: not admission(gateway, "waiting", tier="default"))
    await end(first)
    await until(lambda: len(gateway.interactions) == 2)
    assert [record.outcome for record in gateway.interactions] == ["cancelled", "cancelled"]
    assert gateway.service.admissions["policy"]._held == 0
    assert len(gateway.worker.requests) == 1


async def test_an_embedding_needs_no_place(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(embeds=True), gateway={"max_wait_s": 0.1}) as gateway:
        has(gateway, others=8.0)
        async with gateway.session.post("/v1/embeddings", json={"model": "m", "input": "hi"}) as reply:
            assert reply.status == 200
