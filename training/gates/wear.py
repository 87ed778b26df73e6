"""How the level shrinks as the same data decides about one version after the other. Pure.

A gate that asks the same prompts of every version will pass a bad one sooner or later: k bad versions at level alpha
pass by chance with a probability of up to k alpha. The u-th version that the data decides about (u = 0, 1, ...) is
tested at

    alpha (6 / pi^2) / (u + 1)^2         which sums to alpha over all u

so that of all versions that one data set ever decides about, a bad one passes with a probability of at most alpha
(a union bound; the spending sequence of Foster & Stine 2008, "Alpha-investing"). It holds where a version does not
depend on what the gate said of those before. A cycle that goes on by "passed" or "did not" leaks a bit a turn, which is
little; one that reads which prompts were lost leaks them all. Fresh prompts are better than a shrunken level: the
report says how often each data set was used, and `bestow train gate policy` takes others with --prompts.
"""

import math


def spent(alpha: float, uses: int) -> float:
    """The level for a version after `uses` others."""
    return alpha * 6 / (math.pi**2 * (uses + 1) ** 2)
