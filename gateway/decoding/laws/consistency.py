"""Adaptive consistency: stop voting once the leader would hardly be overtaken.

Aggarwal et al. 2023, "Let's Sample Step by Step: Adaptive-Consistency" (arXiv:2305.11860), its Beta rule.
"""

from collections.abc import Iterable
from heapq import nlargest
from itertools import accumulate


def leader_stays(first: int, second: int) -> float:
    """P(the leader is the likelier of the two), given votes for it and for the runner-up: I_1/2(second + 1, first + 1).

    The prior is uniform. For whole votes it is a tail of fair coins: P(Binomial(first + second + 1, 1/2) > second).
    """
    if not 0 <= second <= first:
        raise ValueError(f"votes are 0 or more and the leader has the most, not {first} and {second}")
    tosses = first + second + 1
    ways = accumulate(range(second), lambda ways, heads: ways * (tosses - heads) // (heads + 1), initial=1)
    return ((1 << tosses) - sum(ways)) / (1 << tosses)


def stops(votes: Iterable[int], confidence: float = 0.95) -> bool:
    """Whether the votes so far, one number for each answer, settle it. Unanimous ones do at 4."""
    first, second = nlargest(2, (0, 0, *votes))
    return leader_stays(first, second) > confidence
