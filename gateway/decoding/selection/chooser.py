"""Who wins: from judged candidates to an order and the exact probability of each outcome.

    safe ones -> those that keep the form, if any do -> those with a reward, if any have -> the profile's rule draws

A rule only ever draws among candidates that may win: unsafe, pruned and unscored ones have probability 0 wherever a
scored one is left, and where a reward was wanted and none came the outcome is the documented fallback, the first safe
candidate that finished. Nothing is drawn at random in place of a score.

Values are raw rewards, less what length adds where the profile wants that. A reward under its floor ranks behind all
over it. Candidates that say the same are pooled: the earliest stands for all of them with their probabilities together.

After the draw the order goes on as if the rule drew again without what it has drawn, which is how the second check
reads it and why what passes is distributed as the rule says among what passes.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random

from gateway.decoding.candidate import Judged, identity
from gateway.decoding.card import ModelCard
from gateway.decoding.laws.best_of_n import kl, rank_kl
from gateway.decoding.selection.rules import probabilities
from gateway.decoding.selection.settings import SelectionConfig

# Of these rules the probabilities depend on ranks alone, so that their divergence is known and not only bounded.
_BY_RANK = ("argmax", "soft", "poisson")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The probability of everything that could have happened, given the scored candidates; all together sum to 1.

    candidates: for each that it is delivered first. refusal: nothing may be delivered. fallback: no reward came, and
    the first safe candidate is taken. kl_bound: its mean over requests is the most nats by which the choice moves the
    answers' distribution away from the policy's (of its safe answers); None where that is not known.
    """

    candidates: tuple[float, ...]
    refusal: float = 0.0
    fallback: float = 0.0
    kl_bound: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """`order`: positions of the deliverable candidates, the drawn one first; empty when none may be delivered."""

    order: tuple[int, ...]
    outcomes: Outcomes


def certain(judged: Sequence[Judged], order: Sequence[int], kl_bound: float | None = None) -> Outcomes:
    """The outcomes where nothing is left to chance: the first of the order, or a refusal."""
    if not order:
        return Outcomes((0.0,) * len(judged), refusal=1.0, kl_bound=kl_bound)
    return Outcomes(tuple(float(position == order[0]) for position in range(len(judged))), kl_bound=kl_bound)


