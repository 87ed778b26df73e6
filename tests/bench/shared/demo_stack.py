"""The real stack on the demo models, with profiles and scorers of a benchmark's own, and questions to it."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.records import Interaction, Message
from tests.e2e import stack as stacks
from tests.e2e.stack import PROJECT, Stack

POLICY, MODEL = "demo-policy", "bestow-demo"
SAMPLING = {"temperature": 1.0, "max_tokens": 96}
# n is never shrunk: every row has the same.
PROFILE: Mapping[str, Any] = {**SAMPLING, "max_tokens_limit": 256, "max_n": 128, "second_check": None}


class NotServed(Exception):
    """The gateway refused a profile, a scorer or a request; one sentence with its words."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the receipt's candidates. text is None where it is not shown."""

    text: str | None
    reward: float | None
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the client got. reward: of the delivered text, None for a refusal. tokens: sampled in all."""

    id: str
    text: str
    strategy: str
    reward: float | None
    sampled: int
    tokens: int
    wall_ms: float
    refused: str | None
    degraded: str | None
    candidates: tuple[Candidate, ...] = ()


class DemoGateway:
    """A client of the running stack. One request at a time, unless asked otherwise."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession) -> None:
        self.stack = stack
        self._session = session

    async def put_profile(self, name: str, settings: Mapping[str, Any]) -> None:
        """A new profile: `settings` over PROFILE. Raises NotServed."""
        whole = {**PROFILE, **settings}
        whole.setdefault("min_n", whole.get("n", 8))
        await self._put(f"/admin/v1/profiles/{name}", {"version": 0, "settings": whole, "reason": "benchmark"})

    async def put_scorer(self, name: str, settings: Mapping[str, Any]) -> None:
        """A new scorer, loaded when this returns. Raises NotServed."""
        await self._put(f"/admin/v1/scorers/{name}", {"settings": dict(settings), "reason": "benchmark"})

    async def ask(
        self, profile: str, messages: Sequence[Message], seed: int, *, return_candidates: bool = False
    ) -> Reply:
        """One whole answer. Raises NotServed."""
        guidance = {"profile": profile, "return_candidates": return_candidates}
        body = {"model": MODEL, "messages": list(messages), "seed": seed, "guidance": guidance}
        begun = time.perf_counter()
        async with self._session.post(f"{self.stack.url}/v1/chat/completions", json=body) as answer:
            raw = await answer.read()
        wall_ms = (time.perf_counter() - begun) * 1000
        if answer.status != 200:
            raise NotServed(_refusal(raw))
        found = json.loads(raw)
        receipt = found["guidance"]
        return Reply(
            id=found["id"],
            text=found["choices"][0]["message"]["content"] or "",
            strategy=receipt["strategy"],
            reward=receipt["reward"],
            sampled=receipt["sampled"],
            tokens=receipt["usage"]["completion_tokens"],
            wall_ms=wall_ms,
            refused=receipt["refused"],
            degraded=receipt["degraded"],
            candidates=tuple(_candidate(one) for one in receipt.get("candidates", ())),
        )

    async def bare(self, messages: Sequence[Message], seed: int, n: int) -> float:
        """Milliseconds until vLLM alone has answered with n choices. Raises NotServed."""
        body = {"model": POLICY, "messages": list(messages), "seed": seed, "n": n, **SAMPLING}
        begun = time.perf_counter()
        async with self._session.post(f"{self.stack.worker_url}/v1/chat/completions", json=body) as answer:
            raw = await answer.read()
        wall_ms = (time.perf_counter() - begun) * 1000
        if answer.status != 200:
            raise NotServed(_refusal(raw))
        return wall_ms

    async def first_token(self, messages: Sequence[Message], seed: int, guidance: Mapping[str, Any]) -> float:
        """Milliseconds until the first text of a stream through the gateway. Raises NotServed."""
        body = {"model": MODEL, "messages": list(messages), "seed": seed, "stream": True, "guidance": dict(guidance)}
        return await self._first_text(self.stack.url, body)

    async def bare_first_token(self, messages: Sequence[Message], seed: int) -> float:
        """The same of vLLM alone, as whoever calls it directly gets it. Raises NotServed."""
        body = {"model": POLICY, "messages": list(messages), "seed": seed, "stream": True, **SAMPLING}
        return await self._first_text(self.stack.worker_url, body)

    async def records(self, ids: Sequence[str]) -> list[Interaction]:
        """As they were logged, in the order of `ids`; waits until all are there. Raises TimeoutError."""
        redis = Redis.from_url(self.stack.redis_url)
        try:
            reader, found = streams.interactions(redis, "0"), dict[str, Interaction]()
            entry = "0-0"
            async with asyncio.timeout(30):
                while not found.keys() >= set(ids):
                    async for logged in reader.after(entry):
                        entry = logged.entry
                        found[logged.record.id] = logged.record
                    await asyncio.sleep(0.1)
        finally:
            await redis.aclose()
        return [found[one] for one in ids]

    async def _put(self, path: str, body: dict[str, Any]) -> None:
        async with self._session.put(f"{self.stack.url}{path}", json=body) as answer:
            raw = await answer.read()
        if answer.status != 200:
            raise NotServed(_refusal(raw))

    async def _first_text(self, url: str, body: dict[str, Any]) -> float:
        begun = time.perf_counter()
        async with self._session.post(f"{url}/v1/chat/completions", json=body) as answer:
            if answer.status != 200:
                raise NotServed(_refusal(await answer.read()))
            first: float | None = None
            # Read to the end: a stream that is closed early is another thing to serve.
            async for line in answer.content:
                if first is None and line.startswith(b"data: {"):
                    chunk = json.loads(line[len(b"data: ") :])
                    if any(choice["delta"].get("content") for choice in chunk.get("choices", ())):
                        first = (time.perf_counter() - begun) * 1000
        if first is None:
            raise NotServed("the stream ended without any text")
        return first


@contextmanager
def demo_stack(entry_points: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """The running stack, stopped afterwards. entry_points: by group, lines of what it finds as if it were installed.

    No scores are cached: asking the same again with the same seed would be cheaper than it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.environ.get("PYTHONPATH")
        installed = Path(folder) / "installed"
        _install(installed, entry_points or {})
        os.environ["PYTHONPATH"] = os.pathsep.join([str(installed), str(PROJECT), *([path] if path else [])])
        try:
            stack = stacks.start(Path(folder), cached_scores=False)
        finally:
            if path is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = path
        try:
            yield stack
        finally:
            stacks.stop(stack)


@asynccontextmanager
async def client_of(stack: Stack) -> AsyncIterator[DemoGateway]:
    """A client with connections of its own."""
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=2**20) as session:
        yield DemoGateway(stack, session)


def _install(folder: Path, entry_points: Mapping[str, str]) -> None:
    """What `pip install` of a package leaves there, as far as Python looks for entry points."""
    distribution = folder / "bestow_bench-0.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: bestow-bench\nVersion: 0\n")
    text = "".join(f"[{group}]\n{lines}\n" for group, lines in entry_points.items())
    (distribution / "entry_points.txt").write_text(text)


def _candidate(found: Mapping[str, Any]) -> Candidate:
    parts = {name: part for score in found["scores"].values() for name, part in score["parts"].items()}
    return Candidate(found["message"] and found["message"]["content"], found["reward"], parts)


def _refusal(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return raw.decode(errors="replace")[:300]
