"""When the next turn begins."""

from hypothesis import given
from hypothesis import strategies as st

from training.cycle.due import counted_from, due
from training.cycle.settings import CycleSettings
from training.cycle.turn import Ending, Turn

HOUR = 3600.0
SETTINGS = CycleSettings(every_hours=24, min_feedback=100, retry_hours=2)


def turn(began: float, ended: float | None = None, ending: Ending | None = None, number: int = 1) -> Turn:
    return Turn(number=number, began=began, settings={}, ended=ended, ending=ending)


def test_the_first_turn_waits_for_feedback_alone() -> None:
    assert not due([], 99, SETTINGS, 0.0).now
    assert due([], 100, SETTINGS, 0.0).now


def test_it_takes_both_time_and_feedback() -> None:
    turns = [turn(0.0, HOUR, "released")]
    early = due(turns, 1000, SETTINGS, 23 * HOUR)
    assert (early.now, early.at) == (False, 24 * HOUR)
    assert not due(turns, 99, SETTINGS, 25 * HOUR).now
    assert due(turns, 100, SETTINGS, 25 * HOUR).now


def test_an_interrupted_turn_goes_on_at_once() -> None:
    assert due([turn(0.0)], 0, SETTINGS, 1.0).now


def test_a_failed_turn_is_tried_again_after_a_while() -> None:
    turns = [turn(0.0, HOUR, "failed")]
    assert due(turns, 0, SETTINGS, 2.9 * HOUR).at == 3 * HOUR
    assert due(turns, 0, SETTINGS, 3 * HOUR).now


def test_votes_that_a_failed_turn_has_seen_still_count() -> None:
    assert counted_from([turn(5.0, 6.0, "stopped"), turn(9.0, 10.0, "failed", 2)]) == 5.0
    assert counted_from([]) == 0.0


@given(feedback=st.integers(0, 10_000), now=st.floats(0, 1e6))
def test_more_feedback_never_makes_a_turn_wait(feedback: int, now: float) -> None:
    turns = [turn(0.0, HOUR, "released")]
    if due(turns, feedback, SETTINGS, now).now:
        assert due(turns, feedback + 1, SETTINGS, now).now
