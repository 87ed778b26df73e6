"""Who wins: pure rules from judged candidates to a ranking, with the probability of each outcome.

Best-of-n takes the safe candidate of the highest raw reward, ties by the earliest index. One that keeps the form that
was asked for (a schema, a tool's arguments) beats all that break it. Rewards are compared as they are: squashing them
would make large ones equal. A missing reward loses to any present one; among those without one the last prune stage's
score counts, and where that is missing too the first safe candidate that finished wins. Nothing is ever picked at
random in place of a score.

What a prune stage gave up ranks after all that went on, the later it was given up the better, and among those that the
same stage gave up by that stage's score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.decoding.candidate import Judged


@dataclass(frozen=True, slots=True)
class Ranking:
    """`order`: positions of the deliverable candidates, best first; empty when none may be delivered.
    `propensities`: for each candidate the probability that the rule puts it first, given the scores. They sum to 1,
    or to 0 when the order is empty.
    """

    order: tuple[int, ...]
    propensities: tuple[float, ...]


def rank(judged: Sequence[Judged], *, unjudged_passes: bool = False) -> Ranking:
    """Rank by reward among the safe.

    unjudged_passes: whether a candidate that the guard could not judge counts as safe.
    """
    safe = [position for position, one in enumerate(judged) if one.safe(unjudged_passes)]
    order = sorted(safe, key=lambda position: _key(judged[position]))
    propensities = [0.0] * len(judged)
    if order:
        propensities[order[0]] = 1.0
    return Ranking(tuple(order), tuple(propensities))


def _key(judged: Judged) -> tuple[bool, int, bool, float, float, int]:
    """Smaller is better."""
    scored = judged.reward if judged.reward is not None else judged.prior
    return (
        judged.broken is not None,
        -judged.stages,
        judged.reward is None,
        math.inf if scored is None else -scored,
        judged.candidate.finished_s if scored is None else 0.0,
        judged.candidate.index,
    )
