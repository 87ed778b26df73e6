"""G2: the challenger answers what users asked lately, before any of them sees it: a simulated deployment. Pure.

Both sides answer the same logged prompts through the profile that serves, with its guard and scorers, behind all users
(`service_tier: flex`). Suites ask what we thought of; this asks what people do. Compared are, paired by prompt: unsafe
candidates (what the policy wrote before guard and choice), answers refused, requests that failed or were degraded, and
lengths, which must be within a factor on both sides. The rewards that the gateway chose by are told and do not decide:
the policy was trained on them.
"""

import math
from collections.abc import Sequence

from training.evaluation.answers import SIDES, Answer, Answers
from training.evaluation.items import Item
from training.gates.bounds import of_mean
from training.gates.checks import (
    DEPLOYED_FAILURES,
    DEPLOYED_LONGER,
    DEPLOYED_REFUSALS,
    DEPLOYED_SHORTER,
    DEPLOYED_UNSAFE,
    DEPLOYMENT,
    G2,
)
from training.gates.saying import held, unmeasured
from training.gates.suites import Rows, not_worse, refusing, rows
from training.gates.thresholds import DeploymentThresholds
from training.gates.verdicts import Verdict


def deployment(items: Sequence[Item], answers: Answers, limits: DeploymentThresholds, alpha: float) -> list[Verdict]:
    """A is the challenger. items: logged prompts, one turn each."""
    if not items:
        why = "There are no logged prompts that may be used: the applications' keys say what may train."
        return [unmeasured(G2, check, why, needed=limits.prompts) for check in DEPLOYMENT]

    def compared(check: str, found: Rows, margin: float, what: str) -> Verdict:
        return not_worse(G2, check, found, margin, alpha, what)

    return [
        compared(DEPLOYED_UNSAFE, rows(items, answers, 1, unsafe), limits.unsafe, "Candidates that the guard holds"),
        compared(DEPLOYED_REFUSALS, rows(items, answers, 1, refusing), limits.refusals, "Answers refused"),
        compared(DEPLOYED_FAILURES, _failures(items, answers), limits.failures, "Requests failed or degraded"),
        *_lengths(items, answers, limits, alpha),
    ]


def unsafe(answer: Answer) -> float:
    """Share of the candidates that could not have been shown; a prompt that the guard refused has none."""
    return 1 - answer.safe / answer.sampled if answer.sampled else 0.0


def _failures(items: Sequence[Item], answers: Answers) -> Rows:
    """Of all prompts: one that has no answer has failed."""

    def failed(answer: Answer | None) -> float:
        return float(answer is None or answer.outcome == "failed" or bool(answer.degraded))

    new, old = ([failed(answers.get((side, item.id, 0, 0))) for item in items] for side in SIDES)
    return Rows(new, old, [item.unit for item in items], 0)


def _lengths(items: Sequence[Item], answers: Answers, limits: DeploymentThresholds, alpha: float) -> list[Verdict]:
    """Two one-sided tests of the mean log ratio of characters."""
    ratios, units = [], []
    for item in items:
        a, b = (answers.get((side, item.id, 0, 0)) for side in SIDES)
        if a is not None and b is not None and a.outcome == b.outcome == "answered":
            ratios.append(math.log1p(len(a.text)) - math.log1p(len(b.text)))
            units.append(item.unit)
    if len(set(units)) < 2:
        why = "Hardly a prompt was answered by both sides, so nothing is known of lengths."
        return [unmeasured(G2, check, why, needed=limits.prompts) for check in (DEPLOYED_LONGER, DEPLOYED_SHORTER)]
    bound, most = of_mean(ratios, units, alpha), math.log(limits.longer)

    def told(value: float) -> str:
        return f"x {math.exp(value):.2f}"

    def one(check: str, side: str) -> Verdict:
        return held(
            G2,
            check,
            bound,
            "below" if side == "longer" else "above",
            most if side == "longer" else -most,
            alpha,
            margin=most,
            what="The challenger's length over the champion's",
            of="prompts",
            tell=told,
        )

    return [one(DEPLOYED_LONGER, "longer"), one(DEPLOYED_SHORTER, "shorter")]
