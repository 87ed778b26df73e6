"""What halving at several checkpoints keeps of best-of-n's gain, where only correlations are known: simulated.

At one checkpoint `laws.halving.retained` says it; at several there is no closed form. The final reward of a candidate
is a standard normal, and those of its beginnings are a Markov chain towards it: with correlations r_s <= r_t to the
final one, the reward after s tokens has r_s / r_t to that after t, and tells nothing of the final one that the later
does not.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_PROMPTS = 4000


def kept(n: int, alive: Sequence[int], correlations: Sequence[float]) -> float:
    """The share of best-of-n's gain that is left. alive: how many run in each phase, n first.

    correlations: at each checkpoint, with the final reward, in [0, 1]; one that is above a later one counts as that.
    """
    if len(alive) != len(correlations) + 1 or alive[0] != n:
        raise ValueError(f"{len(correlations)} checkpoints make {len(correlations) + 1} phases, the first of all {n}")
    draws = _draws(n, len(correlations) + 1)
    final = draws[0]
    rewards: list[Floats] = []
    before, later = final, 1.0
    for noise, correlation in zip(draws[1:], reversed(correlations), strict=True):
        own = min(max(correlation, 0.0), later)
        share = own / later if later else 0.0
        before, later = share * before + np.sqrt(1 - share**2) * noise, own
        rewards.append(before)
    running = np.ones_like(final, dtype=bool)
    for partial, count in zip(reversed(rewards), alive[1:], strict=True):
        best = np.argsort(np.where(running, -partial, np.inf), axis=1)[:, :count]
        running = np.zeros_like(running)
        np.put_along_axis(running, best, True, axis=1)
    return float(np.where(running, final, -np.inf).max(axis=1).mean() / final.max(axis=1).mean())


@lru_cache(maxsize=64)
def _draws(n: int, layers: int) -> Floats:
    """The same for all schedules of as many candidates and checkpoints, so that they differ by what they do alone."""
    return np.random.default_rng((n, layers)).normal(size=(layers, _PROMPTS, n))
