"""What tests of failures rely on: the fake worker fails in the ways it is told to, and recovers."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.fakes import FakeWorker, serve

MANY = {"messages": [{"role": "user", "content": "hi"}], "n": 2, "stream": True, "stream_interval": 16}
ONE = {"messages": [{"role": "user", "content": "hi"}], "n": 1, "stream": True}
TEXTS = ["one two three", "four five"]


@pytest.fixture
async def fake() -> AsyncIterator[FakeWorker]:
    async with serve(worker := FakeWorker(texts=TEXTS)):
        yield worker


@pytest.fixture
async def session(fake: FakeWorker) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(fake.url) as opened:
        yield opened


class Heard(asyncio.Queue[str]):
    """The words of a stream, as they come."""

    async def next(self, count: int) -> list[str]:
        return [await asyncio.wait_for(self.get(), 10) for _ in range(count)]

    def rest(self) -> list[str]:
        return [self.get_nowait() for _ in range(self.qsize())]


async def ask(
    session: aiohttp.ClientSession, body: dict[str, Any], heard: Heard | None = None, model: str = "policy"
) -> int:
    """The status, once the stream has ended."""
    heard = Heard() if heard is None else heard
    async with session.post("/v1/chat/completions", json={**body, "model": model}) as reply:
        async for line in reply.content:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    for word in choice["delta"]["content"].split():
                        heard.put_nowait(word)
        return reply.status


@pytest.mark.parametrize(("body", "said"), [(MANY, "one two three four five"), (ONE, "one two three")])
async def test_a_stream_breaks_after_so_many_words(
    fake: FakeWorker, session: aiohttp.ClientSession, body: dict[str, Any], said: str
) -> None:
    fake.break_after, heard = 2, Heard()
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask(session, body, heard)
    assert heard.rest() == ["one", "two"]
    fake.break_after = None
    assert await ask(session, body, heard) == 200 and " ".join(heard.rest()) == said


@pytest.mark.parametrize("body", [MANY, ONE])
@pytest.mark.parametrize("after", [0, 1])
async def test_a_stream_falls_silent_and_goes_on(
    fake: FakeWorker, session: aiohttp.ClientSession, body: dict[str, Any], after: int
) -> None:
    fake.silent_after, heard = after, Heard()
    task = asyncio.create_task(ask(session, body, heard))
    said = await heard.next(after)
    await asyncio.wait({task}, timeout=0.05)
    assert not heard.rest() and not task.done()
    fake.silent_after = None
    assert await task == 200 and [*said, *heard.rest()][:3] == ["one", "two", "three"]


async def test_a_worker_that_hangs_answers_nothing_until_it_goes_on(
    fake: FakeWorker, session: aiohttp.ClientSession
) -> None:
    fake.hang = True
    tasks = [asyncio.ensure_future(session.get(path)) for path in ("/health", "/v1/models", "/metrics")]
    assert not (await asyncio.wait(tasks, timeout=0.05))[0]
    fake.hang = False
    assert [reply.status for reply in await asyncio.gather(*tasks)] == [200, 200, 200]


async def test_so_many_requests_fail_and_the_next_does_not(fake: FakeWorker, session: aiohttp.ClientSession) -> None:
    fake.fail_next = 2
    assert [await ask(session, ONE) for _ in range(3)] == [500, 500, 200]


async def test_a_worker_that_is_killed_cuts_its_streams_refuses_connections_and_comes_back_without_adapters(
    fake: FakeWorker, session: aiohttp.ClientSession
) -> None:
    fake.adapters["style"] = "/adapters/style"
    fake.silent_after, heard = 1, Heard()
    task = asyncio.create_task(ask(session, ONE, heard))
    await heard.next(1)
    await fake.kill()
    with pytest.raises(aiohttp.ClientPayloadError):
        await task
    with pytest.raises(aiohttp.ClientConnectorError):
        await session.get("/health")
    await fake.restart()
    fake.silent_after = None
    assert await ask(session, ONE) == 200 and not fake.adapters and fake.running == 0


async def test_adapters_are_loaded_listed_sampled_from_and_unloaded_in_vllms_words(
    fake: FakeWorker, session: aiohttp.ClientSession
) -> None:
    async def post(verb: str, **body: str) -> tuple[int, str]:
        async with session.post(f"/v1/{verb}_lora_adapter", json=body) as reply:
            text = await reply.text()
            return reply.status, text if reply.status == 200 else json.loads(text)["error"]["type"]

    style = {"lora_name": "style", "lora_path": "/adapters/style"}
    fake.broken_adapters.add("/adapters/broken")
    assert await post("load", **style) == (200, "Success: LoRA adapter 'style' added successfully.")
    assert await post("load", **style) == (400, "InvalidUserInput")
    assert await post("load", lora_name="policy", lora_path="/x") == (400, "InvalidUserInput")
    assert await post("load", lora_name="broken", lora_path="/adapters/broken") == (404, "NotFoundError")
    async with session.get("/v1/models") as reply:
        served = {one["id"]: (one["parent"], one["root"]) for one in (await reply.json())["data"]}
    assert served == {"policy": (None, "/models/somewhere"), "style": ("policy", "/adapters/style")}
    assert await ask(session, ONE, model="style") == 200
    assert await post("unload", lora_name="style") == (200, "Success: LoRA adapter 'style' removed successfully.")
    assert await post("unload", lora_name="style") == (404, "NotFoundError")
    assert await ask(session, ONE, model="style") == 500
    assert fake.surprises
    fake.surprises.clear()
