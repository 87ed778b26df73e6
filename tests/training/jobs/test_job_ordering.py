"""Resampling by weight, and the order in which rows are trained on."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as some

from training.jobs.ordering import drawn, training_order

WEIGHTS = some.lists(some.floats(0.0, 1.0), max_size=60)


@given(WEIGHTS, some.integers(0, 1000))
def test_as_many_rows_are_drawn_as_their_weights_add_up_to(weights: list[float], seed: int) -> None:
    found = drawn(weights, random.Random(seed))
    assert abs(len(found) - sum(weights)) < 1 + 1e-3
    assert len(set(found)) == len(found)
    assert {place for place, weight in enumerate(weights) if weight == 1.0} <= set(found)
    assert not {place for place, weight in enumerate(weights) if weight == 0.0} & set(found)


def test_a_row_is_drawn_as_often_as_its_weight_says() -> None:
    weights = [0.1, 0.5, 1.0, 0.9, 0.25, 0.0]
    times = 4000
    seen = Counter(place for seed in range(times) for place in drawn(weights, random.Random(seed)))
    for place, weight in enumerate(weights):
        assert seen[place] / times == pytest.approx(weight, abs=0.04)  # five standard errors at most


@given(some.lists(some.integers(1, 50), max_size=300), some.integers(1, 8), some.integers(1, 3), some.integers(0, 9))
def test_each_epoch_has_every_row_of_weight_1_once(lengths: list[int], batch: int, epochs: int, seed: int) -> None:
    order = training_order([1.0] * len(lengths), lengths, batch, epochs, seed)
    assert Counter(order) == Counter(dict.fromkeys(range(len(lengths)), epochs))


def test_the_rows_of_a_batch_are_about_equally_long_and_batches_are_not_sorted() -> None:
    rng = random.Random(0)
    lengths = [rng.randrange(1, 400) for _ in range(640)]
    order = training_order([1.0] * len(lengths), lengths, 16, 1, 0)
    batches = [[lengths[place] for place in order[start : start + 16]] for start in range(0, len(order), 16)]
    padded = sum(16 * max(batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)
    longest = [max(batch) for batch in batches]
    assert longest != sorted(longest)


def test_the_same_seed_gives_the_same_order_and_another_another() -> None:
    weights, lengths = [0.7] * 50, list(range(1, 51))
    assert training_order(weights, lengths, 4, 2, 1) == training_order(weights, lengths, 4, 2, 1)
    assert training_order(weights, lengths, 4, 2, 1) != training_order(weights, lengths, 4, 2, 2)
