import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.workers.retries import RetryBudget, backoff_s

SHARE, LEAST_PER_S, WINDOW_S = 0.2, 0.5, 10.0
CONSTANT = LEAST_PER_S * WINDOW_S
# The oldest slot of the window is a whole one.
REACH_S = WINDOW_S * 1.1

# How long after the one before, and whether it is a first attempt or a wish to retry.
steps = st.lists(
    st.tuples(st.sampled_from((0.0, 0.0, 0.0, 0.1, 0.7, 3.0, 9.9, 40.0)), st.sampled_from(("request", "retry"))),
    max_size=200,
)


class Clock:
    def __init__(self) -> None:
        self.now = 5000.3

    def __call__(self) -> float:
        return self.now


def budget_at(clock: Clock) -> RetryBudget:
    return RetryBudget(clock, share=SHARE, least_per_s=LEAST_PER_S, window_s=WINDOW_S)


@given(steps)
def test_retries_in_any_window_are_a_share_of_its_first_attempts_and_a_constant(
    given: list[tuple[float, str]],
) -> None:
    clock = Clock()
    budget = budget_at(clock)
    requests: list[float] = []
    retries: list[float] = []
    for pause_s, what in given:
        clock.now += pause_s
        if what == "request":
            budget.request()
            requests.append(clock.now)
        elif budget.take():
            retries.append(clock.now)
    for end in retries:
        granted = sum(end - WINDOW_S < when <= end for when in retries)
        first = sum(end - REACH_S <= when <= end for when in requests)
        assert granted <= SHARE * first + CONSTANT + 1e-9


@given(steps)
def test_whatever_happened_it_grants_again_a_window_later(given: list[tuple[float, str]]) -> None:
    clock = Clock()
    budget = budget_at(clock)
    for pause_s, what in given:
        clock.now += pause_s
        budget.request() if what == "request" else budget.take()
    clock.now += REACH_S
    assert [budget.take() for _ in range(int(CONSTANT) + 1)] == [True] * int(CONSTANT) + [False]


@given(st.integers(1, 200), st.integers(1, 5))
def test_an_outage_in_which_everything_is_retried_is_amplified_by_no_more_than_the_share(
    per_s: int, wishes: int
) -> None:
    clock = Clock()
    budget = budget_at(clock)
    seconds, granted = 30, 0
    for _ in range(seconds * per_s):
        clock.now += 1 / per_s
        budget.request()
        granted += sum(budget.take() for _ in range(wishes))
    windows = seconds / WINDOW_S + 1
    assert granted <= SHARE * REACH_S / WINDOW_S * seconds * per_s + CONSTANT * windows


def test_a_gateway_with_no_traffic_may_retry_what_a_dead_worker_threw_back() -> None:
    budget = RetryBudget(Clock())
    assert all(budget.take() for _ in range(50))
    assert not budget.take()


def test_the_whole_share_of_the_window_can_be_used_at_once() -> None:
    clock = Clock()
    budget = budget_at(clock)
    for _ in range(1000):
        clock.now += WINDOW_S / 1000
        budget.request()
    assert sum(budget.take() for _ in range(1000)) == SHARE * 1000 + CONSTANT


def test_first_attempts_of_long_ago_allow_nothing() -> None:
    clock = Clock()
    budget = budget_at(clock)
    for _ in range(1000):
        budget.request()
    clock.now += REACH_S
    assert sum(budget.take() for _ in range(1000)) == CONSTANT


@given(st.integers(1, 10**6), st.integers())
def test_pauses_are_within_their_bounds_however_often_it_was_tried(attempt: int, seed: int) -> None:
    assert 0.025 <= backoff_s(attempt, random.Random(seed)) <= 2.0


def test_pauses_begin_at_fifty_milliseconds_and_double_to_two_seconds() -> None:
    class Longest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    pauses = [round(backoff_s(attempt, Longest()), 3) for attempt in range(1, 9)]
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_pauses_of_requests_that_failed_together_differ() -> None:
    rng = random.Random(1)
    pauses = [backoff_s(1, rng) for _ in range(100)]
    assert len(set(pauses)) == 100 and max(pauses) - min(pauses) > 0.02
