"""The KL bound that goes into the log, against what a rule really does to a small policy: all samples enumerated.

A policy of a few texts is sampled n times in every possible way; each way is ranked, its probabilities summed by text.
What comes out is the law of the delivered answer, exactly. Its divergence from the policy's safe answers is at most the
mean of the bounds that were logged.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import Any

import pytest

from gateway.decoding.candidate import Judged
from gateway.decoding.second_check import checked_again
from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.selection.settings import Floor, SelectionConfig
from gateway.decoding.strategy import Decision, Progress
from gateway.log.records import Message, Verdict
from scorers.contract import Score
from tests.gateway.decoding.judged import judged


@dataclass(frozen=True)
class Text:
    """A text of the policy: how likely, its reward, and what else is known of it. again: the second check passes it."""

    likely: float
    reward: float | None
    again: bool = True
    more: tuple[tuple[str, Any], ...] = ()

    def sampled(self, index: int, name: str) -> Judged:
        return judged(index, self.reward, text=name, **dict(self.more))


def text(likely: float, reward: float | None, again: bool = True, **more: Any) -> Text:
    return Text(likely, reward, again, tuple(more.items()))


POLICIES: dict[str, list[Text]] = {
    "distinct": [text(0.5, 0.1), text(0.3, 1.0), text(0.2, 2.5)],
    "two": [text(0.5, 0.0), text(0.5, 1.0)],
    "rare and good": [text(0.9, 0.0), text(0.07, 1.0), text(0.03, 9.0)],
    "equal rewards": [text(0.4, 1.0), text(0.35, 1.0), text(0.25, 2.0)],
    "all equal": [text(0.6, 1.0), text(0.3, 1.0), text(0.1, 1.0)],
    "one unsafe": [text(0.3, 0.0), text(0.3, 1.0), text(0.2, 2.0), text(0.2, 9.0, flagged=True)],
    "one broken": [text(0.6, 2.0, broken="no JSON"), text(0.3, 1.0), text(0.1, 0.5)],
    "one unscored": [text(0.5, None), text(0.3, 1.0), text(0.2, 2.0)],
    "none scored": [text(0.6, None, finished_s=2.0), text(0.3, None, finished_s=1.0), text(0.1, None, finished_s=3.0)],
    "under a floor": [
        text(0.8, 2.0, scores={"e@1": Score(value=2.0, parts={"harmless": -1.0})}),
        text(0.15, 1.0, scores={"e@1": Score(value=1.0, parts={"harmless": 1.0})}),
        text(0.05, 1.5, scores={"e@1": Score(value=1.5, parts={"harmless": 1.0})}),
    ],
}
RULES: dict[str, SelectionConfig] = {
    "argmax": SelectionConfig(),
    "argmax, exploring": SelectionConfig(explore=0.3),
    "soft, near argmax": SelectionConfig(rule="soft", temperature=0.05),
    "soft": SelectionConfig(rule="soft", temperature=0.7),
    "poisson": SelectionConfig(rule="poisson", mean=1.5),
    "poisson, exploring": SelectionConfig(rule="poisson", mean=6.0, explore=0.1),
    "pessimism": SelectionConfig(rule="pessimism", beta=0.3),
    "pessimism, bold": SelectionConfig(rule="pessimism", beta=0.01),
}
Rank = Callable[[Sequence[Judged]], Decision]


def law(policy: Sequence[Text], n: int, rank: Rank) -> tuple[list[float], float]:
    """(the law of the delivered text, the mean bound), both where something is delivered."""
    found, bound, delivered = [0.0] * len(policy), 0.0, 0.0
    for sample in product(range(len(policy)), repeat=n):
        chance = math.prod(policy[one].likely for one in sample)
        decision = rank([policy[one].sampled(index, f"text {one}") for index, one in enumerate(sample)])
        if not decision.order:
            assert decision.outcomes.kl_bound is None
            continue
        assert decision.outcomes.kl_bound is not None
        delivered += chance
        bound += chance * decision.outcomes.kl_bound
        chances = decision.outcomes.candidates
        if decision.outcomes.fallback:
            chances = tuple(float(position == decision.order[0]) for position in range(n))
        for one, probability in zip(sample, chances, strict=True):
            found[one] += chance * probability
    return [one / delivered for one in found], bound / delivered


def divergence(found: Sequence[float], policy: Sequence[Text], may: Callable[[Text], bool]) -> float:
    """KL to the policy's texts that may be delivered, in nats."""
    among = math.fsum(one.likely for one in policy if may(one))
    return math.fsum(p * math.log(p * among / one.likely) for p, one in zip(found, policy, strict=True) if p)


