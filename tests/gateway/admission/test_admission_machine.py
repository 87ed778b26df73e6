"""Admission under random sequences of events: no more runs than may, nobody is lost, nobody passes out of turn."""

import asyncio
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.admission.admission import Place
from gateway.admission.shrink import room
from gateway.admission.tiers import TIERS, Tier
from gateway.errors import RateLimited
from tests.gateway.admission.desk import Desk, settle
from tests.gateway.admission.virtual_time import VirtualLoop

MAX_WAITING, MAX_WAIT_S = 6, 10.0


@dataclass(eq=False)
class Asker:
    """One request. number: in the order of arrival. until: when it has waited long enough."""

    number: int
    tier: Tier
    tenant: str
    n: int
    least: int
    until: float
    task: "asyncio.Task[Place]"

    @property
    def granted(self) -> bool:
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    @property
    def refused(self) -> bool:
        return self.task.done() and not self.task.cancelled() and isinstance(self.task.exception(), RateLimited)

    @property
    def place(self) -> Place:
        return self.task.result()


class AdmissionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.runner = asyncio.Runner(loop_factory=lambda: self.loop)
        self.desk = self.runner.run(self._opened())
        self.arrived = 0
        self.waiting: list[Asker] = []
        self.running: list[Asker] = []

    async def _opened(self) -> Desk:
        return Desk(places=12, max_waiting=MAX_WAITING, max_wait_s=MAX_WAIT_S)

    def teardown(self) -> None:
        for one in self.waiting:
            one.task.cancel()
        self.runner.run(settle())
        for one in self.running:
            one.place.release()
        assert self.desk.held == len(self.desk.admission._line) == 0
        self.runner.close()

    @rule(
        tier=st.sampled_from(TIERS),
        tenant=st.sampled_from("ab"),
        least=st.integers(1, 15),
        more=st.integers(0, 8),
        patience_s=st.none() | st.floats(0.1, 20),
    )
    def one_arrives(self, tier: Tier, tenant: str, least: int, more: int, patience_s: float | None) -> None:
        now = self.loop.time()
        deadline = 1e9 if patience_s is None else now + patience_s

        async def asks() -> "asyncio.Task[Place]":
            return await self.desk.ask(least, least + more, tier=tier, tenant=tenant, deadline=deadline)

        until = min(deadline, now + MAX_WAIT_S)
        self.arrived += 1
        self.waiting.append(Asker(self.arrived, tier, tenant, least + more, least, until, self.runner.run(asks())))
        there = list(self.waiting)
        self._look()
        for one in there:
            if one.refused:
                assert len(there) == MAX_WAITING + 1
                assert one.tier == min((other.tier for other in there), key=TIERS.index)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.waiting)).task.cancel()
        self._look()

    @precondition(lambda self: self.waiting and self.running)
    @rule(data=st.data())
    def a_client_leaves_while_places_come_free(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.running))
        late = data.draw(st.booleans())
        leaving = data.draw(st.sampled_from(self.waiting)).task
        self.running.remove(one)
        if late:
            one.place.release()
        leaving.cancel()
        one.place.release()
        self._look()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_request_ends(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.running))
        self.running.remove(one)
        one.place.release()
        one.place.release()
        self._look()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_candidate_is_finished(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.running)).place.finished()
        self._look()

    @rule(places=st.integers(0, 20), others=st.integers(0, 10), queued=st.sampled_from([0.0, 1.0, 9.0]))
    def the_pool_reports(self, places: int, others: int, queued: float) -> None:
        self.desk.becomes(places=places, others=float(others), waiting=queued)
        self._look()

    @rule(seconds=st.floats(0.1, 15))
    def time_passes(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))
        self._look()

    @invariant()
    def nobody_waits_longer_than_may_be(self) -> None:
        assert all(one.until > self.loop.time() - 1e-6 for one in self.waiting)

    @invariant()
    def who_waits_stands_in_line_and_nobody_else(self) -> None:
        assert len(self.waiting) == len(self.desk.admission._line) <= MAX_WAITING

    @invariant()
    def what_is_held_is_held_by_those_who_run(self) -> None:
        assert self.desk.held == sum(one.place._held for one in self.running)

    @invariant()
    def no_room_is_left_for_the_one_whose_turn_it_is(self) -> None:
        first = self.desk.admission._line.first()
        if first is not None:
            assert self.desk.held and self.desk.capacity.places
            assert first.least > room(self.desk.capacity, self.desk.held)

    def _look(self) -> None:
        """Let everybody run, and see what came of those who waited."""
        self.runner.run(settle())
        granted = [one for one in self.waiting if one.granted]
        self.waiting = [one for one in self.waiting if not one.task.done()]
        self.running += granted
        for one in granted:
            assert one.least <= one.place.n <= one.n
            assert one.place.shrunk == (one.place.n < one.n)
            mine = [other for other in self.waiting if (other.tier, other.tenant) == (one.tier, one.tenant)]
            assert all(other.number > one.number for other in mine), "somebody was passed"
        if granted:
            capacity = self.desk.capacity
            within = self.desk.held + capacity.others <= capacity.places
            alone = sum(one.place._held > 0 for one in self.running) == 1
            assert within or alone or not capacity.places


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
