"""What may be done to releases: no I/O."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.errors import Conflict, NotFound
from gateway.release import moves
from gateway.release.moves import NotLeader, fenced
from gateway.release.state import MOVES_KEPT, PREVIOUS_KEPT, Bundle, Canary, Decide, ModelRelease, ReleaseState
from gateway.shared.note import Note

OWN = Bundle()
ANN, BOB, LEADER = Note("key:ann", 1000.0, "because"), Note("key:bob", 1000.0), Note("release", 1000.0)


def bundle(number: int, **fields: object) -> Bundle:
    made = Bundle(release=number, policy=f"p@{number}", served_as=f"p-v{number}", path=f"/adapters/{number}")
    return msgspec.structs.replace(made, **fields)


def at(seconds: float, by: str = "release") -> Note:
    return Note(by, seconds)


def of(state: ReleaseState) -> ModelRelease:
    return state.of("m")


def canary_of(state: ReleaseState) -> Canary:
    canary = of(state).canary
    assert canary is not None
    return canary


def submitted(number: int = 2, state: ReleaseState | None = None) -> ReleaseState:
    return moves.submit("m", bundle(number), salt="s", made=ANN)(state or ReleaseState())


def in_canary(number: int = 2, state: ReleaseState | None = None, when: float = 2000.0) -> ReleaseState:
    state = submitted(number, state)
    return moves.prepared("m", canary_of(state), shadow=False, made=at(when))(state)


def in_watch(number: int = 2, state: ReleaseState | None = None) -> ReleaseState:
    state = in_canary(number, state)
    return moves.promote("m", canary_of(state), hold_back=True, made=at(3000.0))(state)


def champion(number: int, state: ReleaseState | None = None) -> ReleaseState:
    state = in_watch(number, state)
    return moves.watched("m", canary_of(state), at(4000.0))(state)


def acts(state: ReleaseState) -> list[str]:
    return [move.act for move in of(state).moves]


def test_a_release_goes_from_submission_to_champion_and_each_move_is_kept() -> None:
    state = submitted()
    assert of(state).champion == OWN and canary_of(state).phase == "preparing" and canary_of(state).control == OWN
    state = moves.prepared("m", canary_of(state), shadow=True, made=at(2000.0))(state)
    assert canary_of(state).phase == "shadow"
    state = moves.shadowed("m", canary_of(state), at(5600.0), {"requests": 80})(state)
    assert canary_of(state).phase == "canary" and canary_of(state).began == canary_of(state).stage_began == 5600.0
    state = moves.next_stage("m", canary_of(state), at(9000.0))(state)
    assert (canary_of(state).stage, canary_of(state).stage_began, canary_of(state).began) == (1, 9000.0, 5600.0)
    state = moves.promote("m", canary_of(state), hold_back=True, made=at(9999.0))(state)
    assert of(state).champion == bundle(2) and of(state).previous == (OWN,) and canary_of(state).control == OWN
    state = moves.watched("m", canary_of(state), at(12000.0))(state)
    assert of(state).canary is None and of(state).champion == bundle(2)
    assert acts(state) == ["submitted", "prepared", "shadowed", "stage", "promoted", "watched"]
    assert of(state).moves[2].facts == {"requests": 80} and of(state).moves[0].note == ANN
    assert all(move.release == 2 for move in of(state).moves)
    assert msgspec.json.decode(msgspec.json.encode(state), type=ReleaseState) == state


def test_without_a_hold_back_group_a_promotion_is_the_end() -> None:
    state = in_canary()
    state = moves.promote("m", canary_of(state), hold_back=False, made=at(3000.0))(state)
    assert of(state).canary is None and of(state).champion == bundle(2)


def test_one_release_is_on_its_way_at_a_time_and_the_champion_is_none() -> None:
    with pytest.raises(Conflict, match="the release 2 of m is on its way"):
        submitted(3, submitted(2))
    with pytest.raises(Conflict, match="on its way"):
        submitted(3, in_watch(2))
    with pytest.raises(Conflict, match="serves already"):
        submitted(2, champion(2))
    same = moves.submit("m", bundle(2, release=9, digest="other"), salt="s", made=ANN)
    with pytest.raises(Conflict, match="release 9 is what m serves already"):
        same(champion(2))
    assert canary_of(submitted(3, champion(2))).control == bundle(2)
    other = moves.submit("n", bundle(2), salt="s", made=ANN)(submitted(2))
    assert other.of("n").canary is not None


@pytest.mark.parametrize("began", [submitted, in_canary])
def test_a_challenger_that_is_rolled_back_leaves_the_champion_as_it_was(began: object) -> None:
    before = champion(2)
    state = began(3, before)  # type: ignore[operator]
    state = moves.roll_back("m", ANN, {"signal": "down"})(state)
    assert of(state).canary is None
    assert (of(state).champion, of(state).previous) == (of(before).champion, of(before).previous)
    assert acts(state)[-1] == "rolled back" and of(state).moves[-1].release == 3
    assert of(state).moves[-1].facts == {"signal": "down"}


def test_a_champion_that_is_rolled_back_gives_way_to_the_whole_release_before() -> None:
    two = bundle(2, reward="r-v2", scorer={"kind": "reward"}, settings={"safety_threshold": 0.3})
    state = moves.submit("m", two, salt="s", made=ANN)(ReleaseState())
    state = moves.prepared("m", canary_of(state), shadow=False, made=at(2000.0))(state)
    state = moves.promote("m", canary_of(state), hold_back=False, made=at(2000.0))(state)
    for later in (in_watch(3, state), champion(3, state)):
        back = moves.roll_back("m", ANN)(later)
        assert of(back).champion == two and of(back).previous == (OWN,) and of(back).canary is None
        assert of(back).moves[-1].release == 3
    again = moves.roll_back("m", ANN)(back)
    assert of(again).champion == OWN
    with pytest.raises(Conflict, match="nothing to roll back"):
        moves.roll_back("m", ANN)(again)


def test_a_vetoed_release_goes_and_cannot_come_back() -> None:
    state = moves.veto("m", None, ANN)(in_canary(2))
    assert of(state).canary is None and acts(state)[-1] == "vetoed"
    with pytest.raises(Conflict, match="release 2 was vetoed by key:ann: because"):
        submitted(2, state)
    assert canary_of(submitted(3, state)).bundle == bundle(3)
    ahead = moves.veto("m", 7, ANN)(ReleaseState())
    with pytest.raises(Conflict, match="vetoed"):
        submitted(7, ahead)
    serving = moves.veto("m", None, ANN)(champion(2))
    assert of(serving).champion == OWN
    with pytest.raises(Conflict, match="roll back first"):
        moves.veto("m", 2, ANN)(in_canary(3, champion(2)))
    with pytest.raises(Conflict, match="nothing to veto"):
        moves.veto("m", None, ANN)(ReleaseState())


def test_an_operators_hold_stays_until_an_operator_takes_it_off() -> None:
    state = moves.hold("m", ANN)(in_canary())
    assert (canary_of(state).held, canary_of(state).held_by) == ("because", "key:ann")
    assert moves.hold("m", ANN)(state) is state
    assert moves.resume("m", LEADER, seen=canary_of(state))(state) is state
    state = moves.resume("m", BOB)(state)
    assert not canary_of(state).held and acts(state)[-2:] == ["held", "resumed"]
    with pytest.raises(NotFound, match="on its way"):
        moves.hold("m", ANN)(ReleaseState())


def test_the_leader_takes_off_its_own_hold_and_overwrites_no_operators() -> None:
    state = in_canary()
    held = moves.hold("m", Note("release", 1.0, "a worker lacks it"), seen=canary_of(state))(state)
    assert canary_of(held).held == "a worker lacks it" and not canary_of(held).held_by
    assert not canary_of(moves.resume("m", LEADER, seen=canary_of(held))(held)).held
    theirs = moves.hold("m", ANN)(state)
    assert moves.hold("m", LEADER, seen=canary_of(theirs))(theirs) is theirs


def test_two_people_are_two_different_ones() -> None:
    state = moves.approve("m", ANN)(in_canary())
    assert moves.approve("m", ANN)(state) is state
    assert moves.approvals_missing(canary_of(state), two_person=True) == 1
    state = moves.approve("m", BOB)(state)
    assert moves.approvals_missing(canary_of(state), two_person=True) == 0
    assert moves.approvals_missing(canary_of(submitted()), two_person=False) == 0
    assert acts(state)[-2:] == ["approved", "approved"]
    with pytest.raises(Conflict, match="promoted already"):
        moves.approve("m", ANN)(in_watch())


def test_what_was_decided_about_another_moment_changes_nothing() -> None:
    first = in_canary()
    seen = canary_of(first)
    second = moves.next_stage("m", seen, at(5000.0))(first)
    gone = moves.roll_back("m", ANN)(second)
    anew = in_canary(2, gone, when=7000.0)
    for later in (second, gone, anew):
        for decide in (
            moves.next_stage("m", seen, LEADER),
            moves.promote("m", seen, hold_back=True, made=LEADER),
            moves.expire("m", seen, LEADER),
            moves.roll_back("m", LEADER, seen=seen),
            moves.hold("m", LEADER, seen=seen),
            moves.shadowed("m", seen, LEADER),
            moves.prepared("m", seen, shadow=False, made=LEADER),
            moves.reject("m", seen, LEADER),
            moves.watched("m", seen, LEADER),
        ):
            assert decide(later) is later
    approved = moves.approve("m", ANN)(first)
    assert canary_of(moves.next_stage("m", canary_of(approved), at(1.0))(approved)).approvals == ("key:ann",)


def test_a_leader_that_was_overtaken_writes_nothing() -> None:
    state = in_canary()
    written = fenced(5, moves.next_stage("m", canary_of(state), LEADER))(state)
    assert written.fence == 5
    with pytest.raises(NotLeader):
        fenced(4, moves.roll_back("m", LEADER))(written)
    assert fenced(6, lambda same: same)(written) is written
    assert moves.roll_back("m", ANN)(written).fence == 5


def test_safe_mode_is_noted_for_every_model_and_its_time_is_not_the_challengers() -> None:
    state = moves.safe_mode_on(["m", "n"], at(2500.0, "key:ann"))(in_canary(when=2000.0))
    assert state.safe_mode is not None and state.safe_mode.by == "key:ann"
    assert acts(state)[-1] == state.of("n").moves[-1].act == "safe mode on"
    assert moves.safe_mode_on(["m"], BOB)(state) is state
    state = moves.safe_mode_off(["m"], at(2800.0))(state)
    assert state.safe_mode is None and canary_of(state).began == canary_of(state).stage_began == 2300.0
    assert state.of("n").moves[-1].act == "safe mode off"
    assert moves.safe_mode_off(["m"], BOB)(state) is state


def test_what_must_stay_loaded_is_what_serves_is_tried_and_would_be_rolled_back_to() -> None:
    state = in_canary(4, champion(3, champion(2)))
    assert moves.loaded(of(state)) == [bundle(3), bundle(4), bundle(3), bundle(2)]


def test_the_oldest_moves_and_releases_are_forgotten() -> None:
    state = ReleaseState()
    for number in range(1, 60):
        state = champion(number, state)
    assert len(of(state).previous) == PREVIOUS_KEPT and len(of(state).moves) == MOVES_KEPT
    assert of(state).previous[0] == bundle(58)


class Machine(RuleBasedStateMachine):
    """Leaders and operators at random, against a plain stack of what has served."""

    def __init__(self) -> None:
        super().__init__()
        self.state = ReleaseState()
        self.served = [OWN]  # What a rollback of the champion goes back through, the newest last.
        self.promoted = [OWN]
        self.numbers = 1
        self.now = 1000.0
        self.count = 0
        self.old: list[Canary] = []

    def note(self, by: str = "release") -> Note:
        self.now += 10.0
        return Note(by, self.now)

    def make(self, decide: Decide, *, moved: bool = True) -> None:
        before = of(self.state)
        self.state = decide(self.state)
        after = of(self.state)
        self.count += moved
        assert len(after.moves) == min(self.count, MOVES_KEPT)
        assert after.moves[: len(before.moves)] == before.moves or self.count > MOVES_KEPT
        if after.canary is not None:
            self.old.append(after.canary)

    @property
    def canary(self) -> Canary | None:
        return of(self.state).canary

    def phase(self) -> str | None:
        return self.canary.phase if self.canary else None

    @precondition(lambda self: self.canary is None)
    @rule()
    def submit(self) -> None:
        self.numbers += 1
        self.make(moves.submit("m", bundle(self.numbers), salt=str(self.numbers), made=self.note("ann")))

    @precondition(lambda self: self.phase() == "preparing")
    @rule(shadow=st.booleans())
    def prepare(self, shadow: bool) -> None:
        self.make(moves.prepared("m", canary_of(self.state), shadow=shadow, made=self.note()))

    @precondition(lambda self: self.phase() == "shadow")
    @rule()
    def shadowed(self) -> None:
        self.make(moves.shadowed("m", canary_of(self.state), self.note()))

    @precondition(lambda self: self.phase() == "canary")
    @rule()
    def stage(self) -> None:
        self.make(moves.next_stage("m", canary_of(self.state), self.note()))

    @precondition(lambda self: self.phase() == "canary")
    @rule(hold_back=st.booleans())
    def promote(self, hold_back: bool) -> None:
        bundle_promoted = canary_of(self.state).bundle
        self.make(moves.promote("m", canary_of(self.state), hold_back=hold_back, made=self.note()))
        self.served.append(bundle_promoted)
        self.promoted.append(bundle_promoted)

    @precondition(lambda self: self.phase() == "watch")
    @rule()
    def watched(self) -> None:
        self.make(moves.watched("m", canary_of(self.state), self.note()))

    @precondition(lambda self: self.phase() in ("canary", "shadow", "preparing"))
    @rule()
    def expire(self) -> None:
        self.make(moves.expire("m", canary_of(self.state), self.note()))

    @rule(veto=st.booleans())
    def back(self, veto: bool) -> None:
        decide = moves.veto("m", None, self.note("ann")) if veto else moves.roll_back("m", self.note("ann"))
        if self.phase() in (None, "watch"):
            kept = of(self.state).previous
            if not kept:
                with pytest.raises(Conflict):
                    decide(self.state)
                return
            self.served.pop()
        self.make(decide)

    @precondition(lambda self: self.canary is not None)
    @rule(who=st.sampled_from(["ann", "bob"]))
    def hold(self, who: str) -> None:
        moved = canary_of(self.state).held_by != who
        self.make(moves.hold("m", self.note(who)), moved=moved)
        self.make(moves.resume("m", self.note(), seen=canary_of(self.state)), moved=False)

    @precondition(lambda self: self.canary is not None)
    @rule()
    def resume(self) -> None:
        held = bool(canary_of(self.state).held)
        self.make(moves.resume("m", self.note("ann")), moved=held)

    @rule()
    def safe_mode(self) -> None:
        on = self.state.safe_mode is None
        note = self.note("ann")
        self.make(moves.safe_mode_on(["m"], note) if on else moves.safe_mode_off(["m"], note))

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def late_leader(self, data: st.DataObject) -> None:
        """What was decided about any earlier moment does nothing."""
        seen = data.draw(st.sampled_from(self.old))
        canary = self.canary
        if canary is not None and moves._is(canary, seen, canary.phase):
            return
        before = self.state
        for decide in (
            moves.next_stage("m", seen, LEADER),
            moves.promote("m", seen, hold_back=True, made=LEADER),
            moves.roll_back("m", LEADER, seen=seen),
            moves.watched("m", seen, LEADER),
        ):
            assert decide(before) is before

    @invariant()
    def what_serves_was_promoted_and_a_rollback_finds_what_served_before(self) -> None:
        one = of(self.state)
        assert one.champion in self.promoted and one.champion == self.served[-1]
        before = self.served[:-1][::-1]
        assert one.previous == tuple(before[: len(one.previous)])
        assert len(one.previous) <= PREVIOUS_KEPT
        if one.canary is not None:
            watch = one.canary.phase == "watch"
            assert one.champion == (one.canary.bundle if watch else one.canary.control)
            assert not watch or one.previous[0] == one.canary.control


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
