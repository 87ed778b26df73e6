"""The vLLM backend against a fake server on a real socket: what is sent, what comes back, what goes wrong."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scorers.backends.vllm import Limits, VllmBackend, plan_requests
from scorers.backends.vllm_client import VllmClient
from scorers.backends.vllm_wire import Classify, NextTokenOf, Wire
from scorers.credentials import Secret
from scorers.endpoint import Endpoint
from scorers.errors import BadScoreRequest, Overloaded, ScorerError, ScorerFailed, ScorerUnavailable
from scorers.tls import trusting
from tests.certificates import Authority
from tests.scorers.vllm_fake import FakeVllm, serving, total
from tests.waiting import until

WIRE = Classify("scorer", labels=1)
LIMITS = Limits(batch_tokens=16, waiting=1000, context=64)


def backend_at(
    fake: FakeVllm, *, wire: Wire = WIRE, limits: Limits = LIMITS, timeout_s: float = 10.0, at: Endpoint | None = None
) -> VllmBackend:
    return VllmBackend("quality", VllmClient("quality", at or Endpoint(fake.url), timeout_s), wire, limits)


@asynccontextmanager
async def opened(fake: FakeVllm, **kwargs: object) -> AsyncIterator[VllmBackend]:
    async with serving(fake):
        backend = backend_at(fake, **kwargs)  # type: ignore[arg-type]
        try:
            yield backend
        finally:
            await backend.close()


def assert_tells_no_address(error: object, fake: FakeVllm) -> None:
    assert isinstance(error, ScorerError)
    assert not isinstance(error, BadScoreRequest)
    assert "quality" in str(error)
    for secret in (fake.url, "127.0.0.1", "10.0.0.7", "/models/secret"):
        assert secret not in str(error)


async def test_rows_come_in_order_whatever_requests_they_went_in() -> None:
    fake = FakeVllm()
    inputs = [[index + 1] * (index % 7 + 1) for index in range(40)]
    async with opened(fake) as backend:
        assert await backend.run(inputs) == [total(ids) for ids in inputs]
    assert len(fake.requests) > 5
    assert sorted(ids for batch in fake.asked for ids in batch) == sorted(inputs)
    assert all(sum(map(len, batch)) <= 16 for batch in fake.asked)


async def test_no_more_than_sixteen_requests_are_open_at_once() -> None:
    fake = FakeVllm()
    async with opened(fake) as backend:
        await asyncio.gather(*(backend.run([[index + 1] * 16]) for index in range(60)))
    assert fake.most == 16


async def test_nothing_is_asked_for_nothing() -> None:
    fake = FakeVllm()
    async with opened(fake) as backend:
        assert await backend.run([]) == []
    assert fake.requests == []


async def test_inputs_that_cannot_be_read_fail_alone_and_are_not_sent() -> None:
    fake = FakeVllm()
    async with opened(fake) as backend:
        long, good, empty = await backend.run([[1] * 65, [2] * 64, []])
    assert good == total([2] * 64)
    assert isinstance(long, ScorerFailed) and isinstance(empty, ScorerFailed)
    assert str(long) == "The input has 65 tokens, the vLLM server reads at most 64."
    assert fake.asked == [[[2] * 64]]


async def test_a_language_model_keeps_room_for_the_token_it_is_asked_for() -> None:
    fake = FakeVllm("generate", context=64, logits=lambda ids: [-1.0, -2.0, -3.0])
    async with opened(fake, wire=NextTokenOf("scorer", (2, 0))) as backend:
        long, good = await backend.run([[1] * 64, [2] * 63])
    assert good == [-3.0, -1.0]
    assert str(long) == "The input has 64 tokens, the vLLM server reads at most 63."
    assert fake.asked == [[[2] * 63]]


async def test_one_input_that_the_server_refuses_does_not_fail_those_beside_it() -> None:
    fake = FakeVllm(context=4)  # it reads less than it said
    async with opened(fake, limits=Limits(batch_tokens=100, waiting=10, context=None)) as backend:
        inputs = [[1], [2], [1] * 5, [3], [4], [5]]
        rows = await backend.run(inputs)
    assert [row for row in rows if not isinstance(row, ScorerError)] == [total(ids) for ids in inputs if len(ids) < 5]
    assert_tells_no_address(rows[2], fake)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
async def test_a_number_that_is_not_finite_fails_its_input_alone(bad: float) -> None:
    fake = FakeVllm(logits=lambda ids: [bad] if ids == [13] else total(ids))
    async with opened(fake) as backend:
        rows = await backend.run([[1], [13], [2]])
    assert [rows[0], rows[2]] == [total([1]), total([2])]
    assert_tells_no_address(rows[1], fake)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "null"])
async def test_what_a_python_server_writes_for_such_a_number_fails_its_input_alone(number: str) -> None:
    answer = f'{{"data": [{{"index": 0, "probs": [{number}]}}, {{"index": 1, "probs": [2.5]}}]}}'
    fake = FakeVllm(answer=answer.encode())
    async with opened(fake) as backend:
        bad, good = await backend.run([[1], [2]])
    assert good == [2.5]
    assert isinstance(bad, ScorerFailed) and "not finite" in str(bad)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"data": []}',
        b'{"data": [{"index": 0, "probs": ["high"]}]}',
        b'{"data": [{"index": 1, "probs": [1.0]}]}',
        b'{"data": [{"index": 0, "probs": [1.0]}, {"index": 0, "probs": [1.0]}]}',
        b'{"data": [{"index": 0, "probs": [1.0, 2.0]}]}',
        b"[" * 100_000,
        b"\xff",
    ],
)
async def test_an_answer_that_is_none_is_a_failure_and_never_a_number(answer: bytes) -> None:
    fake = FakeVllm(answer=answer)
    async with opened(fake) as backend:
        [row] = await backend.run([[1]])
    assert isinstance(row, ScorerFailed)
    assert_tells_no_address(row, fake)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, Overloaded),
        (503, ScorerUnavailable),
        (502, ScorerUnavailable),
        (401, ScorerUnavailable),
        (404, ScorerUnavailable),
        (400, ScorerFailed),
        (500, ScorerFailed),
        (302, ScorerFailed),
    ],
)
async def test_what_the_server_says_is_told_in_our_words(status: int, kind: type[ScorerError]) -> None:
    fake = FakeVllm(failures=[status])
    async with opened(fake) as backend:
        [row] = await backend.run([[1]])
        assert type(row) is kind or isinstance(row, kind)
        assert_tells_no_address(row, fake)
        assert await backend.run([[1]]) == [total([1])]
    assert len(fake.requests) == 2


async def test_a_server_that_is_away_is_told_once_in_the_log_and_found_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    fake = FakeVllm()
    async with serving(fake):
        backend = backend_at(fake)
        assert await backend.run([[1]]) == [total([1])]
    port = int(fake.url.rpartition(":")[2])
    for _ in range(3):
        [row] = await backend.run([[1]])
        assert isinstance(row, ScorerUnavailable)
        assert_tells_no_address(row, fake)
    async with serving(fake, port=port):
        assert await backend.run([[1]]) == [total([1])]
        await backend.close()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("scorers")]
    assert len(lines) == 2
    assert fake.url in lines[0] and "cannot be reached" in lines[0]
    assert "answers again" in lines[1]


async def test_a_server_that_does_not_answer_in_time_is_unavailable() -> None:
    fake = FakeVllm(stalls=True)
    async with opened(fake, timeout_s=0.1) as backend:
        [row] = await backend.run([[1]])
        assert isinstance(row, ScorerUnavailable)
        assert str(row) == "The vLLM server of the scorer quality did not answer within 0.1 s."
        await until(lambda: fake.running == 0)


async def test_waiting_here_does_not_count_as_the_servers_time() -> None:
    fake = FakeVllm()
    async with opened(fake, timeout_s=0.5) as backend:
        rows = await asyncio.gather(*(backend.run([[index + 1] * 16]) for index in range(300)))
    assert not [row for [row] in rows if isinstance(row, ScorerError)]


async def test_a_connection_that_died_between_requests_is_opened_again() -> None:
    fake = FakeVllm()
    async with opened(fake) as backend:
        assert await backend.run([[1]]) == [total([1])]
        fake.cut_next = 1
        assert await backend.run([[2]]) == [total([2])]
        fake.cut_next = 2
        [row] = await backend.run([[3]])
        assert isinstance(row, ScorerUnavailable)


async def test_cancelling_closes_the_requests_and_drops_what_waits() -> None:
    fake = FakeVllm(stalls=True)
    async with opened(fake) as backend:
        waiting = asyncio.ensure_future(backend.run([[1] * 16] * 40))
        await until(lambda: fake.running == 16)
        assert backend.depth == 24
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert backend.depth == 0
        await until(lambda: fake.running == 0)
    assert len(fake.requests) == 16


async def test_one_who_gives_up_leaves_the_others_alone() -> None:
    fake = FakeVllm(stalls=True)
    async with opened(fake) as backend:
        first, second = (asyncio.ensure_future(backend.run([[index]])) for index in (1, 2))
        await until(lambda: fake.running == 2)
        first.cancel()
        await until(lambda: fake.running == 1)
        assert not second.done()
        second.cancel()


async def test_a_full_queue_refuses_and_an_empty_one_takes_any_number() -> None:
    fake = FakeVllm(stalls=True)
    async with opened(fake, limits=Limits(batch_tokens=1, waiting=10, context=None)) as backend:
        first = asyncio.ensure_future(backend.run([[1]] * 40))
        await until(lambda: fake.running == 16)
        with pytest.raises(Overloaded, match="24 inputs wait for this scorer, and 10 are the most"):
            await backend.run([[1]])
        first.cancel()


async def test_closing_finishes_what_runs_and_takes_no_more() -> None:
    fake = FakeVllm(takes_s=0.2)
    async with serving(fake):
        backend = backend_at(fake)
        running = asyncio.ensure_future(backend.run([[1] * 16] * 30))
        await until(lambda: fake.running > 0)
        await backend.close()
        assert await running == [total([1] * 16)] * 30
        with pytest.raises(ScorerUnavailable):
            await backend.run([[1]])


async def test_each_event_loop_has_connections_of_its_own_and_leaves_none_open() -> None:
    fake = FakeVllm()
    async with serving(fake):
        backend = backend_at(fake)
        for _ in range(2):
            assert await asyncio.to_thread(asyncio.run, backend.run([[1] * 16] * 40)) == [total([1] * 16)] * 40
            await until(lambda: fake.connections == 0)
        assert await backend.run([[1]]) == [total([1])]
        assert fake.connections == 1
        await backend.close()
        await until(lambda: fake.connections == 0)


async def test_the_key_is_sent_and_read_again_when_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    fake = FakeVllm(key="new")
    async with serving(fake):
        backend = backend_at(fake, at=Endpoint(fake.url, Secret(file.read_text)))
        [refused] = await backend.run([[1]])
        assert isinstance(refused, ScorerUnavailable)
        assert "refuses the key it was sent" in str(refused)
        assert "old" not in str(refused)
        file.write_text("new")
        assert await backend.run([[1]]) == [total([1])]
        await backend.close()


async def test_a_server_is_known_by_its_certificate(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    fake = FakeVllm()
    async with serving(fake, tls=ours.server()):
        known = backend_at(fake, at=Endpoint(fake.url, tls=trusting("ca_file", ours.ca_file)))
        stranger = backend_at(fake, at=Endpoint(fake.url, tls=trusting("ca_file", other.ca_file)))
        assert await known.run([[1]]) == [total([1])]
        [row] = await stranger.run([[1]])
        assert isinstance(row, ScorerUnavailable)
        assert "TLS fails" in str(row)
        await known.close()
        await stranger.close()


async def test_batches_are_observed() -> None:
    seen: list[tuple[int, int]] = []

    def observe(inputs: int, tokens: int, seconds: float, *, given: int | None = None) -> None:
        assert seconds > 0
        seen.append((inputs, tokens))

    fake = FakeVllm()
    async with serving(fake):
        backend = VllmBackend("quality", VllmClient("quality", Endpoint(fake.url), 5.0), WIRE, LIMITS, observe)
        await backend.run([[1, 2], [3], [4] * 15])
        await backend.close()
    assert sorted(seen) == [(1, 15), (2, 3)]


def test_requests_hold_so_many_tokens_or_one_input() -> None:
    assert plan_requests([], 8) == []
    assert plan_requests([3, 3, 3, 20, 1, 7, 1], 8) == [[0, 1], [2], [3], [4, 5], [6]]
