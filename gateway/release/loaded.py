"""Keeps loaded what serves and what a rollback would need, and unloads what nobody needs.

It is the leader's, and works in the background. What runs on an adapter that goes ends first (`Fleet.unload_adapter`).
"""

import asyncio
from collections.abc import Callable, Sequence

from gateway.config import Config
from gateway.control.control import Control
from gateway.errors import ApiError
from gateway.release.preparing import Surplus, absent, prepare, surplus
from gateway.release.state import Bundle, ReleaseState
from gateway.shared.note import Note
from gateway.tasks import end
from gateway.workers.fleet import Fleet

# After a move, until what it has left without use is unloaded: every gateway has heard of it, what waited has begun.
SETTLE_S = 60.0


class LoadedKeeper:
    """note: makes the leader's own, from a reason. failed: is told of what could not be done; it is tried again."""

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        control: Control,
        note: Callable[[str], Note],
        failed: Callable[[ApiError], None],
        *,
        again_s: float,
        settle_s: float,
    ) -> None:
        self._policies = {model: one.policy for model, one in config.models.items()}
        self._fleet = fleet
        self._control = control
        self._note = note
        self._failed = failed
        self.again_s = again_s
        self.settle_s = settle_s
        self._begun_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def look(self, state: ReleaseState, now: float, *, busy: bool) -> None:
        """Begin what is to be done, if anything. busy: a release is being prepared: nothing is unloaded meanwhile."""
        if (self._task is not None and not self._task.done()) or now - self._begun_at < self.again_s:
            return
        fleet, control = self._fleet.state, self._control.state
        missing = absent(state, fleet, control, self._policies)
        last = max((one.moves[-1].note.at for one in state.models.values() if one.moves), default=now)
        found = Surplus()
        if not busy and now - last >= self.settle_s:
            found = surplus(state, fleet, control, self._policies, self._profiled())
        if missing or found != Surplus():
            self._begun_at = now
            self._task = asyncio.create_task(self._put_right(missing, found), name="bestow-release-loaded")

    async def close(self) -> None:
        await end(self._task)

    async def _put_right(self, missing: Sequence[tuple[str, Bundle]], found: Surplus) -> None:
        try:
            for policy, bundle in missing:
                await prepare(self._fleet, self._control, policy, bundle, self._note(f"release {bundle.release}"))
            note = self._note("no release needs it")
            for policy, name in found.adapters:
                await self._fleet.unload_adapter(policy, name, note)
            for name in found.scorers:
                await self._control.remove_scorer(name, note)
        except ApiError as error:
            self._failed(error)

    def _profiled(self) -> set[str]:
        """The scorers that profiles name."""
        settings = [profile.settings for profile in self._control.profiles.all()]
        return {name for one in settings for name in (*(scorer for scorer, _ in one.scorers.values()), *one.shadow)}
