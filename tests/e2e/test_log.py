"""Every request and every thumb is in Redis, exactly once, and `bestow log tail` shows them side by side."""

import asyncio
import subprocess
import sys

import httpx
from openai import AsyncOpenAI
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.records import Feedback, Interaction
from tests.e2e.stack import PROJECT, Stack
from training.demo.prompts import held_out_prompts

REQUESTS, THUMBS = 200, 50


async def test_200_concurrent_requests_and_50_thumbs_are_exactly_those(
    many: AsyncOpenAI, stack: Stack, redis: Redis
) -> None:
    interactions, feedback = streams.interactions(redis, "0"), streams.feedback(redis, "0")
    # The readers remember what they have seen, so what comes next is new.
    async for _ in interactions.after():
        pass
    async for _ in feedback.after():
        pass
    prompts = [list(prompt) for prompt in held_out_prompts(REQUESTS, seed=21)]

    async def one(messages: list[dict[str, str]]) -> str:
        answer = await many.chat.completions.create(
            model="bestow-demo",
            messages=messages,  # type: ignore[arg-type]
            max_tokens=24,
            extra_body={"guidance": {"n": 2}},
        )
        return answer.id

    ids = await asyncio.gather(*(one(prompt) for prompt in prompts))
    assert len(set(ids)) == REQUESTS
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as http:
        votes = await asyncio.gather(
            *(
                http.post("/v1/feedback", json={"id": identifier, "kind": "thumbs", "value": index % 3 > 0})
                for index, identifier in enumerate(ids[:THUMBS])
            )
        )
    assert {vote.status_code for vote in votes} == {202}

    logged: list[Interaction] = []
    thumbs: list[Feedback] = []
    for _ in range(150):
        logged += [one.record async for one in interactions.after()]
        thumbs += [one.record async for one in feedback.after()]
        if len(logged) >= REQUESTS and len(thumbs) >= THUMBS:
            break
        await asyncio.sleep(0.1)
    assert sorted(record.id for record in logged) == sorted(ids)
    assert sorted(record.interaction for record in thumbs) == sorted(ids[:THUMBS])
    assert {record.interaction: record.value for record in thumbs} == {
        identifier: index % 3 > 0 for index, identifier in enumerate(ids[:THUMBS])
    }
    for record in logged:
        # So many at once are more than the worker has places for: some get fewer candidates than they asked for.
        assert record.outcome == "refused_prompt" or len(record.candidates) >= record.n
        assert record.n == 2 or (record.asked == 2 and record.degraded)
        assert all(one.token_ids for one in record.candidates)
        assert sum(one.propensity for one in record.candidates) in (0.0, 1.0)


async def test_log_tail_shows_the_thumb_beside_its_interaction(many: AsyncOpenAI, stack: Stack) -> None:
    answer = await many.chat.completions.create(
        model="bestow-demo", messages=[{"role": "user", "content": "How do I boil an egg?"}]
    )
    async with httpx.AsyncClient(base_url=stack.url) as http:
        await http.post("/v1/feedback", json={"id": answer.id, "kind": "thumbs", "value": True})
        for _ in range(50):
            if (await http.get(f"/v1/feedback/{answer.id}")).json()["data"]:
                break
            await asyncio.sleep(0.1)
    for _ in range(20):
        shown = await asyncio.to_thread(tail, stack)
        if answer.id in shown and "👍" in shown.split(answer.id)[1]:
            break
        await asyncio.sleep(0.2)
    else:
        raise AssertionError(shown)
    assert "How do I boil an egg?" in shown


def tail(stack: Stack) -> str:
    command = [sys.executable, "-m", "gateway.cli", "log", "tail", "-n", "3", "--config", str(stack.config_file)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT).stdout
