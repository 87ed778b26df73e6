import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decoding.laws.consistency import leader_stays, stops
from gateway.decoding.laws.quadrature import integral

EDGES = [x / 32 for x in range(17)]


def test_unanimity_stops_at_exactly_four() -> None:
    assert [stops([votes]) for votes in (0, 1, 2, 3, 4, 5)] == [False, False, False, False, True, True]


def test_the_runner_up_holds_it_open() -> None:
    assert [stops([votes, 1]) for votes in (4, 5, 6)] == [False, False, True]


@given(st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None)
def test_the_tail_of_coins_is_the_incomplete_beta_integral(one: int, other: int) -> None:
    """I_1/2(v1 + 1, v2 + 1), the arguments swapped, is 1 less this."""
    first, second = max(one, other), min(one, other)
    below, all_of_it = (
        integral(lambda x: x**second * (1 - x) ** first, [scale * edge for edge in EDGES]) for scale in (1, 2)
    )
    assert leader_stays(first, second) == pytest.approx(below / all_of_it, abs=1e-9)


@given(st.lists(st.integers(0, 50), max_size=6), st.randoms())
def test_neither_the_order_of_answers_nor_those_behind_the_second_matter(
    votes: list[int], shuffler: random.Random
) -> None:
    shuffled = votes.copy()
    shuffler.shuffle(shuffled)
    assert stops(shuffled) == stops(votes) == stops(sorted(votes)[-2:])


def test_a_draw_is_even_and_a_higher_confidence_asks_for_more() -> None:
    assert leader_stays(7, 7) == 0.5
    assert leader_stays(0, 0) == 0.5
    assert not stops([4], confidence=0.99)
    assert stops([6], confidence=0.99)


def test_thousands_of_votes_do_not_overflow() -> None:
    assert leader_stays(5_000, 4_000) == pytest.approx(1.0)


def test_votes_that_are_none_are_refused() -> None:
    for first, second in ((1, 2), (3, -1)):
        with pytest.raises(ValueError, match="votes are 0 or more"):
            leader_stays(first, second)
