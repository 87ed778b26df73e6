"""One gateway's copy of the profiles and of the scorers that were added, and the changes of them.

Every gateway follows the document in Redis within a second (`gateway.shared`). While Redis is away the last known copy
counts, also after a restart, and nothing can be changed.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.config import Config
from gateway.control.card_changes import put_card, remove_card
from gateway.control.cards import CardStore
from gateway.control.keeper import LOOK_S, ScorerKeeper
from gateway.control.profile_changes import left_alone, no_profile, revert_profile, seed_profiles, set_profile
from gateway.control.profiles import ProfileStore
from gateway.control.scorer_changes import put_scorer, remove_scorer
from gateway.control.scorers import ScorerDirectory
from gateway.control.state import CONTROL, ControlState, Decide, LiveProfile, LiveScorer, Settings
from gateway.decoding.card import ModelCard
from gateway.errors import BadRequest, Conflict, Unavailable
from gateway.shared.note import Note, because
from gateway.shared.replica import POLL_S, Replica
from gateway.tasks import being_cancelled, end
from scorers.client import ScorerClient

logger = logging.getLogger(__name__)

# How long a request to add a scorer waits for it; loading goes on after that.
WAIT_S = 25.0
_SEED_AGAIN_S = 2.0


class ScorerNotLoaded(BadRequest):
    """The scorer server could not load what the settings name; what was there before it stays."""

    code = "scorer_not_loaded"


class Control:
    """redis, server's session: the caller closes them. server: where added scorers run; None: there is none."""

    def __init__(
        self,
        redis: Redis,
        config: Config,
        profiles: ProfileStore,
        scorers: ScorerDirectory,
        server: ScorerClient | None,
        registry: CollectorRegistry,
        *,
        poll_s: float = POLL_S,
        look_s: float = LOOK_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._clock = clock
        self.profiles = profiles
        self.cards = CardStore()
        self.scorers = scorers
        self.server = server
        self._replica = Replica(
            redis, config.data_dir / "control.json", CONTROL.shared(), registry, self._hold, poll_s=poll_s, clock=clock
        )
        self._keeper = ScorerKeeper(
            server,
            state=lambda: self.state,
            change=self._change,
            refresh=self._replica.refresh,
            away=lambda: self._replica.away,
            listed=lambda found: scorers.declared(found.data),
            look_s=look_s,
            clock=clock,
        )
        self._seeding: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read what is in force, else what was last known of it; seed what the file has. Raises nothing."""
        await self._replica.start()
        if not await self._seed():
            self._seeding = asyncio.create_task(self._seed_later(), name="bestow-seed")
        await self._keeper.start()

    async def close(self) -> None:
        await end(self._seeding)
        await self._keeper.close()
        await self._replica.close()

    @property
    def state(self) -> ControlState:
        return self._replica.held or ControlState()

    def now(self) -> float:
        return self._clock()

    def profile(self, name: str) -> LiveProfile:
        """Its versions. Raises NotFound; Unavailable where Redis was never reached, so that nothing is known of it."""
        try:
            return self.state.profiles[name]
        except KeyError:
            if self._replica.held is None or (self._replica.away and name in self._config.profiles):
                raise Unavailable("profiles cannot be read now: Redis does not answer", retry_after=2.0) from None
            raise no_profile(name, self.state.profiles) from None

    async def set_profile(self, name: str, settings: Settings, expected: int, made: Note) -> LiveProfile:
        """Raises ApiError."""
        state = await self._change(set_profile(name, settings, expected, self._config.scorers, made))
        return self._told(name, state, made)

    async def revert_profile(self, name: str, to: int | None, expected: int | None, made: Note) -> LiveProfile:
        """Raises ApiError."""
        state = await self._change(revert_profile(name, to, expected, self._config.scorers, made))
        return self._told(name, state, made)

    async def put_scorer(self, name: str, settings: Settings, made: Note, wait_s: float = WAIT_S) -> LiveScorer:
        """Add a scorer or a new version of one, and wait until it is loaded: what is not `proven` then still loads.

        Raises ApiError; ScorerNotLoaded where it cannot be.
        """
        if self.server is None:
            raise Conflict(
                "this gateway has no scorer server for it: the scorers of its configuration are at none or at several "
                "addresses, of which none is scorer_server's",
                code="no_scorer_server",
            )
        state = await self._change(put_scorer(name, settings, self._config.scorers, made))
        wanted = state.scorers[name]
        logger.info("the scorer %s@%d was given by %s%s", name, wanted.number, made.by, because(made))
        await self._keeper.until_settled(name, wanted.number, wait_s)
        live = self.state.scorers.get(name)
        if live is not None and live.number == wanted.number:
            return live
        failure = self.state.failed.get(name)
        if failure is not None and failure.number == wanted.number:
            stays = f"; {name}@{live.number} stays" if live else ""
            raise ScorerNotLoaded(f"the scorer {name} cannot be loaded{stays}: {failure.reason}")
        raise Conflict(f"the scorer {name} was changed by somebody else meanwhile", code="version_conflict")

    async def remove_scorer(self, name: str, made: Note) -> None:
        """Raises ApiError."""
        await self._change(remove_scorer(name, self._config.scorers))
        logger.info("the scorer %s was removed by %s%s", name, made.by, because(made))
        await self._keeper.look()

    async def put_card(self, model: str, card: ModelCard, made: Note) -> None:
        """Raises ApiError."""
        await self._change(put_card(model, card, self._config.models, made))
        logger.info("the card of %s was published by %s%s", model, made.by, because(made))

    async def remove_card(self, model: str, made: Note) -> None:
        """Raises ApiError."""
        await self._change(remove_card(model))
        logger.info("the card of %s was removed by %s%s", model, made.by, because(made))

    async def _change(self, decide: Decide) -> ControlState:
        return await self._replica.change(lambda redis: CONTROL.change(redis, self._replica.held, decide))

    def _told(self, name: str, state: ControlState, made: Note) -> LiveProfile:
        profile = state.profiles[name]
        logger.info("the profile %s is at %d, by %s%s", name, profile.current.number, made.by, because(made))
        return profile

    def _hold(self, _: ControlState | None, held: ControlState) -> None:
        self.scorers.hold(held)
        self.profiles.hold(held)
        self.cards.hold(held)

    async def _seed(self) -> bool:
        """Whether it could be done."""
        profiles = self._config.profiles
        try:
            state = await self._change(seed_profiles(profiles, self._clock()))
        except Unavailable:
            return False
        for name in left_alone(profiles, state):
            logger.warning(
                "profiles.%s of the configuration file is not followed: the profile was tuned since (%s@%d by %s). To "
                "go by the file again: bestow profile set %s --from-file FILE",
                name,
                name,
                state.profiles[name].current.number,
                state.profiles[name].current.note.by,
                name,
            )
        return True

    async def _seed_later(self) -> None:
        while not being_cancelled():
            await asyncio.sleep(_SEED_AGAIN_S)
            if await self._seed():
                return
