"""What is run together."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from scorers.backends.plans import LEAST_SHARED, common_length, plan_packed, plan_padded

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=40)
words = st.lists(st.integers(0, 2), min_size=1, max_size=60)


def inputs_of(sizes: Sequence[int]) -> list[list[int]]:
    return [[7] * size for size in sizes]


@given(lengths, st.integers(16, 1000))
def test_a_padded_batch_holds_the_oldest_within_the_limit(sizes: list[int], most: int) -> None:
    batch = plan_padded(inputs_of(sizes), most)
    assert batch[0] == 0
    assert batch == sorted(set(batch))
    padded = max(sizes[index] for index in batch) * len(batch)
    assert len(batch) == 1 or padded <= most
    assert 2 * sum(sizes[index] for index in batch) >= padded


@given(lengths, st.integers(16, 1000))
def test_padded_batches_one_after_the_other_run_each_input_once(sizes: list[int], most: int) -> None:
    left, ran = list(enumerate(sizes)), []
    while left:
        batch = set(plan_padded(inputs_of([size for _, size in left]), most))
        ran += [left[index][0] for index in batch]
        left = [one for index, one in enumerate(left) if index not in batch]
    assert sorted(ran) == list(range(len(sizes)))


def test_equal_lengths_fill_a_padded_batch() -> None:
    assert plan_padded(inputs_of([10] * 9), 50) == [0, 1, 2, 3, 4]


def test_a_long_input_does_not_pad_the_short_ones() -> None:
    assert plan_padded(inputs_of([10, 500, 11]), 8192) == [0, 2]


@given(lengths, st.integers(16, 1000))
def test_a_packed_batch_holds_the_oldest_in_order_as_many_as_fit(sizes: list[int], most: int) -> None:
    batch = plan_packed(inputs_of(sizes), most, share=False)
    assert batch == list(range(len(batch)))
    assert len(batch) == 1 or sum(sizes[: len(batch)]) <= most
    assert len(batch) == len(sizes) or sum(sizes[: len(batch) + 1]) > most


def test_what_candidates_have_in_common_counts_once_where_it_is_shared() -> None:
    prompt = [1] * 100
    inputs = [[*prompt, 2, number] for number in range(5)]
    assert plan_packed(inputs, 120, share=True) == [0, 1, 2, 3, 4]
    assert plan_packed(inputs, 120, share=False) == [0]
    few = [[1] * (LEAST_SHARED - 2) + [2, number] for number in range(3)]
    assert plan_packed(few, 2 * LEAST_SHARED, share=True) == [0, 1]


@given(words, words)
def test_the_common_length_is_that_of_the_longest_common_beginning(first: list[int], second: list[int]) -> None:
    length = common_length(first, second)
    assert first[:length] == second[:length]
    assert length == min(len(first), len(second)) or first[length] != second[length]
