"""A client that leaves, at whatever stage: within a second nothing runs on for it, and it is logged as it was."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import ClientSession, web
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.records import Interaction
from tests.e2e.gateways import running_sequences, second_gateway
from tests.e2e.stack import Stack
from tests.ports import free_ports

LONG: dict[str, Any] = {
    "model": "bestow-demo",
    "messages": [{"role": "user", "content": "How do I keep a houseplant healthy?"}],
    "max_tokens": 256,
    "min_tokens": 256,
    "ignore_eos": True,
    "guidance": {"n": 16},
}
SHORT = LONG | {"max_tokens": 8, "min_tokens": 1, "ignore_eos": False, "guidance": {"n": 2}}


async def idle_within_a_second(stack: Stack) -> None:
    deadline = time.monotonic() + 1.0
    while await running_sequences(stack) > 0:
        assert time.monotonic() < deadline, "the worker still samples for nobody"
        await asyncio.sleep(0.02)


async def record_of(redis: Redis, marker: str) -> Interaction:
    """The record whose prompt holds the marker, waiting for it to land."""
    for _ in range(100):
        async for entry in streams.interactions(redis, "0").after():
            if marker in json.dumps(entry.record.messages):
                return entry.record
        await asyncio.sleep(0.05)
    raise AssertionError("the interaction never reached the log")


def marked(body: dict[str, Any], marker: str) -> dict[str, Any]:
    return body | {"messages": [{"role": "user", "content": f"How do I keep a houseplant healthy? {marker}"}]}


@pytest.mark.parametrize("stream", [False, True])
async def test_while_sampling(stack: Stack, redis: Redis, stream: bool) -> None:
    marker = f"while sampling {stream} {time.time()}"
    for attempt in range(5):
        body = marked(LONG, f"{marker} {attempt}") | {"stream": stream}
        async with httpx.AsyncClient(timeout=60) as http:
            request = asyncio.create_task(http.post(f"{stack.url}/v1/chat/completions", json=body))
            while await running_sequences(stack) == 0 and not request.done():
                pass
            # So that some tokens have come over: they are what the log has to account for.
            await asyncio.sleep(0.4)
            if not request.done():
                request.cancel()
                break
    else:
        pytest.fail("sampling was always over before it could be interrupted")
    await idle_within_a_second(stack)
    record = await record_of(redis, f"{marker} {attempt}")
    assert (record.outcome, record.status) == ("cancelled", 499)
    assert record.usage.completion_tokens == 0
    assert 0 < record.usage.sampled_tokens < 16 * 256
    assert record.usage.prompt_tokens > 0


async def test_in_the_middle_of_a_live_stream(stack: Stack, redis: Redis, tmp_path: Path) -> None:
    def change(config: Any) -> None:
        # Long enough that a fast worker is still at it when the first words leave; and nothing of it is flagged.
        config["profiles"]["default"] |= {"max_tokens_limit": 1900, "stream_window": 8, "safety_threshold": 1.0}

    marker = f"mid-stream {time.time()}"
    body = marked(LONG, marker) | {"stream": True, "guidance": {"stream_mode": "first"}}
    body |= {"max_tokens": 1900, "min_tokens": 1900}
    async with in_thread(second_gateway(stack, tmp_path, change)) as url:
        async with (
            httpx.AsyncClient(timeout=60) as http,
            http.stream("POST", f"{url}/v1/chat/completions", json=body) as reply,
        ):
            said = ""
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    said += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                if said:
                    assert await running_sequences(stack) == 1
                    break
        await idle_within_a_second(stack)
        record = await record_of(redis, marker)
    assert (record.outcome, record.status, record.stream_mode) == ("cancelled", 499, "first")
    [candidate] = record.candidates
    assert str(candidate.message["content"]).startswith(said)
    assert 0 < record.usage.sampled_tokens < 1900


@asynccontextmanager
async def slow_scorers(stack: Stack, slow_for: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The stack's scorer server behind a proxy that is slow with prompts or candidates, and a sign that it was."""
    asked = asyncio.Event()

    async def forward(request: web.Request) -> web.Response:
        raw = await request.read()
        if request.method == "POST" and bool(json.loads(raw).get("candidates")) == (slow_for == "candidates"):
            asked.set()
            await asyncio.sleep(30)
        url = stack.scorer_url + request.path
        async with ClientSession() as session, session.request(request.method, url, data=raw or None) as reply:
            return web.Response(body=await reply.read(), status=reply.status, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    [port] = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}", asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("stage", ["prompts", "candidates"])
@pytest.mark.parametrize("stream", [False, True])
async def test_before_sampling_and_while_scoring(
    stack: Stack, redis: Redis, tmp_path: Path, stage: str, stream: bool
) -> None:
    marker = f"{stage} {stream} {time.time()}"
    async with slow_scorers(stack, stage) as (url, asked):

        def change(config: Any) -> None:
            for scorer in config["scorers"].values():
                scorer["url"] = url

        async with in_thread(second_gateway(stack, tmp_path, change)) as gateway, httpx.AsyncClient(timeout=60) as http:
            body = marked(SHORT, marker) | {"stream": stream}
            request = asyncio.create_task(http.post(f"{gateway}/v1/chat/completions", json=body))
            await asyncio.wait_for(asked.wait(), 20)
            assert not request.done()
            request.cancel()
            await idle_within_a_second(stack)
            record = await record_of(redis, marker)
    assert (record.outcome, record.status) == ("cancelled", 499)
    assert (record.usage.sampled_tokens > 0) == (stage == "candidates")


@asynccontextmanager
async def in_thread(blocking: Any) -> AsyncIterator[str]:
    """A context manager that waits, without stopping the event loop that its backend runs in."""
    entered = await asyncio.to_thread(blocking.__enter__)
    try:
        yield entered
    finally:
        await asyncio.to_thread(blocking.__exit__, None, None, None)
