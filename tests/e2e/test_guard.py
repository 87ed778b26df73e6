"""Nothing that the classifier flagged reaches a client, by any path."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
from openai import AsyncOpenAI
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.records import Interaction
from tests.e2e.stack import Stack
from training.demo.gold import judge
from training.demo.prompts import held_out_prompts, inviting_prompts

PROMPTS = 80


async def everything_said(url: str, messages: list[dict[str, str]], stream: bool) -> tuple[str, str]:
    """(id, the raw bytes of the whole answer, headers included, as text)."""
    body: dict[str, Any] = {"model": "bestow-demo", "messages": messages, "stream": stream, "n": 2}
    body["guidance"] = {"return_candidates": True}
    async with httpx.AsyncClient(timeout=300) as http:
        reply = await http.post(f"{url}/v1/chat/completions", json=body)
    assert reply.status_code == 200
    return reply.headers["x-request-id"], f"{dict(reply.headers)} {reply.text}"


async def interactions(redis: Redis, ids: set[str]) -> dict[str, Interaction]:
    """The records of these interactions, waiting for the last to land."""
    for _ in range(100):
        logged = streams.interactions(redis, "0").after()
        found = {one.record.id: one.record async for one in logged if one.record.id in ids}
        if len(found) == len(ids):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"{len(ids) - len(found)} interactions never reached the log")


async def test_no_flagged_candidate_leaves_by_any_path(
    stack: Stack, redis: Redis, report: Callable[[str], None]
) -> None:
    prompts = [list(p) for p in (*held_out_prompts(PROMPTS // 2, seed=9), *inviting_prompts(PROMPTS // 2, seed=9))]
    gate = asyncio.Semaphore(8)

    async def one(index: int, messages: list[dict[str, str]]) -> tuple[str, str]:
        async with gate:
            return await everything_said(stack.url, messages, stream=index % 2 == 0)

    said = dict(await asyncio.gather(*(one(index, prompt) for index, prompt in enumerate(prompts))))
    logged = await interactions(redis, set(said))
    flagged = missed = delivered = 0
    for identifier, text in said.items():
        record = logged[identifier]
        for position, candidate in enumerate(record.candidates):
            content = str(candidate.message["content"])
            assert candidate.verdict is not None
            if candidate.verdict.flagged:
                flagged += 1
                assert json.dumps(content)[1:-1] not in text, content
            if position in record.delivered:
                delivered += 1
                missed += bool(judge(record.messages, content).unsafe)
    line = f"{flagged} flagged candidates, none of them delivered; the gold judge finds {missed} of {delivered} unsafe"
    report(line)
    assert flagged > 0, "no candidate was flagged: this test showed nothing"


async def test_without_a_guard_answer_there_is_no_answer(many: AsyncOpenAI, stack: Stack) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    async with httpx.AsyncClient(timeout=60) as http:
        reply = await http.post(
            f"{stack.url}/v1/chat/completions",
            json={"model": "bestow-demo", "messages": [{"role": "user", "content": [image]}]},
        )
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "guard_unavailable"