@dataclass(frozen=True, slots=True)
class Chooser:
    """A profile's rule for one request. rewarded: a reward is to decide. card: of this policy and reward model."""

    settings: SelectionConfig = field(default_factory=SelectionConfig)
    rewarded: bool = True
    card: ModelCard | None = None
    rng: Random = field(default_factory=Random)

    def rank(self, judged: Sequence[Judged], *, unjudged_passes: bool = False) -> Ranking:
        """Who wins, and who comes next. unjudged_passes: a candidate that the guard could not judge counts as safe."""
        values = [self.value(one) for one in judged]
        safe = [position for position, one in enumerate(judged) if one.safe(unjudged_passes)]
        order = sorted(safe, key=lambda position: _key(judged[position], values[position]))
        if not order:
            return Ranking((), certain(judged, ()))
        if not self.rewarded or values[order[0]] is None:
            found = certain(judged, order)
            bound = self._kl_bound(judged, order, found.candidates)
            if self.rewarded:
                found = Outcomes((0.0,) * len(judged), fallback=1.0)
            return Ranking(tuple(order), replace(found, kl_bound=bound))
        best = _standing(judged[order[0]], values[order[0]])
        drawn_from = sorted(one for one in order if _standing(judged[one], values[one]) == best)
        numbers = [value.number for position in drawn_from if (value := values[position]) is not None]
        drawn = probabilities(numbers, self.settings, (self.card.deviation if self.card else 0.0) or 1.0)
        chances = [0.0] * len(judged)
        for position, chance in zip(drawn_from, drawn, strict=True):
            chances[position] = chance
        pooled = _pooled(judged, chances)
        bound = self._kl_bound(judged, order, pooled, ranked=len(drawn_from))
        return Ranking(self._drawn(order, pooled), Outcomes(pooled, kl_bound=bound))

    def peers(self, judged: Sequence[Judged], winner: int) -> list[int]:
        """Positions of those that differ from the winner in their values alone, itself among them; best first."""
        values = [self.value(one) for one in judged]
        standing = _standing(judged[winner], values[winner])
        alike = [position for position, one in enumerate(judged) if _standing(one, values[position]) == standing]
        return sorted(alike, key=lambda position: _key(judged[position], values[position]))

    def value(self, judged: Judged) -> "Value | None":
        """What the rule compares; None where there is no reward."""
        if judged.reward is None:
            return None
        if (floor := self.settings.floor) is not None:
            parts = (score.parts for score in judged.scores.values())
            part = next((one[floor.part] for one in parts if floor.part in one), None)
            if part is None:
                return None
            if part < floor.least:
                return Value(part, under_floor=True)
        if self.settings.length and self.card is not None:
            return Value(judged.reward - self.card.for_length(judged.candidate.completion_tokens))
        return Value(judged.reward)

    def _drawn(self, order: Sequence[int], chances: Sequence[float]) -> tuple[int, ...]:
        """The order as draws without replacement make it; those that cannot be drawn stay as they are, behind."""
        if max(chances) == 1.0:
            first = chances.index(1.0)
            return (first, *(position for position in order if position != first))
        # An exponential clock for each, as fast as it is likely; the order is that in which they ring.
        rings = {position: self.rng.expovariate(1.0) / chances[position] for position in order if chances[position]}
        return (*sorted(rings, key=rings.__getitem__), *(position for position in order if position not in rings))

    def _kl_bound(
        self, judged: Sequence[Judged], order: Sequence[int], chances: Sequence[float], ranked: int = 0
    ) -> float:
        """Nats. ranked: how many of the order the rule drew from; none where it was not asked.

        No choice among n samples moves further than the best of n: whatever it is, it delivers one of a set A of
        answers with probability 1 - (1 - P(A))^n at most. A rule on ranks among all has the divergence of its ranks:
        exact where no two tie, and a bound for any. Elsewhere it is how far the probabilities are from any candidate
        alike. Those that were cut off were chosen from as well.
        """
        among = [*order, *(position for position, one in enumerate(judged) if one.cut_off)]
        if not ranked or (self.settings.rule == "argmax" and not self.settings.explore):
            return kl(len(among))
        if self.settings.rule in _BY_RANK and ranked == len(among):
            return _kl_by_rank(self.settings, ranked)
        return kl_to_any(judged, among, chances)


@lru_cache(maxsize=256)
def _kl_by_rank(settings: SelectionConfig, count: int) -> float:
    return rank_kl(tuple(probabilities(range(count), settings)))


def kl_to_any(judged: Sequence[Judged], among: Sequence[int], chances: Sequence[float]) -> float:
    """Nats between the text that is drawn and that of any of `among` alike: sum of p log(p m / copies) over the texts.

    Any of them is an answer of the policy, so the mean over requests bounds the divergence of what is delivered
    (data processing).
    """
    texts = [identity(judged[position].candidate.message) for position in among]
    copies, drawn = Counter(texts), dict.fromkeys(texts, 0.0)
    for text, position in zip(texts, among, strict=True):
        drawn[text] += chances[position]
    terms = (chance * math.log(chance * len(among) / copies[text]) for text, chance in drawn.items() if chance)
    return max(0.0, math.fsum(terms))


@dataclass(frozen=True, slots=True)
class Value:
    """What a rule compares. under_floor: it is the second reward, which is too low."""

    number: float
    under_floor: bool = False


def _standing(judged: Judged, value: Value | None) -> tuple[bool, int, bool, bool]:
    """Smaller is better, and beats all that is larger, whatever the values."""
    return (
        judged.broken is not None,
        -judged.stages,
        value is None,
        value is not None and value.under_floor,
    )


def _key(judged: Judged, value: Value | None) -> tuple[tuple[bool, int, bool, bool], float, float, int]:
    """Smaller is better: by value, ties by the earliest; without one by the last prune stage's score, else by time."""
    known = judged.prior if value is None else value.number
    return (
        _standing(judged, value),
        math.inf if known is None else -known,
        judged.candidate.finished_s if known is None else 0.0,
        judged.candidate.index,
    )


def _pooled(judged: Sequence[Judged], chances: Sequence[float]) -> tuple[float, ...]:
    """The chances of candidates that say the same, all on the earliest that can be drawn."""
    pooled = [0.0] * len(judged)
    firsts: dict[bytes, int] = {}
    for position, chance in enumerate(chances):
        if chance:
            pooled[firsts.setdefault(identity(judged[position].candidate.message), position)] += chance
    return tuple(pooled)
