"""Who is compared, and the values: closed forms."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorers.judge.strengths import most_candidates, prompts, schedule, strengths

known = st.lists(st.floats(-50, 50), min_size=2, max_size=20)


def centred(values: list[float]) -> list[float]:
    mean = math.fsum(values) / len(values)
    return [value - mean for value in values]


@given(known, st.sampled_from([2, 4, 6, 8]))
def test_the_strengths_of_a_bradley_terry_law_come_back_from_any_design(truth: list[float], opponents: int) -> None:
    log_odds = {(i, j): truth[i] - truth[j] for i, j in schedule(len(truth), opponents)}
    assert strengths(len(truth), log_odds) == pytest.approx(centred(truth), abs=1e-8)


@given(st.integers(2, 8), st.lists(st.floats(-1e3, 1e3), min_size=28, max_size=28))
def test_where_all_are_compared_a_value_is_the_mean_log_odds(count: int, found: list[float]) -> None:
    log_odds = dict(zip(itertools.combinations(range(count), 2), found, strict=False))
    mean = [
        sum(log_odds.get((i, j), 0.0) - log_odds.get((j, i), 0.0) for j in range(count)) / count for i in range(count)
    ]
    assert strengths(count, log_odds) == pytest.approx(mean, abs=1e-8)


def test_sure_verdicts_make_no_ties_and_no_infinities() -> None:
    values = strengths(3, {(0, 1): 800.0, (1, 2): 900.0, (0, 2): 1700.0})
    assert values == pytest.approx([2500 / 3, 100 / 3, -2600 / 3])


@given(st.integers(2, 60), st.sampled_from([2, 4, 8, 12]))
def test_a_schedule_is_balanced_connected_and_holds_no_pair_twice(count: int, opponents: int) -> None:
    pairs = schedule(count, opponents)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert all(i != j for i, j in pairs)
    degrees = [sum(one in pair for pair in pairs) for one in range(count)]
    assert set(degrees) == {min(count - 1, opponents)}
    assert 2 * len(pairs) == prompts(count, opponents)
    assert None not in strengths(count, dict.fromkeys(pairs, 0.0))


def test_distances_reach_far_in_a_large_schedule() -> None:
    assert {j - i for i, j in schedule(100, 8) if j > i and i == 0} == {1, 4, 13, 49}


@given(st.sampled_from([2, 4, 8]), st.integers(2, 500))
def test_as_many_candidates_as_their_prompts_fit(opponents: int, room: int) -> None:
    count = most_candidates(opponents, room)
    assert prompts(count, opponents) <= room < prompts(count + 1, opponents)


def test_what_no_chain_connects_has_no_value() -> None:
    assert strengths(4, {(0, 1): 2.0, (1, 2): 2.0}) == pytest.approx([2.0, 0.0, -2.0, None])


def test_two_groups_of_one_size_cannot_be_ranked_and_none_is_preferred() -> None:
    assert strengths(4, {(0, 1): 2.0, (2, 3): 1.0}) == [None] * 4
    assert strengths(2, {}) == [None, None]


def test_one_answer_alone_is_its_own_mean() -> None:
    assert strengths(1, {}) == [0.0]
