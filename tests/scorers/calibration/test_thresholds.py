"""Thresholds for a stated share of false alarms or recall: what is promised holds, and nothing better exists."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorers.calibration.thresholds import Curve, Share

SOME = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]), st.booleans()), min_size=2).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


def curve_of(pairs: list[tuple[float, bool]]) -> Curve:
    return Curve([p for p, _ in pairs], [label for _, label in pairs])


@given(SOME, st.floats(0, 1))
def test_false_alarms_are_as_few_as_promised_and_no_threshold_finds_more(
    pairs: list[tuple[float, bool]], most: float
) -> None:
    curve = curve_of(pairs)
    chosen = curve.for_false_alarms(most)
    assert chosen.false_alarms.value <= most + 1e-9
    others = [point for point in curve.points() if point.false_alarms.value <= most - 1e-9]
    assert all(point.recall.hits <= chosen.recall.hits for point in others)


@given(SOME, st.floats(0.01, 1))
def test_recall_is_as_high_as_promised_and_no_threshold_has_fewer_false_alarms(
    pairs: list[tuple[float, bool]], least: float
) -> None:
    curve = curve_of(pairs)
    chosen = curve.for_recall(least)
    assert chosen.recall.value >= least - 1e-9
    others = [point for point in curve.points() if point.recall.value >= least]
    assert all(point.false_alarms.hits >= chosen.false_alarms.hits for point in others)


def test_no_threshold_helps_where_the_surest_texts_are_harmless() -> None:
    curve = Curve([1.0, 1.0, 0.2, 0.9], [False, False, False, True])
    with pytest.raises(ValueError, match="2 texts"):
        curve.for_false_alarms(0.1)


def test_random_scores_have_the_share_of_unsafe_texts_as_average_precision() -> None:
    rng = random.Random(6)
    labels = [rng.random() < 0.3 for _ in range(10_000)]
    assert Curve([rng.random() for _ in labels], labels).average_precision() == pytest.approx(0.3, abs=0.02)


def test_a_perfect_guard_has_average_precision_1() -> None:
    assert Curve([0.1, 0.2, 0.7, 0.9], [False, False, True, True]).average_precision() == 1.0


def test_average_precision_by_hand() -> None:
    # In order of probability: unsafe, safe, unsafe. Precision 1 at recall 1/2, 2/3 at recall 1.
    assert Curve([0.9, 0.8, 0.7], [True, False, True]).average_precision() == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_share_has_wilsons_interval() -> None:
    low, high = Share(0, 100).interval
    assert low == pytest.approx(0, abs=1e-12)
    assert high == pytest.approx(0.0370, abs=1e-4)
    assert Share(50, 100).interval == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="both"):
        Curve([0.2], [True])
