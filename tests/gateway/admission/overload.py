"""A pool under more load than it can take, simulated in virtual time on a real `Admission`.

Arrivals are Poisson, of three classes and several tenants. A sequence takes a log-normal time that does not depend on
how many run, which is what a decoding step does until the GPU is full; the pool never runs more than its places. An
answer comes when the last of its candidates is done.
"""

import asyncio
import random
from dataclasses import dataclass, field

from gateway.admission.tiers import Tier
from gateway.errors import RateLimited
from tests.gateway.admission.desk import Desk

PLACES, N, LEAST = 64, 8, 2
MEAN_S, SIGMA = 2.0, 0.4
SHARES: dict[Tier, float] = {"flex": 0.6, "default": 0.3, "priority": 0.1}

FULL_PER_S = PLACES / (N * MEAN_S)
"""Answers a second that the pool can give with all candidates; with the least it is LEAST to N as many."""


@dataclass
class Tally:
    """What became of the requests of a class. waits_s: of those that were answered."""

    answered: int = 0
    rejected: int = 0
    candidates: int = 0
    waits_s: list[float] = field(default_factory=list)

    def wait_s(self, quantile: float) -> float:
        return sorted(self.waits_s)[int(quantile * (len(self.waits_s) - 1))]


@dataclass
class Outcome:
    """seconds: how long arrivals came. goodput_per_s: answers in that time."""

    seconds: float
    tallies: dict[Tier, Tally] = field(default_factory=lambda: {tier: Tally() for tier in SHARES})
    goodput_per_s: float = 0.0
    first_shrunk_s: float | None = None
    first_rejected_s: float | None = None
    most_running: int = 0

    @property
    def rejected(self) -> int:
        return sum(tally.rejected for tally in self.tallies.values())

    @property
    def mean_n(self) -> float:
        answered = sum(tally.answered for tally in self.tallies.values())
        return sum(tally.candidates for tally in self.tallies.values()) / answered


async def overload(per_s: float, *, least: int, seconds: float = 120.0, seed: int = 1) -> Outcome:
    """Arrivals at `per_s`; candidates shrink to `least`. Runs in a virtual loop."""
    loop = asyncio.get_running_loop()
    rng = random.Random(seed)
    desk = Desk(PLACES, max_waiting=200, max_wait_s=10.0)
    outcome = Outcome(seconds)
    running = 0

    async def request(tier: Tier, tenant: str, durations: list[float]) -> None:
        nonlocal running
        tally = outcome.tallies[tier]
        try:
            place = await desk.admit(least, N, tier=tier, tenant=tenant, deadline=loop.time() + 60.0)
        except RateLimited:
            tally.rejected += 1
            outcome.first_rejected_s = loop.time() if outcome.first_rejected_s is None else outcome.first_rejected_s
            return
        if place.shrunk and outcome.first_shrunk_s is None:
            outcome.first_shrunk_s = loop.time()
        running += place.n
        outcome.most_running = max(outcome.most_running, running)
        begun = loop.time()
        for duration in sorted(durations[: place.n]):
            await asyncio.sleep(begun + duration - loop.time())
            running -= 1
            place.finished()
        place.release()
        tally.answered += 1
        tally.candidates += place.n
        tally.waits_s.append(place.waited_s)
        if loop.time() <= seconds:
            outcome.goodput_per_s += 1 / seconds

    tasks = []
    while loop.time() < seconds:
        await asyncio.sleep(rng.expovariate(per_s))
        tier = rng.choices(list(SHARES), list(SHARES.values()))[0]
        durations = [MEAN_S * rng.lognormvariate(-(SIGMA**2) / 2, SIGMA) for _ in range(N)]
        tasks.append(asyncio.create_task(request(tier, rng.choice("abcd"), durations)))
    await asyncio.gather(*tasks)
    return outcome
