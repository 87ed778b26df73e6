"""Kept beginnings: the longest that fits is found, and memory is bounded."""

import torch

from scorers.backends.prefixes import LEAST_KEPT, Prefix, Prefixes

BYTES = 2 * 4 * LEAST_KEPT


def prefix(*ids: int, length: int = LEAST_KEPT) -> Prefix:
    """Of one layer, with a number a token."""
    tensor = torch.zeros(length, 1, 1)
    return Prefix([*ids, *[0] * (length - len(ids))], [(tensor, tensor)])


def test_the_longest_beginning_is_found_up_to_the_limit() -> None:
    prefixes = Prefixes(100 * BYTES)
    short, long = prefix(1), prefix(1, length=LEAST_KEPT + 10)
    prefixes.keep(short)
    prefixes.keep(long)
    ids = [*long.ids, 5]
    assert prefixes.find(ids, len(ids)) == (long, LEAST_KEPT + 10)
    assert prefixes.find(ids, LEAST_KEPT + 3) == (long, LEAST_KEPT + 3)
    assert prefixes.find(ids, LEAST_KEPT - 1) is None
    assert prefixes.find([2, *ids], len(ids)) is None


def test_those_not_used_for_longest_make_room() -> None:
    prefixes = Prefixes(2 * BYTES)
    first, second, third = prefix(1), prefix(2), prefix(3)
    prefixes.keep(first)
    prefixes.keep(second)
    prefixes.find(first.ids, LEAST_KEPT)
    prefixes.keep(third)
    assert prefixes.find(first.ids, LEAST_KEPT) and prefixes.find(third.ids, LEAST_KEPT)
    assert prefixes.find(second.ids, LEAST_KEPT) is None
    assert (len(prefixes), prefixes.bytes) == (2, 2 * BYTES)


def test_one_that_is_too_large_or_too_short_is_not_kept() -> None:
    prefixes = Prefixes(2 * BYTES)
    prefixes.keep(prefix(1))
    prefixes.keep(prefix(2, length=3 * LEAST_KEPT))
    prefixes.keep(prefix(3, length=LEAST_KEPT - 1))
    assert len(prefixes) == 1
