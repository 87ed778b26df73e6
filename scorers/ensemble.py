"""Several reward models as one: the weighted sum of their rewards, each on the scale of its own calibration.

Raw rewards of different models cannot be added: one of deviation 10 drowns one of deviation 1. So each is standardised
first, (reward - mean) / deviation under the reference policy (formula 7 of reference/decoding.md; WCO and UWO, Coste et
al. 2024, arXiv:2310.02743, can be computed from `parts`, which has each member's raw reward). A candidate that one
member could not score has no score: a sum over fewer would be another number.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from scorers.calibration.calibrated import CalibratedScorer
from scorers.contract import Score, ScoreRequest, ScorerInfo, ServedScorer
from scorers.loading import Loading, declared
from scorers.model_path import LoadError
from scorers.scorer_settings import EnsembleConfig


@dataclass(frozen=True, slots=True)
class Member:
    """One of them, by its name; (reward - mean) / deviation times `weight` is what it adds."""

    name: str
    scorer: ServedScorer
    weight: float
    mean: float = 0.0
    deviation: float = 1.0

    def share(self, reward: float) -> float:
        """What it adds to the sum."""
        return self.weight * (reward - self.mean) / self.deviation


class Ensemble:
    """Implements `scorers.contract.ServedScorer`. Members are served by themselves too, so it does not close them."""

    def __init__(self, info: ScorerInfo, members: Sequence[Member]) -> None:
        self._info = info
        self._members = tuple(members)

    @property
    def info(self) -> ScorerInfo:
        return self._info

    @property
    def waiting(self) -> int:
        """None: what waits, waits for a member."""
        return 0

    async def score(self, request: ScoreRequest) -> list[Score]:
        """See the contract. All members are asked at once. Raises what a member raises."""
        try:
            async with asyncio.TaskGroup() as asked:
                tasks = [
                    asked.create_task(member.scorer.score(replace(request, model=member.name, raw=True)))
                    for member in self._members
                ]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [self._sum(scores) for scores in zip(*(task.result() for task in tasks), strict=True)]

    def _sum(self, scores: Sequence[Score]) -> Score:
        tokens = sum(score.tokens for score in scores)
        parts: dict[str, float] = {}
        for member, score in zip(self._members, scores, strict=True):
            if score.value is None:
                reason = score.error or "It gave no value."
                return Score(error=f"{member.name}: {reason}", unreadable=score.unreadable, tokens=tokens)
            parts[member.name] = score.value
        value = math.fsum(member.share(parts[member.name]) for member in self._members)
        if not math.isfinite(value):
            return Score(error=f"The sum of the members' rewards is {value}, which is no finite number.", tokens=tokens)
        return Score(value=value, parts=parts, tokens=tokens)

    async def close(self) -> None:
        """Nothing of its own runs."""


def members_of(name: str, config: EnsembleConfig, loading: Loading) -> list[Member]:
    """The members, with their calibration where rewards are standardised. Raises LoadError."""
    return [_member(name, one, weight, config.standardise, loading) for one, weight in config.members.items()]


def _member(ensemble: str, name: str, weight: float, standardise: bool, loading: Loading) -> Member:
    scorer = loading.loaded.get(name)
    if scorer is None:
        known = ", ".join(sorted(loading.loaded)) or "none"
        raise LoadError(
            f"The ensemble {ensemble} has the member {name}, which this server has not loaded; it has {known}. "
            "Members must have no `url`, and may not hold each other."
        )
    info = scorer.info
    if info.gives != "value":
        raise LoadError(
            f"The ensemble {ensemble} has the member {name}, which guards (kind {info.kind}) and ranks not."
        )
    if info.relative:
        raise LoadError(
            f"The ensemble {ensemble} has the member {name}, whose scores depend on the other candidates: they have no "
            "scale of their own. Use `mode: pointwise`."
        )
    if not standardise:
        return Member(name, scorer, weight)
    law = scorer.calibration.reward if isinstance(scorer, CalibratedScorer) else None
    if law is None:
        raise LoadError(
            f"The ensemble {ensemble} puts its members on one scale, and {name} has no calibration of its rewards: "
            "measure it with `bestow calibrate`, or set standardise: false where all have the same scale."
        )
    return Member(name, scorer, weight, law.mean, law.deviation)


def load(name: str, config: EnsembleConfig, loading: Loading) -> tuple[Ensemble, str]:
    """The scorer, and its members in a few words. Raises LoadError."""
    members = members_of(name, config, loading)
    if not any(member.weight for member in members):
        raise LoadError(f"All members of the ensemble {name} weigh 0, so every reward would be 0.")
    infos = [member.scorer.info for member in members]
    vocabularies = {info.vocabulary for info in infos}
    info = declared(
        name,
        config,
        max_tokens=min((one.max_tokens for one in infos if one.max_tokens), default=0),
        partial=all(one.partial for one in infos),
        vocabulary=vocabularies.pop() if len(vocabularies) == 1 else "",
    )
    return Ensemble(info, members), ", ".join(f"{member.weight:g} x {member.name}" for member in members)
