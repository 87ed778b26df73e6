"""Several reward models as one, each on the scale of its own calibration: summed by weight, or with caution.

Raw rewards of different models cannot be combined: one of deviation 10 drowns one of deviation 1. So each is
standardised first, (reward - mean) / deviation under the reference policy. `combine` says what follows (formula 7 of
reference/decoding.md; Coste et al. 2024, arXiv:2310.02743):

    weighted     sum of weight * reward
    worst        WCO: the lowest of them
    uncertainty  UWO: mean - penalty * variance, over the members

The last two keep best-of-n from choosing what one member errs about, and only where the others do not share its error.
The variance is the population's (ddof 0). The paper's code uses ddof 0 in best-of-n and 1 in PPO; here it is 0 always,
and `penalty` is the 0.5 of its best-of-n pipeline if nothing is said.

A member of weight 0 is asked and told of in `parts`, for a floor under its reward say, and does not count. A candidate
that one member could not score has no score: what is left of the members would give another number.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from scorers.calibration.calibrated import CalibratedScorer
from scorers.contract import Score, ScoreRequest, ScorerInfo, ServedScorer
from scorers.loading import Loading, declared
from scorers.model_path import LoadError
from scorers.scorer_settings import EnsembleConfig

PENALTY = 0.5

Combiner = Callable[[Sequence[float]], float]
"""One number out of what the members of a weight give. Raises ArithmeticError or ValueError where there is none."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of them, by its name; (reward - mean) / deviation times `weight` is what it gives."""

    name: str
    scorer: ServedScorer
    weight: float
    mean: float = 0.0
    deviation: float = 1.0

    def share(self, reward: float) -> float:
        """What it gives to be combined."""
        return self.weight * (reward - self.mean) / self.deviation


class Ensemble:
    """Implements `scorers.contract.ServedScorer`. Members are served by themselves too, so it does not close them."""

    def __init__(self, info: ScorerInfo, members: Sequence[Member], combine: Combiner) -> None:
        self._info = info
        self._members = tuple(members)
        self._combine = combine

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
        return [self._combined(scores) for scores in zip(*(task.result() for task in tasks), strict=True)]

    def _combined(self, scores: Sequence[Score]) -> Score:
        tokens = sum(score.tokens for score in scores)
        parts: dict[str, float] = {}
        for member, score in zip(self._members, scores, strict=True):
            if score.value is None:
                reason = score.error or "It gave no value."
                return Score(error=f"{member.name}: {reason}", unreadable=score.unreadable, tokens=tokens)
            if not math.isfinite(score.value):
                return Score(error=f"{member.name}: Its reward is {score.value}, no finite number.", tokens=tokens)
            parts[member.name] = score.value
        try:
            value = self._combine([member.share(parts[member.name]) for member in self._members if member.weight])
        except (ArithmeticError, ValueError):
            value = math.nan  # fsum and squares raise where they leave the range of floats
        if not math.isfinite(value):
            return Score(error="The members' rewards are too large: combined they are no finite number.", tokens=tokens)
        return Score(value=value, parts=parts, tokens=tokens)

    async def close(self) -> None:
        """Nothing of its own runs."""


def mean_less_variance(rewards: Sequence[float], *, penalty: float) -> float:
    """UWO: mean - penalty * variance (ddof 0) of at least one reward."""
    mean = math.fsum(rewards) / len(rewards)
    return mean - penalty * math.fsum((reward - mean) ** 2 for reward in rewards) / len(rewards)


def combining(config: EnsembleConfig) -> tuple[Combiner, str]:
    """What the settings ask for, and the same in a few words."""
    names = ", ".join(f"{weight:g} x {name}" for name, weight in config.members.items())
    match config.combine:
        case "weighted":
            return math.fsum, names
        case "worst":
            return min, f"the worst of {names}"
        case "uncertainty":
            penalty = PENALTY if config.penalty is None else config.penalty
            return partial(mean_less_variance, penalty=penalty), f"mean - {penalty:g} x variance of {names}"


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
    if not standardise or not weight:
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
    combine, words = combining(config)
    return Ensemble(info, members, combine), words
