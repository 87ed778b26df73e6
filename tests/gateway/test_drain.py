"""How a gateway process stops: /readyz first, then the port, then what runs, and nothing is lost."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes import FakeScorers, FakeWorker, serve
from tests.gateway.gateway_process import MESSAGES, GatewayProcess, chat, chat_events, running_process
from tests.waiting import until

# Long enough that a test would fail if it were waited for.
NEVER_S = 600.0
LIVE: dict[str, Any] = {"stream_mode": "first", "reward": None, "safety": None}


@asynccontextmanager
async def gateway(
    folder: Path, worker: FakeWorker | None = None, *, delay_s: float = 0.0, timeout_s: float = NEVER_S, **profile: Any
) -> AsyncIterator[tuple[GatewayProcess, FakeWorker, aiohttp.ClientSession]]:
    worker, scorers = worker or FakeWorker(), FakeScorers(rewards=len)
    limits = {"drain_delay_s": delay_s, "drain_timeout_s": timeout_s}
    async with (
        serve(worker),
        serve(scorers),
        running_process(folder / "data", worker, scorers, gateway=limits, **profile) as process,
        aiohttp.ClientSession() as session,
    ):
        yield process, worker, session


@asynccontextmanager
async def streaming(process: GatewayProcess, session: aiohttp.ClientSession) -> AsyncIterator[aiohttp.ClientResponse]:
    """A stream whose first event has come."""
    body = {"model": "m", "messages": MESSAGES, "stream": True}
    async with session.post(f"{process.url}/v1/chat/completions", json=body) as reply:
        assert reply.status == 200
        assert b"data: " in await reply.content.readline()
        yield reply


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_readyz_turns_at_once_and_requests_are_answered_until_the_delay_is_over(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with gateway(tmp_path, delay_s=NEVER_S) as (process, _, session):
        status, headers, _ = await chat(session, process.url)
        assert status == 200 and "connection" not in headers
        process.send(number)
        await process.until_status("stopping")
        for _ in range(2):
            # The first on the connection kept from before, the second on a new one.
            status, headers, _ = await chat(session, process.url)
            assert status == 200 and headers["connection"] == "close"
        process.send(number)
        assert await process.ended() == 0
    assert [one.outcome for one in process.interactions] == ["delivered"] * 3


async def test_the_delay_ends_by_itself(tmp_path: Path) -> None:
    async with gateway(tmp_path, delay_s=0.2) as (process, _, _):
        process.send(signal.SIGTERM)
        assert await process.ended() == 0


async def test_an_answer_that_was_asked_for_before_the_signal_closes_its_connection_too(tmp_path: Path) -> None:
    async with gateway(tmp_path, FakeWorker(silent_after=0), delay_s=NEVER_S) as (process, worker, session):
        answer = asyncio.create_task(chat(session, process.url))
        await until(lambda: len(worker.requests) == 1)
        process.send(signal.SIGTERM)
        await process.until_status("stopping")
        worker.silent_after = None
        status, headers, _ = await answer
        assert status == 200 and headers["connection"] == "close"


async def test_what_runs_when_the_port_closes_is_answered_to_its_end_and_logged(tmp_path: Path) -> None:
    worker = FakeWorker(texts=["one two three four"], silent_after=2)
    async with gateway(tmp_path, worker, **LIVE) as (process, _, session):
        whole = asyncio.create_task(chat(session, process.url))
        async with streaming(process, session) as stream:
            await until(lambda: len(worker.requests) == 2)
            process.send(signal.SIGTERM)
            await process.until_it_does_not_listen()
            worker.silent_after = None
            events = await chat_events(stream)
            status, _, answer = await whole
        assert await process.ended() == 0
    assert status == 200 and answer["choices"][0]["message"]["content"] == "one two three four"
    said = [event["choices"][0]["delta"].get("content", "") for event in events[:-1]]
    assert "".join(said).endswith("two three four") and events[-1] == "[DONE]"
    assert [one.outcome for one in process.interactions] == ["delivered"] * 2


@pytest.mark.parametrize("by", ["its time", "a signal more"])
async def test_what_outlives_the_drain_ends_with_an_error_that_clients_can_read_and_is_logged(
    tmp_path: Path, by: str
) -> None:
    worker = FakeWorker(texts=["one two three four"], silent_after=2)
    timeout_s = 0.1 if by == "its time" else NEVER_S
    async with gateway(tmp_path, worker, timeout_s=timeout_s, **LIVE) as (process, _, session):
        whole = asyncio.create_task(chat(session, process.url))
        async with streaming(process, session) as stream:
            await until(lambda: len(worker.requests) == 2)
            process.send(signal.SIGTERM)
            if by == "a signal more":
                await process.until_it_does_not_listen()
                process.send(signal.SIGTERM)
            events = await chat_events(stream)
            status, headers, answer = await whole
        assert await process.ended() == 0
    expected = {
        "message": "the gateway is stopping; send the request again",
        "type": "server_error",
        "param": None,
        "code": "unavailable",
    }
    assert (status, answer) == (503, {"error": expected})
    assert headers["retry-after"] == "1" and headers["x-request-id"].startswith("chatcmpl-")
    assert events[-1] == {"error": expected}
    assert {one.outcome for one in process.interactions} == {"cancelled"} and len(process.interactions) == 2
    assert "Traceback" not in process.log


async def test_clients_that_keep_a_connection_and_never_look_at_it_hold_nothing_up(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (process, _, session):
        await chat(session, process.url)
        host, port = process.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        process.send(signal.SIGTERM)
        assert await process.ended() == 0
        assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
