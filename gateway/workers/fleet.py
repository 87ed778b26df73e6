"""What operators have changed about the workers, the same on every gateway: added, drained and removed ones, adapters.

One document in Redis, with a version; each gateway follows it (`gateway.shared`) and applies it to its pools. While
Redis is away the last known one stays in force and nothing can be changed; a Redis that lost it gets it back.

The configuration and DNS name workers through `offer`; those that operators removed are held back there.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.errors import BadRequest, NotFound, Unavailable
from gateway.shared.note import Note, because
from gateway.shared.replica import POLL_S, Replica
from gateway.tasks import end
from gateway.workers import fleet_state
from gateway.workers.adapters import AdapterNotLoaded, load_everywhere, unload_everywhere
from gateway.workers.fleet_state import FLEET, Adapter, Decide, FleetState, PolicyFleet
from gateway.workers.pool import WorkerPool
from gateway.workers.worker import Source, Worker
from scorers.endpoint import Endpoint

logger = logging.getLogger(__name__)

# Until every gateway has heard that an adapter is going.
SETTLE_S = 2.5 * POLL_S
MEND_S = 5.0
# Within this an adapter is on all workers or given up; what a gateway that died over it left behind goes after that.
LOAD_WITHIN_S = 240.0
_CLAIM_S = 300.0
_UNLOAD_CLAIM_S = 60.0


class Fleet:
    """redis: the caller closes it. templates: by policy, the first configured worker, whose key and TLS others get."""

    def __init__(
        self,
        redis: Redis,
        data_dir: Path,
        pools: Mapping[str, WorkerPool],
        templates: Mapping[str, Endpoint],
        registry: CollectorRegistry,
        *,
        poll_s: float = POLL_S,
        mend_s: float = MEND_S,
        settle_s: float = SETTLE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pools = pools
        self._templates = templates
        self._mend_s = mend_s
        self._settle_s = settle_s
        self._clock = clock
        self._offered: dict[str, dict[Source, list[Endpoint]]] = {name: {} for name in pools}
        self._replica = Replica(
            redis, data_dir / "fleet.json", FLEET.shared(), registry, self._changed, poll_s=poll_s, clock=clock
        )
        self._mending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read what was changed, else what was last known of it; apply it and follow. Raises nothing."""
        await self._replica.start()
        self._mending = asyncio.create_task(self._keep_mending(), name="bestow-fleet-mending")

    async def close(self) -> None:
        await end(self._mending)
        await self._replica.close()

    @property
    def state(self) -> FleetState:
        return self._replica.held or FleetState()

    def now(self) -> float:
        return self._clock()

    def offer(self, policy: str, endpoints: Sequence[Endpoint], source: Source) -> None:
        """The workers that the configuration ("file") or a DNS name ("dns") names now, all of that source."""
        self._offered[policy][source] = list(endpoints)
        self._apply(policy)

    def named(self, policy: str) -> set[str]:
        """The addresses that the configuration and DNS name, removed ones too."""
        return {one.url for endpoints in self._offered[policy].values() for one in endpoints}

    def find(self, worker_id: str) -> list[tuple[str, Worker]]:
        """The worker by policy: a server can serve several. Raises NotFound."""
        found = [(name, worker) for name, pool in self.pools.items() if (worker := pool.find(worker_id))]
        if not found:
            raise NotFound(f"there is no worker with the id {worker_id!r}", code="worker_not_found")
        return found

    async def add_worker(self, policy: str, url: str, made: Note) -> Worker:
        """Raises ApiError."""
        pool = self._pool(policy)
        url = fleet_state.worker_url(url, self._templates[policy])
        await self._change(fleet_state.add_worker(policy, url, self.named(policy), made))
        worker = next((one for one in pool.workers if one.client.url == url), None)
        if worker is None:
            raise Unavailable("the worker was added, and Redis went away before this gateway heard of it")
        logger.info("worker %s (%s) of %s was added by %s%s", worker.id, worker.name, policy, made.by, because(made))
        return worker

    async def drain(self, worker_id: str, on: bool, made: Note) -> list[tuple[str, Worker]]:
        """on: it gets nothing new; off: it does again. Raises ApiError."""
        found = self.find(worker_id)
        await self._change(fleet_state.drain_workers(_places(found), on, made))
        logger.info("worker %s is %s by %s%s", worker_id, "drained" if on else "undrained", made.by, because(made))
        return found

    async def remove(self, worker_id: str, made: Note) -> list[tuple[str, Worker]]:
        """It finishes what it has and goes, and stays away until it is added again. Raises ApiError."""
        found = self.find(worker_id)
        named = {policy: self.named(policy) for policy in self.pools}
        await self._change(fleet_state.remove_workers(_places(found), named, made))
        logger.info("worker %s was removed by %s%s", worker_id, made.by, because(made))
        return found

    async def load_adapter(self, policy: str, name: str, path: str, made: Note) -> Adapter:
        """Load it on every worker of the policy, or on none. Raises ApiError."""
        pool = self._pool(policy)
        name, path = fleet_state.adapter_name(name, policy), fleet_state.adapter_path(path)
        now = self._clock()
        claimed = await self._change(fleet_state.claim_adapter(policy, name, path, until=now + _CLAIM_S, now=now))
        if present := claimed.of(policy).adapters.get(name):
            return present

        async def commit() -> None:
            await self._change(fleet_state.keep_adapter(policy, name, path, made))

        try:
            async with asyncio.timeout(LOAD_WITHIN_S):
                await load_everywhere(pool.workers, name, path, commit)
        except BaseException as error:
            # Where even this cannot be said, the claim runs out.
            with contextlib.suppress(Unavailable):
                await self._change(fleet_state.give_up_adapter(policy, name, now=self._clock()))
            if isinstance(error, TimeoutError):
                raise AdapterNotLoaded(
                    f"the adapter {name} was not on all workers within {LOAD_WITHIN_S:g} s, and is on none now"
                ) from error
            raise
        # What this gateway knows of its workers has the adapter when this returns.
        await pool.check()
        logger.info("adapter %s of %s was loaded from %s by %s%s", name, policy, path, made.by, because(made))
        return Adapter(path, made)

    async def unload_adapter(self, policy: str, name: str, made: Note) -> None:
        """No worker gets requests for it any more; what runs on it ends, and no worker has it. Raises ApiError."""
        pool = self._pool(policy)
        now = self._clock()
        await self._change(fleet_state.retire_adapter(policy, name, unload_at=now + _UNLOAD_CLAIM_S, now=now))
        logger.info("adapter %s of %s was taken away by %s%s", name, policy, made.by, because(made))
        await asyncio.sleep(self._settle_s)
        await unload_everywhere([worker for worker in pool.workers if worker.up], name)
        with contextlib.suppress(Unavailable):
            await self._change(fleet_state.give_up_adapter(policy, name, now=self._clock()))
        await pool.check()

    async def _change(self, decide: Decide) -> FleetState:
        return await self._replica.change(lambda redis: FLEET.change(redis, self._replica.held, decide))

    def _pool(self, policy: str) -> WorkerPool:
        if policy not in self.pools:
            raise BadRequest(
                f"policy: there is no policy {policy!r} (there is {', '.join(sorted(self.pools))})", param="policy"
            )
        return self.pools[policy]

    def _changed(self, before: FleetState | None, held: FleetState) -> None:
        for policy in self.pools:
            if before is None or before.of(policy) != held.of(policy):
                self._apply(policy)

    def _apply(self, policy: str) -> None:
        """Make a pool what the document and the offers say. Doing it twice changes nothing."""
        pool, fleet = self.pools[policy], self.state.of(policy)
        named: set[str] = set()
        for source, endpoints in self._offered[policy].items():
            pool.put([one for one in endpoints if one.url not in fleet.removed and one.url not in named], source)
            named |= {one.url for one in endpoints}
        pool.put([self._added(policy, url) for url in fleet.added if url not in named], "admin")
        pool.adapters = {name: adapter.path for name, adapter in fleet.adapters.items()}
        pool.retired = frozenset(fleet.retired)
        for worker in pool.workers:
            drained = worker.client.url in fleet.drained
            if worker.draining != drained:
                pool.drain(worker, drained)

    def _added(self, policy: str, url: str) -> Endpoint:
        template = self._templates[policy]
        return Endpoint(url, template.key, template.tls)

    async def _keep_mending(self) -> None:
        while True:
            await asyncio.sleep(self._mend_s)
            await self.mend()

    async def mend(self) -> None:
        """Unload what should be gone and is still there, of adapters that were loaded here. Raises nothing.

        Not by an old document: an adapter may be wanted again.
        """
        for policy, pool in self.pools.items():
            self._apply(policy)
            if self._replica.away:
                continue
            for name in _due(self.state.of(policy), self._clock()):
                having = [worker for worker in pool.workers if worker.up and name in worker.models]
                await unload_everywhere(having, name)


def _due(fleet: PolicyFleet, now: float) -> list[str]:
    return [name for name, at in fleet.retired.items() if at <= now and name not in fleet.adapters]


def _places(found: Sequence[tuple[str, Worker]]) -> list[tuple[str, str]]:
    return [(policy, worker.client.url) for policy, worker in found]
