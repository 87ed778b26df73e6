"""Which release answers a request, and so by which weights and which reward model: decided once, kept to its end.

    safe mode            the configuration's own, for everybody
    guidance.policy      an operator's wish: these weights, ranked as the champion's; no part of any canary
    a running canary     its challenger or its control, by the user's group (`assignment.arm_of`)
    else                 the champion

What no worker has, or what ranks by a scorer that this gateway does not know, answers nobody: whoever should get it
gets the next of control, champion, what can be rolled back to, and the configuration's own. That is `fallback`: the
receipt says so, it is counted, and it counts for neither group of a canary.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.config import Config, ModelConfig
from gateway.control.profiles import Profile
from gateway.errors import NotFound
from gateway.log.records import ReleaseRecord
from gateway.release.route import OWN, Route, choose, record_of, shadow_of
from gateway.release.state import RELEASES, Bundle, Decide, ReleaseState
from gateway.release.voiding import voided
from gateway.shared.replica import POLL_S, Replica
from gateway.tasks import being_cancelled, end
from gateway.workers.pool import WorkerPool

logger = logging.getLogger(__name__)

_SHARDS = "bestow:{release}:shards"
_ANNOUNCE_S = 30.0

_NUMBERED = re.compile(r"(?P<policy>.+)-v(?P<number>[1-9][0-9]*)")


class Releases:
    """This gateway's copy of what is released, and the changes of it. redis: the caller closes it.

    pools: by policy. scorers: those that can be asked, by name. clock: seconds since 1970.
    """

    def __init__(
        self,
        redis: Redis,
        config: Config,
        pools: Mapping[str, WorkerPool],
        scorers: Container[str],
        registry: CollectorRegistry,
        *,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self._pools = pools
        self._scorers = scorers
        self._clock = clock
        self._replica = Replica(
            redis,
            config.data_dir / "release.json",
            RELEASES.shared(),
            registry,
            self._changed,
            poll_s=poll_s,
            clock=clock,
        )
        self._fallbacks = Counter(
            "bestow_release_unavailable",
            "Requests that got another release than their user's, which no worker has or no scorer server.",
            ["model"],
            registry=registry,
        )
        self._redis = redis
        self._announcing: asyncio.Task[None] | None = None
        self._overlaid: dict[tuple[str, int, str | None], tuple[Profile, Bundle, Profile]] = {}

    async def start(self) -> None:
        """Read what is released, else what was last known of it; then follow. Raises nothing."""
        await self._replica.start()
        self._announcing = asyncio.create_task(self._keep_announcing(), name="bestow-release-shard")

    async def close(self) -> None:
        await end(self._announcing)
        await self._replica.close()

    @property
    def state(self) -> ReleaseState:
        return self._replica.held or ReleaseState()

    @property
    def away(self) -> bool:
        """Redis is, so that the state may be old."""
        return self._replica.away

    def now(self) -> float:
        return self._clock()

    async def change(self, decide: Decide) -> ReleaseState:
        """What is stored then; this gateway has it too. Raises Unavailable, and what `decide` raises."""
        return await self._replica.change(lambda redis: RELEASES.change(redis, self._replica.held, decide))

    async def refresh(self) -> None:
        """Look now. Raises nothing."""
        await self._replica.refresh()

    def route(self, name: str, model: ModelConfig, user: str | None) -> Route:
        """Of a request. name: the public model's. user: as `unit_of` says it."""
        state = self.state
        if state.safe_mode is not None:
            return Route(*self._weights(model, OWN), ReleaseRecord(safe_mode=True))
        released = state.of(name)
        choice = choose(released, self.config.release, user, partial(self._can, model))
        if choice.fallback:
            self._fallbacks.labels(name).inc()
        return Route(
            *self._weights(model, choice.bundle),
            record_of(choice),
            overlay=partial(self._profile, choice.bundle, shadow_of(released)),
        )

    def pinned(self, name: str, model: ModelConfig, wish: str) -> Route:
        """Of an operator's request for certain weights, loaded on some worker. Raises NotFound, which names them."""
        pool, own = self._pools[model.policy], wish == model.policy
        if not pool.able(None if own else wish):
            known = ", ".join(pool.served()) or "none"
            raise NotFound(
                f"guidance.policy: no worker of {model.policy} serves {wish!r} (there is {known})",
                param="guidance.policy",
                code="policy_not_served",
            )
        state = self.state
        safe_mode = state.safe_mode is not None
        ranks = OWN if safe_mode else state.of(name).champion
        if ranks.reward is not None and ranks.reward not in self._scorers:
            ranks = OWN
        version = self._own_version(model.policy)
        match = _NUMBERED.fullmatch(wish)
        if match and match["policy"] == model.policy:
            version = f"{model.policy}@{match['number']}"
        elif not own:
            version = f"{version}+{wish}"
        record = ReleaseRecord(safe_mode=safe_mode, pinned=True)
        return Route(None if own else wish, version, record, overlay=partial(self._profile, ranks, None))

    async def shards(self) -> list[str]:
        """Of the log: those that gateways write to. Raises RedisError."""
        found: Any = await self._redis.smembers(_SHARDS)
        return sorted({shard.decode() for shard in found} | {self.config.log.shard})

    async def _keep_announcing(self) -> None:
        """Whoever leads reads what this gateway logs, too."""
        while not being_cancelled():
            with suppress(RedisError, OSError):
                await cast(Any, self._redis.sadd(_SHARDS, self.config.log.shard))
            await asyncio.sleep(_ANNOUNCE_S)

    def ranking(self) -> set[str]:
        """The scorers that releases put in the place of profiles'."""
        released = self.state.models.values()
        bundles = [one.champion for one in released] + [one.canary.bundle for one in released if one.canary]
        return {bundle.reward for bundle in bundles if bundle.reward is not None}

    def _weights(self, model: ModelConfig, bundle: Bundle) -> tuple[str | None, str]:
        """What workers know the bundle's weights by, and their version. Without a policy, the configuration's own."""
        if bundle.policy:
            return bundle.served_as, bundle.policy
        return model.adapter, self._own_version(model.policy) + (f"+{model.adapter}" if model.adapter else "")

    def _own_version(self, policy: str) -> str:
        return f"{policy}@{self.config.policies[policy].version}"

    def _can(self, model: ModelConfig, bundle: Bundle) -> bool:
        """Whether this gateway can answer by it."""
        served_as, _ = self._weights(model, bundle)
        ranked = bundle.reward is None or bundle.reward in self._scorers
        return ranked and self._pools[model.policy].able(served_as) > 0

    def _profile(self, bundle: Bundle, shadow: str | None, given: Profile) -> Profile:
        """The profile as it holds for a release; kept, since checking settings takes longer than a request has."""
        key = (given.name, bundle.release, shadow)
        known = self._overlaid.get(key)
        if known is None or known[0] is not given or known[1] != bundle:
            known = self._overlaid[key] = (given, bundle, laid_over(given, bundle, shadow))
        return known[2]

    def _changed(self, before: ReleaseState | None, held: ReleaseState) -> None:
        self._overlaid.clear()
        if (before.safe_mode if before else None) != held.safe_mode:
            made = held.safe_mode
            logger.warning(
                "safe mode is %s", f"on, by {made.by}: {made.reason or 'no reason given'}" if made else "off"
            )


def laid_over(given: Profile, bundle: Bundle, shadow: str | None) -> Profile:
    """A profile as it holds with a release's reward model. shadow: a scorer that is being tried beside it."""
    settings = voided(given.settings, bundle)
    if shadow is not None and shadow not in {scorer for scorer, _ in settings.scorers.values()}:
        settings = settings.model_copy(update={"shadow": [*settings.shadow, shadow]})
    return given if settings is given.settings else Profile(given.name, given.number, settings)
