"""What one more answer to a prompt would be worth: the law of rewards within prompts, learnt while requests are served.

A reward is its prompt's mean plus a deviation that is the same for prompts of a kind, times a residual of a shape that
is the same too. The mean is the prompt's own, of what it has been given so far. Deviation and shape are kept for a
model, its profile, the versions of policy and reward model, and a kind of prompts:

    deviation   of rewards within prompts, pooled: sum of squares over degrees of freedom, a prompt's k answers having
                k - 1 (after Welford 1962, by groups); old prompts fade out, so that it follows what changes slowly
    shape       the last 2,048 residuals, each over sqrt(1 - 1/k), since a mean of k lies nearer to its own k; a normal
                law until there are enough
    card        what `bestow calibrate` measured is what it begins with

Learnt is from answers that were sampled whatever came before them: a request's first wave. Later ones are there only
because the first were low, so that they would tell of prompts that are hard to please, and of no others.

Two corrections, both of which make a rule draw longer while little is known, and fade as more is:

    few prompts   the deviation's upper 90 % bound from the chi-squared law of its sum of squares (Wilson and Hilferty
                  1931). Kalayci et al. 2025 (arXiv:2510.01394) bound the scale of an exponential tail instead
    few answers   the mean of k of the prompt's own is off by deviation / sqrt(k): the next reward is as much wider,
                  sqrt(1 + 1/k), around it than around the true one
"""

import math
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from statistics import NormalDist, fmean

from gateway.decoding.card import ModelCard
from gateway.decoding.laws.pandora import reservation

KEPT = 2048
# Degrees of freedom after which old ones fade: the bound is then 0.4 % over the estimate.
_MOST_FREEDOM = 65_536.0
# What a card's own deviation counts for: as much as a first thousand of answers would.
_CARD_FREEDOM = 1024.0
# With fewer residuals the tail, which decides, is guessed better by a normal law.
_LEAST_SHAPE = 128
_CONFIDENCE = 0.9
# A law is handed on as so many values, each as likely: the best few of a hundred are told apart.
_POINTS = 128

_NORMAL = NormalDist()


class RewardLaw:
    """Of one kind of prompts. Rewards are raw; all that it says is of answers that may be delivered."""

    def __init__(self, card: ModelCard | None = None) -> None:
        self._squares = 0.0
        self._freedom = 0.0
        self._residuals: deque[float] = deque()
        self._ordered: list[float] = []
        if card is not None:
            self._freedom = _CARD_FREEDOM
            self._squares = card.deviation**2 * self._freedom
            for residual in _evened(card.residuals):
                self._keep(card.deviation * residual)

    @property
    def deviation(self) -> float | None:
        """Of rewards within a prompt, the best guess; None before anything is known."""
        return math.sqrt(self._squares / self._freedom) if self._freedom else None

    @property
    def bound(self) -> float | None:
        """What the deviation is at most, at 90 %."""
        return math.sqrt(self._squares / _chi_squared(1 - _CONFIDENCE, self._freedom)) if self._freedom else None

    def learn(self, rewards: Sequence[float]) -> None:
        """Of one prompt, sampled whatever came before them. Less than two say nothing."""
        if len(rewards) < 2:
            return
        mean = fmean(rewards)
        residuals = [reward - mean for reward in rewards]
        freedom = len(rewards) - 1
        fading = max(0.0, min(1.0, (_MOST_FREEDOM - freedom) / self._freedom)) if self._freedom else 1.0
        self._squares = self._squares * fading + math.fsum(residual * residual for residual in residuals)
        self._freedom = self._freedom * fading + freedom
        for residual in residuals:
            self._keep(residual / math.sqrt(freedom / len(rewards)))

    def reservation(self, seen: Sequence[float], price: float, width: int = 1) -> float:
        """The reward at which `width` more samples, taken together, are no longer worth their price. seen: one or more.

        price: what a sample must gain, in deviations. It is Pandora's tau (formula 12) of the best of `width` at
        `width` times the price: a wave is paid for as a whole, whichever of it is the best. Infinite where sampling is
        free, and while no deviation is known.
        """
        deviation, bound = self.deviation, self.bound
        if price <= 0 or deviation is None or bound is None:
            return math.inf
        mean = fmean(seen)
        if not deviation:
            return mean
        scale = bound * math.sqrt(1 + 1 / len(seen))
        # In deviations, so that rewards of any size keep their digits.
        values = [
            scale / deviation * self._residual(((place + 0.5) / _POINTS) ** (1 / width)) for place in range(_POINTS)
        ]
        return mean + deviation * reservation(values, price * width)

    def _residual(self, rank: float) -> float:
        """The residual at a rank in (0, 1), in deviations; linear between those that are kept (each at its middle)."""
        count = len(self._ordered)
        if count < _LEAST_SHAPE:
            return _NORMAL.inv_cdf(rank)
        place = min(max(rank * count - 0.5, 0.0), count - 1.0)
        low = min(int(place), count - 2)
        below, above = self._ordered[low], self._ordered[low + 1]
        return (below + (place - low) * (above - below)) / (self.deviation or 1.0)

    def _keep(self, residual: float) -> None:
        self._residuals.append(residual)
        insort(self._ordered, residual)
        if len(self._residuals) > KEPT:
            del self._ordered[bisect_left(self._ordered, self._residuals.popleft())]


class RewardLaws:
    """The laws of one process, by key; those that were not asked for the longest give way."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._laws: OrderedDict[Hashable, RewardLaw] = OrderedDict()

    def of(self, key: Hashable, card: ModelCard | None = None) -> RewardLaw:
        """The law of that key; a new one begins with the card."""
        law = self._laws.get(key)
        if law is None:
            law = self._laws[key] = RewardLaw(card)
        self._laws.move_to_end(key)
        if len(self._laws) > self._most:
            self._laws.popitem(last=False)
        return law

    def __len__(self) -> int:
        return len(self._laws)


def _evened(quantiles: Sequence[float]) -> list[float]:
    """Residuals that are each as likely, of mean 0 and deviation 1, from quantiles at the ranks 0, 1/(k-1), ..., 1."""
    last = len(quantiles) - 1
    if last < 1:
        return []
    found = []
    for index in range(KEPT):
        place = (index + 0.5) / KEPT * last
        low = min(int(place), last - 1)
        found.append(quantiles[low] + (place - low) * (quantiles[low + 1] - quantiles[low]))
    mean = fmean(found)
    spread = math.sqrt(fmean((one - mean) ** 2 for one in found))
    return [(one - mean) / spread for one in found] if spread else []


def _chi_squared(rank: float, freedom: float) -> float:
    """The quantile of the chi-squared law, by Wilson and Hilferty's cube: within 3 % from 3 degrees of freedom on."""
    small = 2 / (9 * freedom)
    return freedom * max(1e-3, 1 - small + _NORMAL.inv_cdf(rank) * math.sqrt(small)) ** 3
