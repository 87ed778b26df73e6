"""Halving's decisions, without any stream: which checkpoints count, who goes on, and when that is known."""

import itertools
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding.card import ModelCard, PartialPoint
from gateway.decoding.laws.halving import survivors
from gateway.decoding.race import Course, Entry, Loss, Race, course, interval, losers
from scorers.calibration.quantiles import RewardLaw


def card(*correlations: tuple[int, float], mean_tokens: float = 100.0) -> ModelCard:
    return ModelCard(
        format=1,
        model="m",
        policy="policy@1",
        reward_model="reward@1",
        created=0.0,
        prompts=10,
        answers=80,
        law=RewardLaw(80, 0.5, 0.3, [0.0, 1.0]),
        deviation=1.0,
        residuals=[-1.0, 1.0],
        mean_tokens=mean_tokens,
        partial=[PartialPoint(tokens, rho, rho - 0.1, rho + 0.1, 80) for tokens, rho in correlations],
    )


def entries(*values: float | None) -> list[Entry]:
    return [Entry(index, str(index).encode(), value) for index, value in enumerate(values)]


def planned(wanted: list[int], measured: ModelCard | None, max_tokens: int = 1000, **more: Any) -> Course:
    return course(wanted, measured, max_tokens, **{"min_correlation": 0.5, **more})


def test_checkpoints_without_enough_correlation_are_left_out() -> None:
    measured = card((8, 0.2), (16, 0.4), (32, 0.6), (64, 0.9))
    assert planned([16, 24, 32, 64], measured) == Course((24, 32, 64))
    assert planned([16, 24, 32, 64], measured, min_correlation=0.95) == Course((), "correlation")


def test_where_nothing_was_measured_there_are_no_checkpoints_unless_that_is_wanted() -> None:
    for nothing in (None, card()):
        assert planned([16, 32], nothing) == Course((), "unmeasured")
        assert planned([16, 32], nothing, unmeasured=True) == Course((16, 32))
    before = card((24, 0.9))
    assert planned([16, 32], before) == Course((32,))
    assert planned([16, 32], before, unmeasured=True) == Course((16, 32))
    assert planned([16, 32], card((16, 0.1), (24, 0.1)), unmeasured=True) == Course((), "correlation")


def test_checkpoints_that_no_answer_reaches_are_left_out() -> None:
    measured = card((8, 0.9))
    assert planned([16, 32, 64], measured, max_tokens=32) == Course((16,))
    assert planned([16, 32, 64], measured, max_tokens=16) == Course((), "short")


def test_checkpoints_are_at_shares_of_an_answer_where_nobody_says_otherwise() -> None:
    assert planned([], card((1, 0.9), mean_tokens=96.0)) == Course((12, 24, 48))
    assert planned([], card((1, 0.9), mean_tokens=960.0), max_tokens=96) == Course((12, 24, 48))
    assert planned([], None, max_tokens=64, unmeasured=True) == Course((8, 16, 32))
    assert planned([], card((1, 0.9), mean_tokens=3.0)) == Course((1, 2))


@given(st.lists(st.integers(1, 600), min_size=1, max_size=4))
def test_parts_are_as_long_as_they_can_be_and_pass_no_checkpoint_by_more_than_an_eighth(points: list[int]) -> None:
    def overshoot(tokens: int, point: int) -> int:
        return next(1 + k * tokens - point for k in itertools.count() if 1 + k * tokens >= point)

    fit = [one for one in range(1, 17) if all(overshoot(one, point) <= point / 8 for point in points)]
    assert interval(points) == max(fit)


def test_the_best_go_on_and_ties_go_to_the_earlier() -> None:
    assert losers(entries(0.1, 0.4, 0.3, 0.2), 0.5, 1) == {0: 0.1, 3: 0.2}
    assert set(losers(entries(1.0, 1.0, 1.0, 1.0), 0.5, 1)) == {2, 3}
    assert set(losers(list(reversed(entries(1.0, 1.0, 1.0, 1.0))), 0.5, 1)) == {2, 3}
    assert set(losers(entries(1.0, 2.0, 3.0), 0.01, 2)) == {0}
    assert losers(entries(1.0, 2.0), 0.01, 2) == {}
    assert losers([], 0.5, 1) == {}


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
def test_who_has_no_score_goes_on_and_takes_nobodys_place(missing: float | None) -> None:
    assert set(losers(entries(missing, 0.4, 0.3, 0.2, 0.1), 0.5, 1)) == {3, 4}
    assert losers(entries(missing, missing), 0.5, 1) == {}


