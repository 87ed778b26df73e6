"""Shadow scoring: scorers that decide nothing yet read the same candidates once the answer has gone out.

It holds up no answer: few requests are scored at a time, few wait, and what comes on top is dropped and counted.
How far a scorer agrees with what decides is added up (`agreement`), over all gateways by way of Redis (`shadow_sums`),
and what it said goes into the log.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.control import shadow_sums
from gateway.control.agreement import Agreement, compare
from gateway.control.metrics import ShadowMetrics
from gateway.control.profiles import Profile
from gateway.control.shadow_sums import Pair
from gateway.decoding.candidate import Judged
from gateway.decoding.strategy import Decision
from gateway.errors import Unavailable
from gateway.ids import new_uuid7
from gateway.log.records import Record, ScoreRecord, ShadowScores
from gateway.scoring import Conversation, ScorerHandle
from gateway.tasks import being_cancelled, end
from scorers.contract import Score

logger = logging.getLogger(__name__)

AT_ONCE = 2
MOST_WAITING = 64
# The answer is being written when a request is offered.
AFTER_S = 0.05
WRITE_S = 1.0
_REDIS_S = 2.0


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was delivered, as a shadow scorer is asked about it. deciding: name@N of the reward model, if there is one.

    candidates: those that the reward model scored, or that could have been delivered. peers: positions among them of
    those that could have been in the place of `chosen`, which is one of them.
    """

    interaction: str
    tenant: str
    profile: Profile
    deciding: str | None
    conversation: Conversation
    candidates: tuple[Judged, ...]
    peers: tuple[int, ...]
    chosen: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    scorer: str
    delivered: Delivered
    due: float