def ranked(chooser: Chooser) -> Rank:
    def rank(candidates: Sequence[Judged]) -> Decision:
        ranking = chooser.rank(candidates)
        return Decision(tuple(candidates), ranking.order, ranking.outcomes, None, 0.0)

    return rank


def safe(one: Text) -> bool:
    return not dict(one.more).get("flagged")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_what_is_delivered_is_no_further_from_the_policy_than_the_bound(policy: str, rule: str, n: int) -> None:
    texts, settings = POLICIES[policy], RULES[rule]
    if policy == "under a floor":
        settings = settings.model_copy(update={"floor": Floor(part="harmless", least=0.0)})
    found, bound = law(texts, n, ranked(Chooser(settings)))
    assert divergence(found, texts, safe) <= bound + 1e-9
    if n == 1:
        assert bound == pytest.approx(0.0, abs=1e-12)


def rechecked(chooser: Chooser, texts: Sequence[Text]) -> Rank:
    """Ranked, then read by a second guard that passes what it must."""

    async def check(message: Message) -> Verdict:
        passes = texts[int(str(message["content"]).split()[-1])].again
        return Verdict(categories={"x": 0.1}) if passes else Verdict(categories={"x": 0.9}, flagged=["x"])

    def rank(candidates: Sequence[Judged]) -> Decision:
        decision = ranked(chooser)(candidates)
        return asyncio.run(checked_again(decision, 1, check, Progress(), unjudged_passes=False))

    return rank


@pytest.mark.parametrize("fails", [0, 1, 2])
@pytest.mark.parametrize("policy", ["distinct", "rare and good", "equal rewards", "one broken", "none scored"])
@pytest.mark.parametrize("rule", RULES)
def test_what_passes_the_second_check_is_no_further_from_what_would_pass(policy: str, fails: int, rule: str) -> None:
    texts = [replace(one, again=index != fails) for index, one in enumerate(POLICIES[policy])]
    found, bound = law(texts, 3, rechecked(Chooser(RULES[rule], rng=Random(5)), texts))
    assert found[fails] == 0.0
    assert divergence(found, texts, lambda one: one.again) <= bound + 1e-9


@pytest.mark.parametrize("rule", RULES)
def test_what_a_prune_stage_gave_up_counts_as_choice_too(rule: str) -> None:
    """A stage keeps two of three by a score of its own; the rule draws among those."""
    texts = [text(0.5, 1.0), text(0.3, 3.0), text(0.2, 2.0)]
    by_stage = [0.0, 1.0, 2.0]

    def rank(candidates: Sequence[Judged]) -> Decision:
        priors = [by_stage[int(str(one.candidate.message["content"]).split()[-1])] for one in candidates]
        kept = sorted(range(len(candidates)), key=lambda at: (-priors[at], at))[:2]
        staged = [
            replace(one, prior=prior, stages=1)
            if at in kept
            else replace(one, prior=prior, reward=None, pruned_by="cheap@1")
            for at, (one, prior) in enumerate(zip(candidates, priors, strict=True))
        ]
        return ranked(Chooser(RULES[rule]))(staged)

    found, bound = law(texts, 3, rank)
    assert divergence(found, texts, safe) <= bound + 1e-9


@pytest.mark.parametrize("rule", ["argmax", "argmax, exploring", "soft", "poisson", "poisson, exploring"])
def test_for_many_distinct_rewards_a_rule_by_rank_is_as_far_as_its_bound(rule: str) -> None:
    """Twelve equally likely texts are nearly continuous: a bound of log n, say, would be far off."""
    texts = [text(1 / 12, float(one)) for one in range(12)]
    found, bound = law(texts, 3, ranked(Chooser(RULES[rule])))
    assert 0.9 * bound < divergence(found, texts, safe) <= bound