def test_those_that_say_the_same_share_their_fate() -> None:
    same = [Entry(0, b"a", 1.0), Entry(1, b"b", 3.0), Entry(2, b"c", 2.0), Entry(3, b"b", 3.0), Entry(4, b"b", 3.0)]
    assert set(losers(same, 0.5, 1)) == {0, 2}
    assert set(losers(same, 0.2, 1)) == {0, 2}
    assert set(losers([Entry(0, b"a", 1.0), Entry(1, b"b", 0.0), Entry(2, b"b", 0.0)], 0.34, 1)) == {1, 2}


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12), st.sampled_from([0.25, 0.5, 0.8]), st.randoms())
def test_the_order_of_arrival_and_the_scale_of_rewards_change_nothing(
    values: list[int], share: float, rng: random.Random
) -> None:
    found = entries(*map(float, values))
    shuffled = rng.sample([Entry(one.index, one.text, 1000 * (one.value or 0.0) - 7) for one in found], len(found))
    assert set(losers(shuffled, share, 1)) == set(losers(found, share, 1))
    assert len(found) - len(losers(found, share, 1)) == survivors(len(values), share, 1)[1]


def race(n: int, *points: int, share: float = 0.5, least: int = 1) -> Race:
    return Race(points or (8, 16), share, least, set(range(n)))


def score(race: Race, number: int, values: dict[int, float | None]) -> None:
    for index, value in values.items():
        race.scored(Entry(index, str(index).encode(), value), number)


def end(race: Race, index: int, reward: float | None, *, contends: bool = True) -> None:
    race.finished(index)
    race.judged(Entry(index, str(index).encode(), reward), contends=contends)


def test_a_checkpoint_is_decided_when_the_last_score_is_there() -> None:
    running = race(4)
    for index in range(4):
        assert running.grown(index, 7) == []
        assert running.grown(index, 8) == [0]
    score(running, 0, {0: 0.0, 1: 1.0, 2: 2.0})
    assert running.decide() == []
    score(running, 0, {3: 3.0})
    assert running.decide() == [Loss(0, 0, 0.0), Loss(1, 0, 1.0)]
    assert running.running == {2, 3}
    assert running.grown(0, 16) == [] and running.grown(2, 16) == [1]
    score(running, 1, {2: 5.0, 3: 4.0})
    assert running.decide() == [Loss(3, 1, 4.0)]
    assert running.decide() == []


def test_who_is_ahead_is_scored_at_later_checkpoints_and_both_are_decided_together() -> None:
    running = race(4)
    assert running.grown(0, 20) == [0, 1]
    for number in (0, 1):
        score(running, number, {0: 9.0, 1: 1.0, 2: 2.0, 3: 3.0})
    assert [(loss.index, loss.survived) for loss in running.decide()] == [(1, 0), (2, 0), (3, 1)]


def test_finished_ones_hold_places_by_their_final_reward_and_the_losers_among_them_leave_the_race() -> None:
    running = race(4)
    end(running, 0, 2.5)
    end(running, 1, -1.0)
    score(running, 0, {2: 3.0, 3: 2.0})
    assert running.decide() == [Loss(3, 0, 2.0)]
    # 1 has lost: were it still counted, two of the three would go on, and 2 with them.
    score(running, 1, {2: 2.0})
    assert running.decide() == [Loss(2, 1, 2.0)]


def test_one_that_has_finished_is_waited_for_until_it_is_judged() -> None:
    running = race(2)
    score(running, 0, {0: 1.0, 1: 2.0})
    running.finished(0)
    assert running.decide() == []
    running.judged(Entry(0, b"0", 5.0), contends=True)
    assert running.decide() == [Loss(1, 0, 2.0)]


def test_finished_ones_that_cannot_win_take_nobodys_place() -> None:
    running = race(3)
    end(running, 0, 100.0, contends=False)
    score(running, 0, {1: 1.0, 2: 2.0})
    assert running.decide() == [Loss(1, 0, 1.0)]


def test_lost_ones_are_not_waited_for() -> None:
    running = race(3)
    score(running, 0, {0: 1.0, 1: 2.0})
    assert running.decide() == []
    running.lost(2)
    assert running.decide() == [Loss(0, 0, 1.0)]


def test_what_was_said_of_a_text_that_is_lost_is_forgotten() -> None:
    running = race(2)
    running.grown(0, 9)
    score(running, 0, {0: 1.0})
    running.begun_anew(0)
    score(running, 0, {1: 2.0})
    assert running.decide() == []
    assert running.grown(0, 9) == [0]
    score(running, 0, {0: 3.0})
    assert running.decide() == [Loss(1, 0, 2.0)]


def test_a_checkpoint_without_any_score_lets_all_go_on_and_is_told() -> None:
    running = race(3)
    score(running, 0, dict.fromkeys(range(3), None))
    assert running.decide() == [] and running.unscored
    score(running, 1, {0: 1.0, 1: None, 2: 2.0})
    assert running.decide() == [Loss(0, 1, 1.0)]


@given(st.integers(1, 24), st.sampled_from([0.25, 0.5, 0.7]), st.integers(1, 3), st.integers(0, 3))
def test_as_many_go_on_as_the_law_says(n: int, share: float, checkpoints: int, seed: int) -> None:
    rng = random.Random(seed)
    running = race(n, *range(10, 10 * checkpoints + 1, 10), share=share)
    alive = [n]
    for number in range(checkpoints):
        score(running, number, {index: rng.random() for index in running.running})
        running.decide()
        alive.append(len(running.running))
    assert tuple(alive) == survivors(n, share, checkpoints)
