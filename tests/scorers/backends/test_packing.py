"""How inputs lie in one row: each token can be found, sees what it should, and runs as seldom as can be."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorers.backends.packing import Family, Kept, Packing, families, pack
from scorers.backends.plans import LEAST_SHARED
from scorers.backends.prefixes import LEAST_KEPT, Prefix

PROMPT = list(range(100, 100 + LEAST_KEPT + 10))

beginnings = st.sampled_from([[], PROMPT[:20], PROMPT[:40], PROMPT])
endings = st.lists(st.integers(0, 3), min_size=1, max_size=30)
inputs = st.lists(st.builds(lambda begin, end: [*begin, *end], beginnings, endings), min_size=1, max_size=8)


def seen_by(row: Packing) -> list[list[int]]:
    """Of each token of the row, all that it sees, itself last, as token ids."""
    seen: list[list[int]] = []
    for group in row.groups:
        kept = group.context.kept
        before = kept[0].ids[: kept[1]] if kept else []
        before = [*before, *row.ids[group.context.start : group.context.end]]
        start = group.start
        for length in group.lengths:
            seen += [[*before, *row.ids[start : at + 1]] for at in range(start, start + length)]
            start += length
    return seen


@given(inputs, st.booleans())
def test_every_token_sees_what_precedes_it_in_its_input_and_stands_at_its_position(
    batch: list[list[int]], share: bool
) -> None:
    row = pack(batch, [0] * len(batch), share=share)
    seen = seen_by(row)
    assert len(seen) == len(row.ids) == len(row.positions)
    for number, ids in enumerate(batch):
        for position in range(len(ids)):
            at = row.index(number, position)
            assert seen[at] == ids[: position + 1]
            assert row.positions[at] == position
    assert len(row.ids) <= sum(map(len, batch))


def test_without_sharing_nothing_runs_once_for_two() -> None:
    assert len(pack([PROMPT, PROMPT], [0, 0], share=False).ids) == 2 * len(PROMPT)


def test_equal_inputs_and_beginnings_of_others_run_once() -> None:
    assert len(pack([PROMPT, PROMPT], [0, 0], share=True).ids) == len(PROMPT)
    assert len(pack([PROMPT, PROMPT[:30]], [0, 0], share=True).ids) == len(PROMPT)


def test_a_common_system_prompt_does_not_break_up_conversations() -> None:
    system = list(range(20))
    first, second = [*system, *[50] * 60], [*system, *[60] * 60]
    batch = [[*first, 1], [*second, 1], [*first, 2], [*second, 2], [*first, 3]]
    assert families(batch) == [Family(80, (0, 2, 4)), Family(80, (1, 3))]


def test_few_tokens_in_common_are_not_shared() -> None:
    begin = list(range(LEAST_SHARED - 1))
    assert {family.shared for family in families([[*begin, 1, 2], [*begin, 3, 4]])} == {0}


def kept_prompt(length: int) -> Kept:
    return Prefix(PROMPT, []), length


@given(inputs)
def test_kept_beginnings_do_not_run_and_are_seen(batch: list[list[int]]) -> None:
    def find(ids: Sequence[int], most: int) -> Kept | None:
        return kept_prompt(LEAST_KEPT) if most >= LEAST_KEPT and list(ids[:LEAST_KEPT]) == PROMPT[:LEAST_KEPT] else None

    row = pack(batch, [len(ids) - 1 for ids in batch], share=True, find=find)
    seen = seen_by(row)
    for number, ids in enumerate(batch):
        at = row.index(number, len(ids) - 1)
        assert seen[at] == ids
        assert row.positions[at] == len(ids) - 1


def test_a_kept_beginning_has_no_place_in_the_row() -> None:
    row = pack([[*PROMPT, 1]], [len(PROMPT)], share=True, find=lambda ids, most: kept_prompt(LEAST_KEPT))
    assert row.ids == [*PROMPT[LEAST_KEPT:], 1]
    with pytest.raises(KeyError):
        row.index(0, LEAST_KEPT - 1)


def test_a_kept_beginning_ends_before_the_first_token_that_is_wanted() -> None:
    asked: list[int] = []

    def find(ids: Sequence[int], most: int) -> Kept | None:
        asked.append(most)
        return None

    pack([[*PROMPT, 1], [*PROMPT, 2]], [70, 65], share=True, find=find)
    assert asked == [65]


def test_what_is_worth_keeping_is_what_candidates_share_or_a_lone_input() -> None:
    def nothing(ids: Sequence[int], most: int) -> None:
        return None

    row = pack(
        [[*PROMPT, 1], [*PROMPT, 2], [5] * LEAST_KEPT, [6] * (LEAST_KEPT - 1)],
        [70, 70, 60, 60],
        share=True,
        find=nothing,
    )
    assert sorted(store.ids for store in row.stores) == [[5] * LEAST_KEPT, PROMPT]
    for store in row.stores:
        assert row.ids[store.context.start : store.context.end] == store.ids


def test_what_is_kept_for_the_most_part_is_not_kept_again() -> None:
    row = pack([[*PROMPT, 1]], [len(PROMPT)], share=True, find=lambda ids, most: kept_prompt(LEAST_KEPT))
    assert row.stores == []
    assert len(row.ids) == len(PROMPT) + 1 - LEAST_KEPT
