"""The counts of a stage, kept in memory: what any store of events must agree with. Pure but for its own state.

A user is in the group of the first event, whatever later ones say, and counts once for each signal. `up` and `down`
are one thing, the first thumb: who has one never gets the other. Whoever has a signal was served, also where the event
that says so comes later; `interactions` are the events without a signal.
"""

from collections.abc import Iterable

from gateway.release.counts import ArmCounts, Counts, Event, Signal
from gateway.release.state import Arm

ARMS: tuple[Arm, Arm] = ("challenger", "control")


class Tally:
    """Events in, counts out."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._arm_of: dict[str, Arm] = {}
        self._seen: dict[str, set[str]] = {}
        self._users: dict[Arm, int] = dict.fromkeys(ARMS, 0)
        self._interactions: dict[Arm, int] = dict.fromkeys(ARMS, 0)
        self._first: dict[Arm, dict[str, int]] = {arm: {} for arm in ARMS}
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> bool:
        """Whether it told of a new user, or of a user's first event of its kind."""
        arm = self._arm_of.get(event.user)
        new = arm is None
        if arm is None:
            arm = self._arm_of[event.user] = event.arm
            self._users[arm] += 1
        if event.signal is None:
            self._interactions[arm] += 1
            return new
        seen = self._seen.setdefault(kind_of(event.signal), set())
        if event.user in seen:
            return new
        seen.add(event.user)
        first = self._first[arm]
        first[event.signal] = first.get(event.signal, 0) + 1
        return True

    @property
    def counts(self) -> Counts:
        challenger, control = (
            ArmCounts(users=self._users[arm], interactions=self._interactions[arm], first=dict(self._first[arm]))
            for arm in ARMS
        )
        return Counts(challenger=challenger, control=control)


def kind_of(signal: Signal) -> str:
    """What a user can have one of."""
    return "thumb" if signal in ("up", "down") else signal
