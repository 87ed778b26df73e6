from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from gateway.workers.breaker import BreakerOpen, CircuitBreaker, Permit

FAILURES, WINDOW_S, OPEN_S, SUCCESSES = 5, 60.0, 30.0, 2
OUTCOMES = ("success", "failure", "abandoned")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock)


def state_of(breaker: CircuitBreaker) -> str:
    """Asked anew: mypy takes the state of before for the one of now."""
    return breaker.state


def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    for _ in range(FAILURES):
        breaker.enter().failure()
    assert state_of(breaker) == "open"
    return breaker


def half_opened(breaker: CircuitBreaker, clock: Clock) -> CircuitBreaker:
    opened(breaker)
    clock.now += OPEN_S
    assert state_of(breaker) == "half_open"
    return breaker


def test_it_opens_at_the_fifth_failure_within_the_window(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(FAILURES - 1):
        breaker.enter().failure()
        clock.now += WINDOW_S / (FAILURES - 1)
    assert state_of(breaker) == "closed"
    breaker.enter().failure()
    assert state_of(breaker) == "open"


def test_failures_farther_apart_than_the_window_never_open_it(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(50):
        breaker.enter().failure()
        clock.now += WINDOW_S / (FAILURES - 1) + 0.1
    assert state_of(breaker) == "closed"


def test_a_busy_worker_that_fails_now_and_then_stays_in_use(breaker: CircuitBreaker) -> None:
    for number in range(1000):
        permit = breaker.enter()
        permit.failure() if number % FAILURES else permit.success()
    assert state_of(breaker) == "closed"


def test_open_it_admits_nothing_until_its_time_is_over(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += OPEN_S - 0.001
    with pytest.raises(BreakerOpen):
        breaker.enter()
    clock.now += 0.001
    assert breaker.allows()
    breaker.enter()


def test_half_open_one_trial_runs_at_a_time_and_two_successes_close_it(breaker: CircuitBreaker, clock: Clock) -> None:
    trial = half_opened(breaker, clock).enter()
    assert not breaker.allows()
    with pytest.raises(BreakerOpen):
        breaker.enter()
    trial.success()
    assert state_of(breaker) == "half_open"
    breaker.enter().success()
    assert state_of(breaker) == "closed"


def test_a_failed_trial_opens_it_for_the_whole_time_again(breaker: CircuitBreaker, clock: Clock) -> None:
    half_opened(breaker, clock).enter().success()
    breaker.enter().failure()
    clock.now += OPEN_S - 0.001
    assert state_of(breaker) == "open"
    clock.now += 0.001
    breaker.enter().success()
    assert state_of(breaker) == "half_open"


def test_an_abandoned_trial_gives_its_place_back_and_counts_for_nothing(breaker: CircuitBreaker, clock: Clock) -> None:
    half_opened(breaker, clock).enter().success()
    breaker.enter().abandoned()
    assert state_of(breaker) == "half_open" and breaker.allows()
    breaker.enter().success()
    assert state_of(breaker) == "closed"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_straggler_of_the_closed_phase_neither_ends_nor_settles_a_trial(
    breaker: CircuitBreaker, clock: Clock, outcome: str
) -> None:
    straggler = breaker.enter()
    half_opened(breaker, clock).enter()
    getattr(straggler, outcome)()
    assert state_of(breaker) == "half_open" and not breaker.allows()


def test_a_trial_from_before_the_breaker_opened_again_does_not_settle_the_next_one(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    first = half_opened(breaker, clock).enter()
    breaker.reset()
    half_opened(breaker, clock).enter()
    first.success()
    first.failure()
    assert state_of(breaker) == "half_open" and not breaker.allows()


def test_after_a_reset_it_is_closed_and_failures_of_before_no_longer_count(breaker: CircuitBreaker) -> None:
    before = [breaker.enter() for _ in range(FAILURES)]
    opened(breaker).reset()
    assert state_of(breaker) == "closed"
    for permit in before:
        permit.failure()
    for _ in range(FAILURES - 1):
        breaker.enter().failure()
    assert state_of(breaker) == "closed"


class Faults(RuleBasedStateMachine):
    """Any requests, outcomes in any order, time and restarts, beside a history that says what must be true."""

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = CircuitBreaker(self.clock, failures=FAILURES, window_s=WINDOW_S, open_s=OPEN_S, successes=2)
        self.expected = "closed"
        # Of the present phase: permits that have not ended, and what those that have ended said, and when.
        self.running: set[Permit] = set()
        self.said: list[tuple[str, float]] = []
        self.opened_at = 0.0

    def turn(self, state: str) -> None:
        self.expected, self.running, self.said = state, set(), []
        self.opened_at = self.clock.now

    @rule(quarters=st.integers(0, 4 * 40))
    def time_passes(self, quarters: int) -> None:
        self.clock.now += quarters / 4
        if self.expected == "open" and self.clock.now >= self.opened_at + OPEN_S:
            self.turn("half_open")

    @rule(target=permits)
    def request_comes(self) -> Permit | None:
        may = self.expected == "closed" or (self.expected == "half_open" and not self.running)
        assert self.breaker.allows() is may
        try:
            permit = self.breaker.enter()
        except BreakerOpen:
            assert not may
            return None
        assert may
        self.running.add(permit)
        return permit

    @rule(permit=permits, outcome=st.sampled_from(OUTCOMES))
    def request_ends(self, permit: Permit | None, outcome: str) -> None:
        """The same permit may be told again, or come long after its phase: neither may matter."""
        if permit is None:
            return
        ending: Callable[[], None] = getattr(permit, outcome)
        ending()
        if permit not in self.running:
            return
        self.running.discard(permit)
        if outcome == "abandoned":
            return
        self.said.append((outcome, self.clock.now))
        if self.expected == "half_open" and outcome == "failure":
            self.turn("open")
        elif self.expected == "half_open" and len(self.said) == SUCCESSES:
            self.turn("closed")
        elif self.expected == "closed" and self.too_many_failures():
            self.turn("open")

    def too_many_failures(self) -> bool:
        newest = self.said[-FAILURES:]
        in_a_row = len(newest) == FAILURES and all(outcome == "failure" for outcome, _ in newest)
        return in_a_row and newest[-1][1] - newest[0][1] <= WINDOW_S

    @rule(bad=st.integers(FAILURES, 2 * FAILURES))
    def everything_fails_for_a_while(self, bad: int) -> None:
        for _ in range(bad):
            self.request_ends(self.request_comes(), "failure")
        assert self.expected == "open" or (self.expected == "half_open" and self.running)

    @rule()
    def worker_starts_anew(self) -> None:
        self.breaker.reset()
        self.turn("closed")

    @invariant()
    def it_is_in_the_state_that_its_history_says(self) -> None:
        assert self.breaker.state == self.expected

    def teardown(self) -> None:
        """When faults stop it closes: at most open_s and the successes later, whatever was before."""
        for permit in list(self.running):
            permit.abandoned()
        self.clock.now += OPEN_S
        for _ in range(SUCCESSES):
            self.breaker.enter().success()
        assert self.breaker.state == "closed"


TestFaults = Faults.TestCase
TestFaults.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