class ShadowScoring:
    """scorers: who is asked, by name. accept: takes what was said, for the log. redis: the caller closes it.

    clock: seconds since 1970.
    """

    def __init__(
        self,
        scorers: Mapping[str, ScorerHandle],
        accept: Callable[[Record], object],
        redis: Redis,
        registry: CollectorRegistry,
        *,
        at_once: int = AT_ONCE,
        most_waiting: int = MOST_WAITING,
        after_s: float = AFTER_S,
        write_s: float = WRITE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._scorers = scorers
        self._accept = accept
        self._redis = redis
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._after_s = after_s
        self._write_s = write_s
        self._clock = clock
        self._run = secrets.token_hex(6)
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._sums: dict[Pair, Agreement] = {}
        self._unwritten: set[Pair] = set()
        self._metrics = ShadowMetrics(registry, lambda: len(self._queue))
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            *(asyncio.create_task(self._work(), name=f"bestow-shadow-{number}") for number in range(self._at_once)),
            asyncio.create_task(self._keep_writing(), name="bestow-shadow-sums"),
        ]

    async def close(self) -> None:
        """What waits is let go; what was counted is written."""
        await end(*self._tasks)
        await self._write()

    def offer(self, delivered: Delivered | None) -> None:
        """Take a request whose answer goes out now; None: there is nothing to compare. Never waits, never raises."""
        if delivered is None:
            return
        for name in delivered.profile.settings.shadow:
            if len(self._queue) >= self._most_waiting:
                self._metrics.requests.labels(name, "dropped").inc()
                continue
            self._queue.append(_Waiting(name, delivered, asyncio.get_running_loop().time() + self._after_s))
            self._arrived.set()

    async def sums(self, names: Iterable[str]) -> dict[Pair, Agreement]:
        """All gateways' for these scorers. Raises Unavailable."""
        wanted = set(names)
        try:
            async with asyncio.timeout(_REDIS_S):
                found = await shadow_sums.read(self._redis, wanted, self._run)
        except (RedisError, TimeoutError, OSError) as error:
            raise Unavailable("agreement cannot be read now: Redis does not answer", retry_after=2.0) from error
        for pair, agreement in self._sums.items():
            if pair.name in wanted:
                found[pair] = found.get(pair, Agreement()) + agreement
        return found

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while not being_cancelled():
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            waiting = self._queue.popleft()
            await asyncio.sleep(max(0.0, waiting.due - loop.time()))
            try:
                await self._score(waiting.scorer, waiting.delivered)
            except Unavailable:
                self._metrics.requests.labels(waiting.scorer, "failed").inc()
            except Exception:  # A bug here must not end shadow scoring.
                logger.exception("shadow scoring of %s failed", waiting.delivered.interaction)

    async def _score(self, name: str, delivered: Delivered) -> None:
        """Raises Unavailable where there is no such scorer any more."""
        handle = self._scorers[name]
        began = time.perf_counter()
        scores = await handle.score(delivered.conversation, [one.candidate.message for one in delivered.candidates])
        seconds = time.perf_counter() - began
        values = [score.value for score in scores]
        rewards = [one.reward for one in delivered.candidates]
        compared = compare(rewards, values, delivered.peers, delivered.chosen, seconds)
        pair = Pair(handle.version, delivered.profile.version, delivered.deciding or "none")
        self._sums[pair] = self._sums.get(pair, Agreement()) + compared.agreement
        self._unwritten.add(pair)
        self._count(name, compared.agreement, compared.tau, seconds)
        indices = [one.candidate.index for one in delivered.candidates]
        self._accept(
            ShadowScores(
                id=new_uuid7(),
                interaction=delivered.interaction,
                created=self._clock(),
                scorer=handle.version,
                profile=delivered.profile.version,
                reward_model=delivered.deciding,
                scores={index: _recorded(score) for index, score in zip(indices, scores, strict=True)},
                winner=None if compared.winner is None else indices[compared.winner],
                ms=round(seconds * 1000, 3),
                tenant=delivered.tenant,
            )
        )

    def _count(self, name: str, agreement: Agreement, tau: float | None, seconds: float) -> None:
        metrics = self._metrics
        metrics.requests.labels(name, "failed" if agreement.failures == agreement.candidates else "scored").inc()
        metrics.candidates.labels(name).inc(agreement.candidates)
        metrics.failures.labels(name).inc(agreement.failures)
        metrics.seconds.labels(name).observe(seconds)
        if agreement.compared:
            metrics.winners.labels(name, "other" if agreement.differs else "same").inc()
        if tau is not None:
            metrics.rank_distance.labels(name).observe((1 - tau) / 2)

    async def _keep_writing(self) -> None:
        while not being_cancelled():
            await asyncio.sleep(self._write_s)
            await self._write()

    async def _write(self) -> None:
        """What changed since the last time. Raises nothing; what Redis does not take is written later."""
        pairs, self._unwritten = self._unwritten, set()
        if not pairs:
            return
        try:
            async with asyncio.timeout(_REDIS_S):
                await shadow_sums.write(self._redis, self._run, {pair: self._sums[pair] for pair in pairs})
        except (RedisError, TimeoutError, OSError):
            self._unwritten |= pairs


def delivered_of(
    interaction: str,
    tenant: str,
    profile: Profile,
    deciding: str | None,
    conversation: Conversation,
    decision: Decision | None,
) -> Delivered | None:
    """What shadow scorers are asked about; None where there are none, or nothing to compare.

    Those that could have been in the winner's place are the ones that differ from it in their scores alone: safe,
    keeping the asked form as it does, and read by the same stages.
    """
    if not profile.settings.shadow or decision is None or not decision.order:
        return None
    judged, winner = decision.judged, decision.judged[decision.order[0]]
    rivals = {position for position in decision.order if _rank(judged[position]) == _rank(winner)}
    asked = [position for position, one in enumerate(judged) if one.reward is not None or position in rivals]
    if len(asked) < 2:
        return None
    peers = tuple(place for place, position in enumerate(asked) if position in rivals)
    candidates = tuple(judged[position] for position in asked)
    chosen = asked.index(decision.order[0])
    return Delivered(interaction, tenant, profile, deciding, conversation, candidates, peers, chosen)


def _rank(one: Judged) -> tuple[bool, int, bool]:
    return one.broken is not None, one.stages, one.reward is None


def _recorded(score: Score) -> ScoreRecord:
    return ScoreRecord(score.value, score.calibrated, score.parts, score.steps, score.error)
