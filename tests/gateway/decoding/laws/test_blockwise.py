import math
from itertools import product

import pytest

from gateway.decoding.laws import best_of_n
from gateway.decoding.laws.blockwise import blocks, kl


def test_a_block_that_is_not_full_counts_as_one() -> None:
    assert [blocks(tokens, 16) for tokens in (0, 1, 16, 17, 32, 33)] == [0, 1, 1, 2, 2, 3]


def test_each_block_costs_the_kl_of_best_of_k() -> None:
    assert kl(blocks(100, 32), 6) == pytest.approx(4 * (math.log(6) - 5 / 6))
    assert kl(1, 50) == best_of_n.kl(50)
    assert kl(10, 1) == 0.0


def test_the_kl_of_two_blocks_of_a_small_policy_stays_below_the_bound() -> None:
    """Over all texts; what a second block may be depends on the first. A bound for one block alone fails."""
    k, first = 4, [0.125] * 8
    divergence = 0.0
    chosen_first = best_of_n.pmf(first, k)
    for one, other in product(range(8), repeat=2):
        second = [0.25 if place % 2 == one % 2 else 0.0 for place in range(8)]
        policy, guided = first[one] * second[other], chosen_first[one] * best_of_n.pmf(second, k)[other]
        divergence += guided * math.log(guided / policy) if guided else 0.0
    assert kl(1, k) < divergence <= kl(2, k)


def test_blocks_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="block's size 1 or more"):
        blocks(10, 0)
