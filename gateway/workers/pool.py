"""The workers of one policy: which there are, which can be used, and which a request goes to.

put, drain      who is in the pool (file, DNS, operators), and who gets nothing new
health          who is up (`health.py`); the circuit breaker of each says who fails at what is asked (`breaker.py`)
enter           who gets this request: affinity within a bound, else the less loaded of two (`routing.py`)
sample          one request with n, over as many workers as it takes (`fan_out.py`)
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp

from gateway.admission.capacity import Capacity
from gateway.config import PolicyConfig
from gateway.errors import ApiError, Unavailable, WorkerError
from gateway.tasks import end
from gateway.workers.breaker import BreakerOpen, CircuitBreaker, Permit
from gateway.workers.client import Limits, NotServed, WorkerClient, WorkerUnreachable, reason_of
from gateway.workers.fan_out import FanOut, Order
from gateway.workers.health import HealthCheck
from gateway.workers.metrics import PoolMetrics
from gateway.workers.prefix import PrefixKey
from gateway.workers.retries import RetryBudget, backoff_s
from gateway.workers.routing import Router
from gateway.workers.stream import Item
from gateway.workers.worker import Source, Worker
from scorers.endpoint import Endpoint

logger = logging.getLogger(__name__)

INTERVAL_S = 2.0
# After a miss a worker is asked again sooner: a hung one holds requests until it is taken for dead.
SUSPECT_INTERVAL_S = 0.5
# Tokens of an answer, before any was seen; and how much each one changes the average.
_FIRST_GUESS = 128.0
_WEIGHT = 0.05

T = TypeVar("T")


class WorkerPool:
    """The workers of the policy that they serve under `served_name`. session: shared, the caller's.

    adapters: the LoRA adapters that each worker must have before it takes traffic, name -> path; retired: those that
    are going, wherever they still are.
    on_change: called when there may be room for more requests.
    """

    def __init__(
        self,
        served_name: str,
        settings: PolicyConfig,
        session: aiohttp.ClientSession,
        metrics: PoolMetrics,
        *,
        rng: random.Random | None = None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.served_name = served_name
        self.metrics = metrics
        self.workers: list[Worker] = []
        self.adapters: dict[str, str] = {}
        self.retired: frozenset[str] = frozenset()
        self.on_change: Callable[[], None] = lambda: None
        self.split_n = settings.split_n
        self._max_sequences = settings.max_sequences
        limits = settings.limits
        self._limits = Limits(limits.connect_s, limits.first_token_s, limits.token_s)
        self._session = session
        self._rng = rng or random.Random()
        self._router = Router(self._rng, bound=settings.affinity_bound)
        self._clock = asyncio.get_running_loop().time
        self.budget = RetryBudget(self._clock)
        self._health = HealthCheck(served_name, metrics)
        self._interval_s = interval_s
        self._watches: dict[Worker, asyncio.Task[None]] = {}
        self._watching = False
        self._tokens_each = _FIRST_GUESS

    # Who is in the pool.

    def put(self, endpoints: Sequence[Endpoint], source: Source) -> None:
        """The addresses that a source names now: new ones join once they are healthy, missing ones finish and go."""
        named = {endpoint.url: endpoint for endpoint in endpoints}
        for worker in self.workers:
            if worker.source == source:
                worker.leaving = worker.client.url not in named
        known = {worker.client.url for worker in self.workers}
        for url, endpoint in named.items():
            if url not in known:
                worker = Worker(
                    WorkerClient(endpoint, self._session, self._limits), source, CircuitBreaker(self._clock)
                )
                self.workers.append(worker)
                self._watch(worker)
        self._let_go()

    def drain(self, worker: Worker, on: bool = True) -> None:
        """on: it gets nothing new, and finishes what it has."""
        if worker.draining != on:
            logger.info(
                "worker %s (%s) of %s is %s", worker.id, worker.name, self.served_name, "draining" if on else "back"
            )
        worker.draining = on
        self.on_change()

    def find(self, worker_id: str) -> Worker | None:
        return next((worker for worker in self.workers if worker.id == worker_id), None)

    def _let_go(self) -> None:
        for worker in [one for one in self.workers if one.leaving and not one.load.sequences]:
            logger.info("worker %s (%s) of %s is gone", worker.id, worker.name, self.served_name)
            self.workers.remove(worker)
            if watch := self._watches.pop(worker, None):
                watch.cancel()

    # Who is up.

    async def start(self) -> None:
        """Ask every worker once, then keep asking in the background."""
        await self.check()
        self._watching = True
        for worker in self.workers:
            self._watch(worker)

    async def close(self) -> None:
        self._watching = False
        await end(*self._watches.values())

    async def check(self) -> None:
        """Ask every worker now."""
        await asyncio.gather(*(self._check_one(worker) for worker in list(self.workers)))

    def _watch(self, worker: Worker) -> None:
        if self._watching:
            self._watches[worker] = asyncio.create_task(self._keep_checking(worker), name=f"health of {worker.id}")

    async def _keep_checking(self, worker: Worker) -> None:
        while True:
            await self._check_one(worker)
            # Never in step: a fleet's questions must not all come at once.
            interval_s = SUSPECT_INTERVAL_S if worker.misses else self._interval_s * self._rng.uniform(0.8, 1.2)
            await asyncio.sleep(interval_s)

    async def _check_one(self, worker: Worker) -> None:
        try:
            await self._health.look_at(worker, self.adapters)
        except Exception:  # A bug in reading one worker must not end the watching of it.
            logger.exception("worker %s cannot be checked", worker.id)
        self.on_change()

    def failed(self, worker: Worker, error: ApiError) -> None:
        """A request failed on it."""
        if isinstance(error, WorkerUnreachable) and error.refused:
            self._health.mark(worker, False, reason_of(error))

    @property
    def ready(self) -> bool:
        return any(worker.takes_new for worker in self.workers)

    @property
    def max_model_len(self) -> int | None:
        """The shortest context among the workers that are up, in tokens."""
        models = (worker.models.get(self.served_name) for worker in self.workers if worker.up)
        return min((model.max_model_len for model in models if model and model.max_model_len), default=None)

    def able(self, adapter: str | None) -> int:
        """How many workers take requests for the policy or an adapter of it."""
        return len(self._serving(adapter))

    def served(self) -> list[str]:
        """All that requests can be answered by: the policy, its adapters and aliases, by the workers' names."""
        names = {name for worker in self.workers if worker.takes_new for name in worker.models}
        return sorted(name for name in names if self.able(None if name == self.served_name else name))

    def capacity(self) -> Capacity:
        """How full the workers are."""
        usable = [worker for worker in self.workers if worker.takes_new]
        engines = [worker.load.engine for worker in usable if worker.load.engine]
        return Capacity(
            places=self._max_sequences * len(usable),
            running=sum(worker.load.sequences for worker in usable),
            others=sum(worker.load.others for worker in usable),
            waiting=sum(worker.load.queued for worker in usable),
            kv_usage=max((engine.kv_usage for engine in engines if engine.kv_usage is not None), default=None),
        )

    # Who gets a request.

    def enter(
        self, adapter: str | None, avoid: frozenset[Worker], key: PrefixKey | None, cost: float
    ) -> tuple[Worker, Permit | None]:
        """The worker for a request, and its breaker's permit. avoid: where there is another. cost: in tokens.

        Where every breaker is open the least bad is tried without a permit: it cannot be worse than a refusal.
        Raises Unavailable where no worker is up.
        """
        return self._enter_one_of(self._serving(adapter), avoid, key, cost)

    def _enter_one_of(
        self, serving: Sequence[Worker], avoid: frozenset[Worker], key: PrefixKey | None, cost: float
    ) -> tuple[Worker, Permit | None]:
        if not serving:
            raise Unavailable("no worker of this model is up; try again shortly", retry_after=2.0)
        allowed = [worker for worker in serving if worker.breaker.allows()]
        fresh = [worker for worker in allowed if worker not in avoid]
        trusted = [worker for worker in fresh if not worker.misses]
        worker = self._router.choose(trusted or fresh or allowed or serving, key, cost)
        try:
            return worker, worker.breaker.enter()
        except BreakerOpen:
            return worker, None

    def _serving(self, adapter: str | None) -> list[Worker]:
        model = adapter or self.served_name
        if model in self.retired:
            return []
        return [
            worker
            for worker in self.workers
            if worker.takes_new and model in worker.models and worker.alias in (None, adapter)
        ]

    def _answering(self, adapter: str | None) -> list[Worker]:
        """Who can be asked what samples nothing: where the policy's own weights are nowhere, any version of it."""
        serving = self._serving(adapter)
        return serving or [worker for worker in self.workers if worker.takes_new and adapter is None]

    def expected_tokens(self, n: int, max_tokens: int | None) -> float:
        """Of n candidates, by what others had."""
        return n * min(self._tokens_each, max_tokens or self._tokens_each)

    def sampled(self, tokens: int) -> None:
        """A candidate has ended after that many."""
        self._tokens_each += _WEIGHT * (tokens - self._tokens_each)

    def released(self) -> None:
        """A worker has less to do."""
        self._let_go()
        self.on_change()

    def backoff_s(self, attempt: int) -> float:
        return backoff_s(attempt, self._rng)

    # What a request can ask for.

    def sample(self, order: Order) -> AsyncGenerator[Item, None]:
        """n choices of a completion: their parts, each choice as it finishes, then what they used. Raises ApiError."""
        return FanOut(self, order).items()

    async def count_tokens(self, body: Mapping[str, Any], adapter: str | None = None) -> int:
        """Tokens of a request's prompt. Raises ApiError."""
        return await self._ask(lambda client, model: client.count_tokens({**body, "model": model}), adapter)

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """The text that token ids stand for. Raises ApiError."""
        return await self._ask(lambda client, model: client.detokenize(model, tokens))

    async def prompt_ids(self, body: Mapping[str, Any], adapter: str | None = None) -> list[int]:
        """The token ids of a request's prompt. Raises ApiError."""
        return await self._ask(lambda client, model: client.prompt_ids({**body, "model": model}), adapter)

    async def derender(self, path: str, body: Mapping[str, Any], adapter: str | None = None) -> Any:
        """What a worker's parsers make of token ids. Raises ApiError; NotServed where none does that."""
        return await self._ask(lambda client, model: client.derender(path, {**body, "model": model}), adapter)

    async def relay(self, path: str, body: Mapping[str, Any]) -> bytes:
        """A worker's own answer to a request that samples nothing. Raises ApiError."""
        return await self._ask(lambda client, model: client.relay(path, {**body, "model": model}))

    async def _ask(self, question: Callable[[WorkerClient, str], Awaitable[T]], adapter: str | None = None) -> T:
        """One worker's answer to what samples nothing; another is asked where one fails."""
        avoid: frozenset[Worker] = frozenset()
        while True:
            worker, permit = self._enter_one_of(self._answering(adapter), avoid, None, 1.0)
            try:
                answer = await question(worker.client, adapter or self.served_name)
            except NotServed:
                raise
            except (WorkerError, Unavailable) as error:
                if permit:
                    permit.failure()
                self.failed(worker, error)
                avoid |= {worker}
                if not set(self._answering(adapter)) - avoid:
                    raise
                continue
            finally:
                if permit:
                    permit.abandoned()
            return answer
