"""The sampler of one request: what it tells admission, and the seeds and indices of its candidates."""

from collections.abc import AsyncGenerator
from typing import Any, cast

from gateway.admission.admission import Place
from gateway.decoding.sampler import PoolSampler
from gateway.telemetry.waiting import WaitClock
from gateway.workers.fan_out import Order
from gateway.workers.pool import WorkerPool
from gateway.workers.stream import Choice, Item, SampleEnd, SampleStart


class Pool:
    """Answers every order with its choices, of three tokens each."""

    def __init__(self) -> None:
        self.orders: list[tuple[int, Any]] = []

    async def sample(self, order: Order) -> AsyncGenerator[Item, None]:
        self.orders.append((order.n, order.body.get("seed")))
        yield SampleStart(7, {})
        for index in range(order.n):
            message = {"role": "assistant", "content": str(index)}
            yield Choice(index, message, "stop", None, None, None, 3)
        yield SampleEnd(7, 3 * order.n, {}, {})


class Held:
    """How many sequences admission counts for the request, after each thing that it is told."""

    def __init__(self, granted: int) -> None:
        self.counts = [granted]

    def again(self, n: int) -> None:
        self.counts.append(n)

    def finished(self, count: int = 1) -> None:
        self.counts.append(self.counts[-1] - count)


async def test_waves_hold_as_many_places_as_they_sample_and_go_on_with_seeds_and_indices() -> None:
    pool, held = Pool(), Held(16)
    sampler = PoolSampler(cast(WorkerPool, pool), {}, 100, WaitClock(), place=cast(Place, held))
    found = [one async for one in sampler.sample(4, 0)] + [one async for one in sampler.sample(2, 1)]
    assert held.counts == [16, 4, 3, 2, 1, 0, 2, 1, 0]
    assert pool.orders == [(4, 100), (2, 104)]
    assert [(one.index, one.seed, one.wave) for one in found] == [(i, 100 + i, int(i > 3)) for i in range(6)]
    assert sampler.sampled_tokens == 18
