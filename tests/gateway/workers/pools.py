"""Pools of fake workers for tests."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry

from gateway.config import PolicyConfig
from gateway.workers.fan_out import Order
from gateway.workers.metrics import PoolMetrics
from gateway.workers.pool import WorkerPool
from gateway.workers.stream import Choice
from gateway.workers.worker import Worker
from scorers.endpoint import Endpoint
from tests.fakes import FakeWorker, serve

BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 64}
NOBODY = "http://127.0.0.1:1"


@asynccontextmanager
async def pool_of(*fakes: FakeWorker, check: bool = True, seed: int = 1, **policy: Any) -> AsyncIterator[WorkerPool]:
    """A pool that has asked its workers once (check), and is not watching them."""
    async with AsyncExitStack() as stack:
        for fake in fakes:
            await stack.enter_async_context(serve(fake))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        settings = PolicyConfig.model_validate({"model": "somewhere", **policy})
        pool = WorkerPool(
            "policy", settings, session, PoolMetrics(CollectorRegistry()), rng=random.Random(seed), interval_s=0.05
        )
        pool.put([Endpoint(fake.url) for fake in fakes], "file")
        if check:
            await pool.check()
        stack.push_async_callback(pool.close)
        yield pool


def worker_of(pool: WorkerPool, fake: FakeWorker) -> Worker:
    return next(worker for worker in pool.workers if worker.client.url == fake.url)


async def sampled(pool: WorkerPool, n: int, **order: Any) -> list[str]:
    """The contents of n candidates, in the order of their indexes."""
    body = {**BODY, **order.pop("body", {})}
    choices = [one async for one in pool.sample(Order(body, n, **order)) if isinstance(one, Choice)]
    return [one.message["content"] for one in sorted(choices, key=lambda one: one.index)]
