"""Early stopping: sample in waves, and stop once a safe candidate is good enough.

Needs: a reward that can be had of each candidate alone. Costs: between one wave and n samples; the wall time of each
wave's slowest, one after the other. Good enough is one of two:

    threshold   a raw reward, for reward models whose scale is known
    price       Pandora's rule (formula 12): go on while the next wave's best is expected to gain more than it costs

        E[(best of the next wave - best so far)+] > width * price * tokens / 1000 * deviation

    with the law of rewards as `reward_laws` has learnt it for this model and kind of prompt, tokens the mean length of
    this prompt's answers, and deviation that of rewards within a prompt: so a price holds for any reward model, and
    says what 1,000 tokens must gain. For waves of one and a known law it draws 1 / P(v >= tau) times and nets tau
    (Weitzman 1979; Kalayci et al. 2025, arXiv:2510.01394). A sample that may not be delivered gains nothing: the price
    is divided by the share of those that may, one more of each counted.

Unsafe candidates never count, nor do those that any other beats: broken in form, or under a floor. While none counts it
goes on, up to n; then it samples again as best-of-n does. Where the reward model answers for none, no more are sampled:
they could not be chosen by it. Where rewards come only at the end (prune stages, scorers that compare), there is
nothing to stop by: it is best-of-n, and says so.

What is delivered is the selection rule's choice among all that was sampled. Its divergence from the policy is bounded
as that of a choice among all that could have been.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Self

from pydantic import Field, FiniteFloat, model_validator

from gateway.decoding.candidate import Judged
from gateway.decoding.shortfall import explain
from gateway.decoding.strategy import Decision, Judge, Options, Progress, Sampler, Strategy, Task
from gateway.decoding.waves import choice_bound, in_waves, worth


class EarlyStoppingOptions(Options):
    """When it stops, and how many are sampled at a time."""

    threshold: FiniteFloat | None = Field(None, description="Stop once a safe candidate has this raw reward.")
    price: FiniteFloat | None = Field(
        None,
        ge=0,
        description="What 1,000 sampled tokens must be expected to gain at least, in deviations of the reward within a "
        "prompt; 0 samples n.",
    )
    first: int | None = Field(None, ge=1, le=128, description="Candidates of the first wave; empty: n / 4, at least 2.")
    wave: int | None = Field(None, ge=1, le=128, description="Candidates of the following ones; empty: as the first.")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.threshold is None) == (self.price is None):
            raise ValueError("early_stopping stops by threshold or by price: give one of them")
        return self


async def early_stopping(task: Task, sampler: Sampler, judge: Judge, progress: Progress) -> Decision:
    """Decide one request; raises as best-of-n does."""
    options = task.options
    assert isinstance(options, EarlyStoppingOptions)
    rule = _Rule(task, options)
    sampled = await in_waves(task, sampler, judge, progress, rule.more)
    ranking = task.chooser.rank(sampled.judged, unjudged_passes=task.unjudged_passes)
    if not ranking.order:
        explain(sampled.judged, sampled.failure, timed_out=sampled.timed_out)
    outcomes = ranking.outcomes
    if outcomes.kl_bound is not None and rule.first < task.n:
        outcomes = replace(outcomes, kl_bound=choice_bound(max(task.n, len(sampled.judged)), outcomes))
    decision = sampled.decision(ranking.order, outcomes, progress)
    return replace(decision, instead="best_of_n", because="late_rewards") if rule.blind else decision


@dataclass(slots=True)
class _Rule:
    """How many more, candidate by candidate judged. blind: rewards come at the end only."""

    task: Task
    options: EarlyStoppingOptions
    blind: bool = False

    @property
    def first(self) -> int:
        return max(self.options.first or max(2, self.task.n // 4), self.task.deliver)

    def more(self, judged: Sequence[Judged]) -> int:
        """0 once it is enough."""
        if not judged:
            return self.first
        if all(one.reward is None and one.reward_error is None for one in judged):
            self.blind = True
            return self.task.n
        values = [value for one in judged if (value := worth(self.task, one)) is not None]
        if not values:
            return 0 if self._unscored(judged) else self._width(judged)
        enough = len(values) >= self.task.deliver and max(values) >= self._good_enough(judged, values)
        return 0 if enough else self._width(judged)

    def _width(self, judged: Sequence[Judged]) -> int:
        return min(self.options.wave or self.first, self.task.n - len(judged))

    def _good_enough(self, judged: Sequence[Judged], values: Sequence[float]) -> float:
        if self.options.threshold is not None:
            return self.options.threshold
        usable = (len(values) + 1) / (len(judged) + 1)
        tokens = fmean(one.candidate.completion_tokens for one in judged)
        price = (self.options.price or 0.0) * tokens / 1000 / usable
        return self.task.law.reservation(values, price, self._width(judged))

    def _unscored(self, judged: Sequence[Judged]) -> bool:
        """The reward model said nothing, and not for want of a candidate that may be delivered."""
        return all(one.reward is None for one in judged) and any(one.safe(self.task.unjudged_passes) for one in judged)


STRATEGY = Strategy(
    name="early_stopping",
    about="Samples in waves and stops once a safe candidate is good enough, by a threshold or by a price.",
    run=early_stopping,
    options=EarlyStoppingOptions,
    needs=frozenset({"reward"}),
)
