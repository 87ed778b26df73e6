"""Keeps this gateway's scorer server at what was decided: see `steps`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from gateway.control.scorer_changes import give_up_scorer, prove_scorer
from gateway.control.state import ControlState, Decide
from gateway.control.steps import GiveUp, Prove, Put, Remove, Step, steps
from gateway.errors import Unavailable
from gateway.shared.note import Note
from gateway.tasks import being_cancelled, end
from scorers.client import ScorerClient
from scorers.contract import ScorerList
from scorers.errors import BadScoreRequest, ChangesClosed, ScorerError, ScorerInUse, UnknownScorer

logger = logging.getLogger(__name__)

LOOK_S = 2.0
# While something is being loaded.
LOADING_S = 0.25
# What was loaded once and then cannot be is tried again so often.
AGAIN_S = 60.0


class ScorerKeeper:
    """server: where added scorers run; None: nowhere. state, change, refresh: the document, changing it, rereading it.

    away: whether Redis is, so that the document may be old. listed: told what the server has, each time.
    """

    def __init__(
        self,
        server: ScorerClient | None,
        state: Callable[[], ControlState],
        change: Callable[[Decide], Awaitable[ControlState]],
        refresh: Callable[[], Awaitable[None]],
        away: Callable[[], bool],
        listed: Callable[[ScorerList], None],
        *,
        look_s: float = LOOK_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._state = state
        self._change = change
        self._refresh = refresh
        self._away = away
        self._listed = listed
        self._look_s = look_s
        self._clock = clock
        self._again_at: dict[str, float] = {}
        self._lock = asyncio.Lock()
        self._said = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, so that what was added is there when the first request comes; then go on. Raises nothing."""
        if self._state().used:
            await self.look()
        self._task = asyncio.create_task(self._keep(), name="bestow-scorers")

    async def close(self) -> None:
        await end(self._task)

    async def until_settled(self, name: str, number: int, within_s: float) -> None:
        """Returns when this version is loaded or given up, or the time is over."""
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            await self.look()
            live = self._state().scorers.get(name)
            if live is None or live.number != number or live.proven:
                return
            if asyncio.get_running_loop().time() >= deadline:
                return
            await asyncio.sleep(LOADING_S)

    async def look(self) -> None:
        """One round. Raises nothing."""
        server = self._server
        if server is None:
            return
        async with self._lock:
            try:
                found = await server.listed()
                self._listed(found)
                if steps(self._state(), found.added, old=self._away()):
                    # By a document that is as new as what was listed: what was just removed must not come back.
                    await self._refresh()
                for step in steps(self._state(), found.added, old=self._away()):
                    await self._take(server, step)
            except (ScorerError, Unavailable) as error:
                self._say(f"the added scorers cannot be looked after: {error}")
            else:
                self._say("")

    async def _take(self, server: ScorerClient, step: Step) -> None:
        match step:
            case Put(name, settings, again):
                if again and self._again_at.get(name, 0.0) > self._clock():
                    return
                self._again_at[name] = self._clock() + AGAIN_S
                try:
                    await server.put(name, settings)
                except (BadScoreRequest, ChangesClosed, ScorerInUse) as error:
                    # It would say the same the next time.
                    await self._give_up(name, int(settings["version"]), str(error))
            case Remove(name):
                try:
                    await server.remove(name)
                except UnknownScorer:
                    return  # Another gateway was quicker.
                logger.info("the scorer %s is gone from its server", name)
            case Prove(name, number):
                await self._change(prove_scorer(name, number))
                logger.info("the scorer %s@%d is loaded", name, number)
            case GiveUp(name, number, reason):
                await self._give_up(name, number, reason)

    async def _give_up(self, name: str, number: int, reason: str) -> None:
        live = self._state().scorers.get(name)
        if live is not None and live.proven:
            self._say(f"the scorer {name}@{number} cannot be loaded any more: {reason}")
            return
        await self._change(give_up_scorer(name, number, reason, Note("gateway", self._clock())))
        logger.warning("the scorer %s@%d cannot be loaded: %s", name, number, reason)

    def _say(self, problem: str) -> None:
        """Each problem once."""
        if problem and problem != self._said:
            logger.warning("%s", problem)
        self._said = problem

    async def _keep(self) -> None:
        while not being_cancelled():
            loading = any(not live.proven for live in self._state().scorers.values())
            await asyncio.sleep(min(LOADING_S, self._look_s) if loading else self._look_s)
            if self._state().used:
                await self.look()
