"""Shortest good: of the candidates about as good as the best one, the one with the fewest tokens.

Needs: a reward. Costs: what best-of-n costs, whose sampling, judging, deadline and guard it takes over as they are;
only the choice is its own. Candidates within `margin` of the best reward count as good. Where rewards are missing (the
reward model is away) best-of-n's own fallback stands.
"""

from dataclasses import replace

from pydantic import Field

from gateway.decoding.best_of_n import best_of_n
from gateway.decoding.selection.chooser import certain, kl_to_any
from gateway.decoding.strategy import Decision, Judge, Options, Progress, Sampler, Strategy, Task


class ShortestGoodOptions(Options):
    margin: float = Field(
        0.3,
        ge=0,
        le=100,
        description="How much less reward a shorter answer may have, in deviations of the reward within a prompt (the "
        "model card's; raw rewards where there is none).",
    )


async def shortest_good(task: Task, sampler: Sampler, judge: Judge, progress: Progress) -> Decision:
    """Decide one request; raises what best_of_n raises."""
    options = task.options
    assert isinstance(options, ShortestGoodOptions)
    decision = await best_of_n(task, sampler, judge, progress)
    deviation = task.card.deviation if task.card else 1.0
    good = within(decision, options.margin * deviation)
    if not good:
        return decision
    shortest = min(good, key=lambda at: (decision.judged[at].candidate.completion_tokens, at))
    order = (shortest, *(at for at in decision.order if at != shortest))
    # What the log keeps of the choice: it was certain, and how far it may be from the policy.
    outcomes = certain(decision.judged, order)
    bound = kl_to_any(decision.judged, decision.order, outcomes.candidates)
    return replace(decision, order=order, outcomes=replace(outcomes, kl_bound=bound))


def within(decision: Decision, margin: float) -> list[int]:
    """Positions of the good ones, among `order`: what is not in it may not be delivered."""
    keep_form = [at for at in decision.order if decision.judged[at].broken is None]
    rewards = {at: reward for at in keep_form or decision.order if (reward := decision.judged[at].reward) is not None}
    best = max(rewards.values(), default=0.0)
    return [at for at, reward in rewards.items() if reward >= best - margin]


STRATEGY = Strategy(
    name="shortest_good",
    about="Samples n candidates and delivers the shortest of those about as good as the best.",
    run=shortest_good,
    options=ShortestGoodOptions,
    needs=frozenset({"reward"}),
)
