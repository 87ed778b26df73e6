"""Which worker gets a request: where its prefix is cached, unless that worker is too busy.

Without a key: the less loaded of two workers picked at random. Several gateways that see the same reports would all
pick the one least loaded worker; two choices spread them almost as evenly (Mitzenmacher 2001).

With a key: consistent hashing with bounded loads (Mirrokni et al. 2018, arXiv:1608.01350), the consistent hash being
rendezvous (Thaler and Ravishankar 1998): each worker has a rank for each key, so a worker that comes or goes moves its
own share of the keys alone, every gateway agrees, and there is no ring to keep. In two steps:

1. The shared prefix (tenant, tools, system messages) has HOMES workers, so that few caches hold it.
2. The conversation's rank picks among those that may take the request; where no home may, among all that may.

A worker may take a request where it is idle, or where its load and the request's cost together stay within

    max(bound * (load of all workers + cost) / workers, floor)

Where none may (a request that is large beside what runs), affinity gives way to two choices.

What the parameters do (`python -m tests.gateway.workers.routing_simulation`: 64 workers of about 100 sequences each):
the share of prompt tokens found cached / the busiest worker's load over the mean.

    bound    1 home         2 homes        4 homes        8 homes
    1.1      0.50 / 1.66    0.51 / 1.70    0.53 / 1.66    0.52 / 1.64
    1.25     0.66 / 1.48    0.67 / 1.57    0.68 / 1.58    0.68 / 1.57
    1.5      0.76 / 1.80    0.77 / 1.73    0.76 / 1.80    0.76 / 1.88
    2        0.82 / 2.26    0.82 / 2.22    0.81 / 2.26    0.80 / 2.46

Beside them: round-robin 0.36 / 2.07, the least loaded worker 0.36 / 1.55, hashing without a bound 0.79 / 2.92 (by
conversation) or 0.87 / 10.3 (4 homes). At a tenth of that traffic a floor of 0, 4,096 and 8,192 tokens gives
0.26 / 5.5, 0.75 / 5.7 and 0.84 / 10.1.
"""

import random
from collections.abc import Sequence
from hashlib import blake2b
from heapq import nsmallest
from typing import Protocol, TypeVar

from gateway.workers.load import WorkerLoad
from gateway.workers.prefix import PrefixKey

HOMES = 4
# Tokens that a worker works off with ease: 16 sequences of some 256. Where it has less to do, none leaves its home.
FLOOR = 4_096.0


class Routable(Protocol):
    """id: the same in every gateway. load: as this one knows it."""

    @property
    def id(self) -> str: ...
    @property
    def load(self) -> WorkerLoad: ...


W = TypeVar("W", bound=Routable)


class Router:
    """Chooses among the workers that could take a request."""

    def __init__(self, rng: random.Random, *, bound: float = 1.25, floor: float = FLOOR, homes: int = HOMES) -> None:
        self._rng = rng
        self._bound = bound
        self._floor = floor
        self._homes = homes

    def choose(self, workers: Sequence[W], key: PrefixKey | None, cost: float) -> W:
        """The worker for a request of `cost` tokens. `workers` is not empty."""
        if key is None:
            return self._lighter_of_two(workers)
        loads = [worker.load.score() for worker in workers]
        limit = max(self._bound * (sum(loads) + cost) / len(workers), self._floor)
        able = [worker for worker, load in zip(workers, loads, strict=True) if not load or load + cost <= limit]
        if not able:
            return self._lighter_of_two(workers)
        if (shared := key.shared) is not None:
            homes = nsmallest(self._homes, workers, key=lambda worker: _rank(shared, worker))
            able = [worker for worker in able if worker in homes] or able
        return min(able, key=lambda worker: _rank(key.own, worker))

    def _lighter_of_two(self, workers: Sequence[W]) -> W:
        if len(workers) == 1:
            return workers[0]
        first, second = self._rng.sample(workers, 2)
        return first if first.load.score() <= second.load.score() else second


def _rank(digest: bytes, worker: Routable) -> bytes:
    return blake2b(digest + worker.id.encode(), digest_size=8).digest()
