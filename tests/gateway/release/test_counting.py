import pytest

from gateway.release.counting import Tally, kind_of
from gateway.release.counts import SIGNALS, Event
from gateway.release.state import Arm
from tests.gateway.release.conformance import CASES, Case, drawn


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_counts_users_by_their_first_events(case: Case) -> None:
    assert Tally(case.events).counts == case.counts


@pytest.mark.parametrize("seed", range(20))
def test_drawn_events_are_counted_as_sets_of_users(seed: int) -> None:
    events = drawn(seed)
    counts = Tally(events).counts
    arms: tuple[Arm, Arm] = ("challenger", "control")
    for arm in arms:
        own = [event for event in events if event.arm == arm]
        of = counts.of(arm)
        assert of.users == len({event.user for event in own})
        assert of.interactions == sum(event.signal is None for event in own)
        for signal in SIGNALS:
            having = {event.user for event in own if event.signal == signal}
            if kind_of(signal) == signal:
                assert of.of(signal) == len(having)
        first: dict[str, str] = {}
        for event in own:
            if event.signal in ("up", "down"):
                first.setdefault(event.user, event.signal)
        assert (of.of("up"), of.of("down")) == tuple(
            sum(vote == signal for vote in first.values()) for signal in ("up", "down")
        )


def test_it_says_which_events_changed_something() -> None:
    tally = Tally()
    said = [
        tally.apply(Event("a", "control", signal)) for signal in (None, None, "up", "down", "complaint", "complaint")
    ]
    assert said == [True, False, True, False, True, False]


def test_a_user_stays_in_the_group_of_the_first_event() -> None:
    counts = Tally([Event("a", "control", None), Event("a", "challenger", "error")]).counts
    assert (counts.control.users, counts.control.of("error"), counts.challenger.users) == (1, 1, 0)


def test_the_same_events_twice_change_nothing_but_interactions() -> None:
    events = drawn(1)
    once, twice = Tally(events).counts, Tally(events + events).counts
    for one, other in ((once.challenger, twice.challenger), (once.control, twice.control)):
        assert one.first == other.first and one.users == other.users
