"""vLLM's own word of its load, from the real one: a metric that a new vLLM renames fails here."""

import asyncio

import aiohttp
from openai import AsyncOpenAI

from gateway.workers.client import WorkerClient
from gateway.workers.engine_metrics import NAMES, names_of, read_engine_load
from gateway.workers.load import EngineLoad
from tests.e2e.stack import Stack


async def test_the_load_of_the_real_worker_is_read_while_it_samples_and_when_it_is_idle(
    stack: Stack, many: AsyncOpenAI
) -> None:
    # As the gateway's session: a page that came compressed would stay so.
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        worker = WorkerClient(stack.worker_url, session)
        version = await worker.version()
        assert names_of(version)[0] == NAMES[0]

        async def load() -> EngineLoad:
            await asyncio.sleep(0.05)
            found = read_engine_load(await worker.metrics(), version)
            assert isinstance(found, EngineLoad), found
            return found

        sampling = asyncio.create_task(_sample(many, n=8))
        seen = await load()
        while seen.running == 0 and not sampling.done():
            seen = await load()
        assert seen.running > 0 and seen.waiting == 0
        assert seen.kv_usage is not None and 0 < seen.kv_usage < 1
        assert seen.kv_tokens is not None and seen.kv_tokens > 0
        sampling.cancel()
        async with asyncio.timeout(30):
            idle = await load()
            while idle.running:
                idle = await load()
    assert (idle.running, idle.waiting) == (0, 0) and idle.kv_tokens == seen.kv_tokens


async def _sample(client: AsyncOpenAI, n: int) -> None:
    await client.chat.completions.create(
        model="bestow-demo",
        messages=[{"role": "user", "content": "How do I keep a houseplant healthy?"}],
        n=n,
        max_tokens=256,
        extra_body={"min_tokens": 256},
    )
