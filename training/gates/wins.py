"""G2: whether the challenger's answers are better, by a reward model that it was not trained on. Pure.

The holdout reward model decides: win rate over the champion above one half, plain and at equal lengths. Beside it is
what the reward model that the policy was trained on (the proxy) says of the same answers: where the proxy sees a far
larger win than the holdout, the policy has learnt the proxy's errors. In a trial a policy that was worse by gold (.29)
had won by the holdout (.54), whose errors are partly the proxy's; the gap, .41, told.

    gap = mean over places of (win by the proxy - win by the holdout)

on the same answers, so what both have in common cancels. A larger gap is also what honest progress on the proxy looks
like, so its limit is of healthy versions (`make experiment-gates`).
"""

from collections.abc import Mapping, Sequence

from training.evaluation.answers import Which
from training.evaluation.judged import Scored
from training.evaluation.length_control import LengthControlled, length_controlled
from training.evaluation.win_rate import Pair, decided_by_rewards
from training.gates.bounds import of_estimate, of_mean, of_share
from training.gates.checks import EQUAL_WINS, G2, GAP, WINS
from training.gates.saying import held, plain, unmeasured
from training.gates.thresholds import PolicyThresholds
from training.gates.verdicts import Verdict

Rewards = Mapping[tuple[Which, str, int, int], Scored]


def wins(
    pairs: Sequence[Pair], holdout: Rewards, proxy: Rewards | None, limits: PolicyThresholds, alpha: float
) -> list[Verdict]:
    """pairs: A is the challenger. proxy: None where there is none, such as for a policy trained on demonstrations."""
    by_holdout = decided_by_rewards(pairs, holdout)
    if by_holdout is None or not by_holdout.decided:
        why = "The holdout reward model has not read all answers: run the gate again."
        return [unmeasured(G2, check, why) for check in (WINS, EQUAL_WINS, GAP)]
    decided = by_holdout.decided
    won, units = [one.win for one in decided], [one.pair.item.unit for one in decided]
    found = [
        held(
            G2,
            WINS,
            of_share(won, units, alpha),
            "above",
            limits.win_rate,
            alpha,
            margin=limits.win_margin,
            what="The challenger's win rate by the holdout reward model",
            of="prompts",
            facts={"left out": len(by_holdout.errors)} if by_holdout.errors else {},
        ),
        _at_equal_length(won, [float(one.pair.longer) for one in decided], units, limits, alpha),
    ]
    return [*found, _gap({one.pair.place: one.win for one in decided}, pairs, proxy, limits, alpha)]


def _at_equal_length(
    won: Sequence[float], longer: Sequence[float], units: Sequence[str], limits: PolicyThresholds, alpha: float
) -> Verdict:
    controlled = length_controlled(won, longer, units, 2 * alpha)
    if not isinstance(controlled, LengthControlled):
        return unmeasured(G2, EQUAL_WINS, f"There is no win rate at equal lengths: {controlled}.", n=len(set(units)))
    return held(
        G2,
        EQUAL_WINS,
        of_estimate(controlled.win_rate, alpha),
        "above",
        limits.equal_length,
        alpha,
        margin=limits.win_margin,
        what="What would be won if both answers were equally long",
        of="prompts",
        facts={"slope": controlled.slope},
    )


def _gap(
    won: Mapping[tuple[str, int, int], float],
    pairs: Sequence[Pair],
    proxy: Rewards | None,
    limits: PolicyThresholds,
    alpha: float,
) -> Verdict:
    by_proxy = None if proxy is None else decided_by_rewards(pairs, proxy)
    if by_proxy is None:
        return unmeasured(G2, GAP, "Name the reward model that the policy was trained on with --proxy.")
    both = [one for one in by_proxy.decided if one.pair.place in won]
    gaps = [one.win - won[one.pair.place] for one in both]
    if not gaps:
        return unmeasured(G2, GAP, "Neither reward model could read the same answers: see the evaluation's folder.")
    return held(
        G2,
        GAP,
        of_mean(gaps, [one.pair.item.unit for one in both], alpha),
        "below",
        limits.gap,
        alpha,
        margin=limits.gap,
        what="The win rate by the proxy less that by the holdout",
        of="prompts",
        tell=plain,
        facts={"win rate by the proxy": sum(one.win for one in both) / len(both)},
    )
