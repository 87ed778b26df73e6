"""Moves releases on: runs on every gateway, acts on the one that leads.

    preparing   the scorer is loaded, the adapter is on every worker (`preparing.py`): in the background, model by model
    shadow      a new reward model has read along for long enough (`shadowing.py`)
    canary      what users did is read (`evidence.py`), judged (`judging.py`), and what was judged is done
    after       what a rollback would need is loaded; what nobody needs is unloaded, once it has settled

All that it knows is in Redis: a gateway that takes over goes on where the last one was killed. Each write carries the
lock's token, and names the moment that it was decided about (`moves.py`).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from redis.exceptions import RedisError

from gateway.config import Config
from gateway.control.control import Control
from gateway.control.shadow import ShadowScoring
from gateway.errors import ApiError, BestowError, Conflict
from gateway.release import moves
from gateway.release.assignment import reach
from gateway.release.counts import Counts
from gateway.release.evidence import EvidenceStore
from gateway.release.judging import Decision, judge
from gateway.release.leader import Leader
from gateway.release.loaded import SETTLE_S, LoadedKeeper
from gateway.release.metrics import ReleaseMetrics
from gateway.release.outlook import outlook
from gateway.release.overview import Known
from gateway.release.preparing import BY, NotYet, lacking, lasting, prepare
from gateway.release.routes import Releases
from gateway.release.shadowing import Shadowed, judge_shadow, reads_along
from gateway.release.state import Canary, Decide, ModelRelease, Move, ReleaseState
from gateway.shared.note import MAX_REASON, Note, because
from gateway.tasks import being_cancelled, end
from gateway.workers.adapters import AdapterNotLoaded
from gateway.workers.fleet import Fleet
from gateway.workers.pool import WorkerPool

logger = logging.getLogger(__name__)

# An adapter that a worker did not take is tried again before the release is rejected: the worker may have been ending.
TRIES = 3
AGAIN_S = 5.0


class ReleaseController:
    """told: called with each move that this gateway has made, and its model."""

    def __init__(
        self,
        config: Config,
        releases: Releases,
        leader: Leader,
        evidence: EvidenceStore,
        fleet: Fleet,
        control: Control,
        shadow: ShadowScoring,
        metrics: ReleaseMetrics,
        told: Callable[[str, Move], None],
        *,
        again_s: float = AGAIN_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._config = config
        self._settings = config.release
        self.releases = releases
        self._leader = leader
        self._evidence = evidence
        self._fleet = fleet
        self._control = control
        self._shadow = shadow
        self._metrics = metrics
        self._told = told
        self._again_s = again_s
        self._preparing: dict[str, tuple[Canary, asyncio.Task[None]]] = {}
        self._keeper = LoadedKeeper(
            config, fleet, control, self._note, self._failed, again_s=again_s, settle_s=settle_s
        )
        self._waits: dict[str, str] = {}
        self._said = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name="bestow-releases")

    async def close(self) -> None:
        """What is under way is broken off; the next leader goes on."""
        await end(self._task, *(task for _, task in self._preparing.values()))
        await self._keeper.close()
        await self._leader.close()

    @property
    def leads(self) -> bool:
        return self._leader.fence is not None

    async def _keep(self) -> None:
        while not being_cancelled():
            await asyncio.sleep(self._settings.poll_s)
            try:
                await self.step()
            except (BestowError, RedisError, OSError, TimeoutError) as error:
                self._failed(error)
            except Exception:  # A bug in one round must not end the watching of a canary.
                self._metrics.failures.labels("bug").inc()
                logger.exception("a round of the release controller failed")

    async def step(self) -> None:
        """One round. Raises what Redis raises, and ApiError."""
        fence = await self._leader.lead()
        self._metrics.leader.set(fence is not None)
        if fence is None:
            self._metrics.evidence_read(None)
            self._metrics.show({})
            await self._break_off({})
            return
        await self.releases.refresh()
        if self.releases.away:
            return
        await self._evidence.advance(fence)
        self._metrics.evidence_read(self.releases.now())
        state = self.releases.state
        await self._break_off(state.models)
        counted: dict[str, Counts] = {}
        for model, one in state.models.items():
            if one.canary is None or model not in self._config.models:
                continue
            if one.canary.phase in ("canary", "watch"):
                counted[model] = await self._counts(model, one.canary)
            if state.safe_mode is None:
                await self._look(fence, model, one.canary, counted.get(model, Counts()))
        self._metrics.show(
            {
                model: {"challenger": counts.challenger.users, "control": counts.control.users}
                for model, counts in counted.items()
            }
        )
        self._keeper.look(state, self.releases.now(), busy=bool(self._preparing))
        self._said = ""

    # What anybody may ask.

    async def known(self, model: str, canary: Canary) -> Known:
        """What is known of a challenger, and what the leader would decide now. Raises nothing."""
        now = self.releases.now()
        missing = moves.approvals_missing(canary, self._settings.two_person)
        found = Known(self._share(canary), self.waits_for(model, canary), missing)
        try:
            if canary.phase == "shadow":
                return replace(found, shadowed=await self.shadowed(canary))
            if canary.phase == "preparing":
                return found
            counts = await self._counts(model, canary)
        except (ApiError, RedisError, OSError, TimeoutError):
            return found
        decision = judge(self._settings, canary, counts, now)
        return replace(found, counts=counts, decision=decision, outlook=outlook(self._settings, canary, counts, now))

    async def shadowed(self, canary: Canary) -> Shadowed:
        """How far its reward model has read along. Raises Unavailable."""
        name = canary.bundle.reward
        sums = await self._shadow.sums([name]) if name else {}
        live = self._control.state.scorers.get(name or "")
        its = {pair: one for pair, one in sums.items() if live is None or pair.scorer == f"{name}@{live.number}"}
        return judge_shadow(self._settings, canary, its, self.releases.now())

    def waits_for(self, model: str, canary: Canary) -> str:
        """What is missing before it can go on; empty: nothing."""
        share = self._share(canary)
        return lacking(self._pool(model), canary.bundle, share) or self._waits.get(model, "")

    async def move(self, decide: Decide) -> ReleaseState:
        """Make a move, and tell of what came of it. Raises ApiError."""
        before: list[ReleaseState] = []

        def noted(state: ReleaseState) -> ReleaseState:
            before.append(state)
            return decide(state)

        state = await self.releases.change(noted)
        for name, one in state.models.items():
            earlier = before[-1].of(name).moves
            made = [] if one.moves == earlier else one.moves[-1:]
            for move in made:
                self._tell(name, move)
        return state

    async def promote(self, model: str, force: bool, made: Note) -> None:
        """An operator wants it promoted. force: whether or not it is shown that it is as good. Raises ApiError."""
        canary = self.releases.state.of(model).canary
        if canary is None or canary.phase == "watch" or self._settings.two_person:
            # Raises where there is nothing to approve.
            canary = (await self.move(moves.approve(model, made))).of(model).canary
            assert canary is not None
        decision = (await self.known(model, canary)).decision
        shown = decision is not None and decision.act == "promote"
        if moves.approvals_missing(canary, self._settings.two_person):
            return
        if not shown and not force:
            if self._settings.two_person:
                return  # The leader does it when it is shown.
            why = decision.why if decision else f"it is in the phase {canary.phase}"
            raise Conflict(
                f"the release {canary.bundle.release} of {model} is not shown to be as good yet: {why}. It is promoted "
                "by itself when it is; `force` promotes it all the same",
                code="not_shown",
            )
        if canary.phase == "preparing" or (missing := lacking(self._pool(model), canary.bundle, self._share(canary))):
            what = "its weights are not on all workers yet" if canary.phase == "preparing" else missing
            raise Conflict(f"the release {canary.bundle.release} of {model} cannot serve: {what}", code="not_ready")
        facts = (_facts(decision) if decision else {}) | {"forced": not shown}
        hold_back = self._settings.hold_back > 0
        await self.move(moves.promote(model, canary, hold_back=hold_back, made=made, facts=facts))

    # The leader's rounds.

    async def _look(self, fence: int, model: str, canary: Canary, counts: Counts) -> None:
        match canary.phase:
            case "preparing":
                self._prepare(fence, model, canary)
            case "shadow":
                await self._read_along(fence, model, canary)
            case "canary" | "watch":
                await self._judge(fence, model, canary, counts)

    def _prepare(self, fence: int, model: str, canary: Canary) -> None:
        """Go on with it in the background: loading takes minutes, and no other release's rollback waits for it."""
        if model not in self._preparing:
            task = asyncio.create_task(self._bring(fence, model, canary), name=f"bestow-release-{model}")
            self._preparing[model] = (canary, task)

    async def _bring(self, fence: int, model: str, canary: Canary) -> None:
        """Until it is there, or cannot be. Ended from outside where this gateway leads no longer, or it was taken
        back."""
        failures = 0
        policy = self._config.models[model].policy
        while not being_cancelled():
            try:
                await prepare(
                    self._fleet, self._control, policy, canary.bundle, self._note(f"release {canary.bundle.release}")
                )
            except ApiError as error:
                self._waits[model] = error.message
                failures += isinstance(error, AdapterNotLoaded)
                if lasting(error) or failures >= TRIES:
                    note = self._note(f"it could not be prepared: {error.message}")
                    await self._move(fence, moves.reject(model, canary, note))
                    return
                await asyncio.sleep(min(1.0, self._again_s) if isinstance(error, NotYet) else self._again_s)
                continue
            self._waits.pop(model, None)
            shadow = reads_along(canary.bundle, canary.control, self._settings)
            workers = [worker.id for worker in self._pool(model).workers if canary.bundle.served_as in worker.models]
            note = self._note("its scorer and its weights are where they are needed")
            facts = {"workers": workers} if canary.bundle.served_as else {}
            await self._move(fence, moves.prepared(model, canary, shadow=shadow, made=note, facts=facts))
            return

    async def _break_off(self, models: Mapping[str, ModelRelease]) -> None:
        """End the preparing of what is no longer being prepared, or not by us."""
        for model, (canary, task) in list(self._preparing.items()):
            present = models[model].canary if model in models else None
            gone = present is None or (present.bundle, present.salt, present.phase) != (
                canary.bundle,
                canary.salt,
                "preparing",
            )
            if gone:
                await end(task)
            if task.done():
                del self._preparing[model]
                self._waits.pop(model, None)
                if not task.cancelled() and (error := task.exception()) is not None and not gone:
                    self._failed(error)

    async def _read_along(self, fence: int, model: str, canary: Canary) -> None:
        said = await self.shadowed(canary)
        note = self._note(said.why)
        age_days = (self.releases.now() - canary.began) / 86_400
        if said.act == "reject":
            await self._move(fence, moves.reject(model, canary, note, said.facts))
        elif said.act == "next" and not canary.held:
            await self._move(fence, moves.shadowed(model, canary, note, said.facts))
        elif age_days > self._settings.expire_days:
            note = self._note(f"it was not tried within {self._settings.expire_days:g} days: {said.why}")
            await self._move(fence, moves.expire(model, canary, note, said.facts))

    async def _judge(self, fence: int, model: str, canary: Canary, counts: Counts) -> None:
        decision = judge(self._settings, canary, counts, self.releases.now())
        note, facts = self._note(decision.why), _facts(decision)
        move = partial(self._move, fence)
        pool = self._pool(model)
        waits = lacking(pool, canary.bundle, self._share(canary))
        if decision.act in ("next", "promote"):
            following = msgspec.structs.replace(canary, stage=canary.stage + (decision.act == "next"))
            waits = waits or lacking(pool, canary.bundle, self._share(following))
        match decision.act:
            case "roll_back":
                await move(moves.roll_back(model, note, facts, seen=canary))
                return
            case "expire":
                await move(moves.expire(model, canary, note, facts))
                return
            case "watched":
                await move(moves.watched(model, canary, note, facts))
                return
            case "hold":
                waits = waits or decision.why
        if waits and not canary.held:
            await move(moves.hold(model, self._note(waits), seen=canary))
        elif not waits and canary.held and not canary.held_by:
            await move(moves.resume(model, self._note("what it was held for is no more"), seen=canary))
        elif canary.held:
            return
        elif decision.act == "next":
            await move(moves.next_stage(model, canary, note, facts))
        elif decision.act == "promote" and not moves.approvals_missing(canary, self._settings.two_person):
            hold_back = self._settings.hold_back > 0
            await move(moves.promote(model, canary, hold_back=hold_back, made=note, facts=facts))

    # Small ones.

    def _share(self, canary: Canary) -> float:
        """Of users that get the challenger."""
        return reach(canary, self._settings)

    def _pool(self, model: str) -> WorkerPool:
        return self._fleet.pools[self._config.models[model].policy]

    async def _counts(self, model: str, canary: Canary) -> Counts:
        return await self._evidence.counts(model, canary.bundle.release, canary.stage)

    async def _move(self, fence: int, decide: Decide) -> None:
        await self.move(moves.fenced(fence, decide))

    def _note(self, reason: str) -> Note:
        kept = "".join(character if character.isprintable() else " " for character in reason)
        return Note(BY, self.releases.now(), kept[:MAX_REASON])

    def _tell(self, model: str, move: Move) -> None:
        self._metrics.moves.labels(model, move.act.replace(" ", "_")).inc()
        level = logging.WARNING if move.act in ("rolled back", "rejected", "expired", "vetoed") else logging.INFO
        logger.log(
            level, "release %d of %s: %s, by %s%s", move.release, model, move.act, move.note.by, because(move.note)
        )
        self._told(model, move)

    def _failed(self, error: BaseException) -> None:
        """Each problem once."""
        self._metrics.failures.labels(type(error).__name__).inc()
        if str(error) != self._said:
            logger.warning("releases cannot be moved on now: %s", error)
        self._said = str(error)


def _facts(decision: Decision) -> dict[str, Any]:
    """The figures that a move keeps."""
    return {"readings": [msgspec.to_builtins(one) for one in decision.readings]}
