"""The model card: what `bestow calibrate MODEL` has measured of a policy together with a reward model.

It belongs to a public model, and holds for the versions that it names: strategies that need it do without once the
policy or the reward model is another. Rewards are raw; tokens are of the policy.
"""

from itertools import pairwise
from typing import Any

import msgspec

from scorers.calibration.quantiles import RewardLaw

FORMAT = 1


class CurvePoint(msgspec.Struct, frozen=True):
    """Best-of-n at one n: mean reward of the choice, its 95 % interval, mean sampled tokens, median latency.

    gain_low, gain_high: the 95 % interval of what it gains over one answer, prompt by prompt.
    """

    n: int
    reward: float
    low: float
    high: float
    tokens: float
    latency_ms: float | None = None
    gain_low: float = 0.0
    gain_high: float = 0.0


class PartialPoint(msgspec.Struct, frozen=True):
    """How well the reward of the first `tokens` tokens foretells the final one, within prompts.

    correlation: of both, each less its prompt's mean, with a 95 % interval. answers: how many were that long.
    """

    tokens: int
    correlation: float
    low: float
    high: float
    answers: int


class LengthPoint(msgspec.Struct, frozen=True):
    """What the reward is on average at a length, by a local regression over all answers (LOWESS)."""

    tokens: float
    reward: float


class GuardLaw(msgspec.Struct, frozen=True):
    """A category's probabilities over the answers: quantiles at the ranks 0, 1/(k-1), ..., 1."""

    quantiles: list[float]
    flagged: float


class Recommendation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a profile should say for a target. because: one sentence with the figures."""

    target: str
    settings: dict[str, Any]
    because: str


class ModelCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """model: the public name. policy, reward_model: name@N of what was measured. created: seconds since 1970.

    prompts, answers: how many. temperature, max_tokens: of the sampling.
    law: of the rewards of all answers. deviation: of rewards within a prompt (pooled, each prompt's with count - 1).
    residuals: quantiles of (reward - its prompt's mean) / deviation at the ranks 0, 1/(k-1), ..., 1.
    mean_tokens: of an answer. lengths: quantiles of its tokens at the ranks 0, 1/(k-1), ..., 1.
    """

    format: int
    model: str
    policy: str
    reward_model: str
    created: float
    prompts: int
    answers: int
    law: RewardLaw
    deviation: float
    residuals: list[float]
    mean_tokens: float
    curve: list[CurvePoint] = []
    partial: list[PartialPoint] = []
    length: list[LengthPoint] = []
    guard: dict[str, GuardLaw] = {}
    recommendations: list[Recommendation] = []
    temperature: float | None = None
    max_tokens: int | None = None
    lengths: list[float] = []

    def measured_on(self, policy: str, reward_model: str | None) -> bool:
        """Whether it is of these very versions, name@N."""
        return (self.policy, self.reward_model) == (policy, reward_model)

    def correlation(self, tokens: int) -> float | None:
        """Of a partial reward at that many tokens with the final one, linear between points; None where not measured.

        Before the first point it is unknown; after the last, when answers are over, it is the last one's.
        """
        points = self.partial
        if not points or tokens < points[0].tokens:
            return None
        for before, after in pairwise(points):
            if tokens <= after.tokens:
                share = (tokens - before.tokens) / (after.tokens - before.tokens)
                return before.correlation + share * (after.correlation - before.correlation)
        return points[-1].correlation

    def for_length(self, tokens: int) -> float:
        """What the reward is on average at that length; beyond the measured lengths that of the nearest. 0 without."""
        points = self.length
        if not points:
            return 0.0
        if tokens <= points[0].tokens:
            return points[0].reward
        for before, after in pairwise(points):
            if tokens <= after.tokens:
                share = (tokens - before.tokens) / (after.tokens - before.tokens)
                return before.reward + share * (after.reward - before.reward)
        return points[-1].reward
