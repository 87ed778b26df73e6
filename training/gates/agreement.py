"""G1: whether a reward model says what people say, no worse than the one that serves, and means its numbers. Pure.

All on people's pairs of the test split, which neither model was trained on, each prompt cluster one unit:

    agreement         share of pairs whose chosen answer has the higher reward; told beside its ceiling, the most that
                      any model can have with these labels (`training.reward.ceiling`): .61 of .66 is another thing
                      than .61 of .90
    not worse         the same less that of the serving model on the same pairs (`paired`; the interval of
                      `training.reward.comparing` at the gate's level)
    trend             least squares of agreement on margin, clustered: a larger margin should be easier. A test of the
                      slope, since the raw order of four buckets is wrong by chance half the time where they are alike
    calibration       (`miscalibration`) how far sigma(r - r') is from a probability
    equal lengths     agreement as it would be if both answers were equally long (`evaluation.length_control`)

Where there are hardly any pairs, thumbs are asked the same (`thumbs`).
"""

import math
from collections.abc import Sequence

import numpy as np

from scorers.probability import sigmoid
from training.evaluation.length_control import LengthControlled, length_controlled
from training.gates.bounds import Bound, of_estimate, of_share, rescaled
from training.gates.checks import AGREEMENT, BENCH, CALIBRATION, EQUAL_AGREEMENT, G1, NOT_WORSE, TREND
from training.gates.miscalibration import miscalibration
from training.gates.paired import difference
from training.gates.saying import held, percent, plain, points, unmeasured
from training.gates.thresholds import RewardThresholds
from training.gates.thumbs import LEAST, enough, of_people, thumb_checks
from training.gates.verdicts import Verdict
from training.reward.ceiling import ceiling_of_pairs, repeated_pairs
from training.reward.measured import clustered_variance, numbered
from training.reward.reward_bench import BenchResult
from training.reward.scored import ScoredLabel, ScoredPair, groups, voice

_NEW, _OLD = 0, 1


def reward_checks(
    pairs: Sequence[ScoredPair],
    serving: bool,
    bench: BenchResult | None,
    limits: RewardThresholds,
    alpha: float,
    labels: Sequence[ScoredLabel] = (),
    scale: tuple[float, float] | None = None,
) -> list[Verdict]:
    """pairs, labels: scored by the new model, and by the serving one where there is one (`serving`). Thumbs are gone by
    where there are hardly any pairs. scale: the new model's a and b of sigma(a r + b).
    """
    thumbs = of_people(labels)
    people = [pair for pair in pairs if voice(pair.origin.source) == "people" and pair.origin.weight > 0]
    names = [AGREEMENT, *([NOT_WORSE] if limits.against_serving else []), TREND, CALIBRATION, EQUAL_AGREEMENT]
    if len(set(groups(people))) < LEAST and enough(thumbs):
        found = thumb_checks(thumbs, serving, scale, limits, alpha)
    elif len(set(groups(people))) < LEAST:
        why = f"The test split has {len(people)} pairs of people and {len(thumbs)} thumbs: collect more of either."
        found = [unmeasured(G1, name, why, needed=LEAST, n=len(people)) for name in names]
    else:
        found = [_agreement(people, limits, alpha)]
        if limits.against_serving:
            found.append(_not_worse(people, serving, limits, alpha))
        found += [_trend(people, limits, alpha), _calibration(people, limits, alpha), _equal(people, limits, alpha)]
    return found if bench is None else [*found, _bench(bench, limits, alpha)]


def _agreement(pairs: Sequence[ScoredPair], limits: RewardThresholds, alpha: float) -> Verdict:
    ceiling = ceiling_of_pairs(repeated_pairs(pairs))
    told = (
        f"of at most {ceiling.value.value:.1%} ({ceiling.value.low:.1%} to {ceiling.value.high:.1%}) that these labels "
        "allow"
        if ceiling
        else "of a ceiling that is unknown, since no two people compared the same answers"
    )
    return held(
        G1,
        AGREEMENT,
        of_share([pair.agrees() for pair in pairs], groups(pairs), alpha),
        "above",
        limits.agreement,
        alpha,
        margin=limits.agreement_margin,
        what=f"Agreement, {told},",
        of="prompts",
        facts={"pairs": len(pairs), "ceiling": ceiling.value.value if ceiling else None},
    )


def _not_worse(pairs: Sequence[ScoredPair], serving: bool, limits: RewardThresholds, alpha: float) -> Verdict:
    if not serving:
        return unmeasured(
            G1, NOT_WORSE, "Name the reward model that serves with --serving, or set reward.against_serving: false."
        )
    new, old = ([pair.agrees(member) for pair in pairs] for member in (_NEW, _OLD))
    worse = difference(old, new, groups(pairs), alpha)
    return held(
        G1,
        NOT_WORSE,
        worse,
        "below",
        limits.worse_by,
        alpha,
        margin=limits.worse_by,
        what="The serving model's agreement less the new one's",
        of="prompts",
        tell=points,
        facts={"new": float(np.mean(new)), "serving": float(np.mean(old))},
    )


def _trend(pairs: Sequence[ScoredPair], limits: RewardThresholds, alpha: float) -> Verdict:
    bound = slope([pair.margin for pair in pairs], [pair.agrees() for pair in pairs], groups(pairs), alpha)
    if bound is None:
        why = "All pairs have one margin, so nobody said of any how much better it is: ask for ratings, or strengths."
        return unmeasured(G1, TREND, why, n=len(pairs))
    return held(
        G1,
        TREND,
        bound,
        "above",
        limits.trend,
        alpha,
        margin=limits.trend_margin,
        what="Agreement gained from margin 0 to margin 1",
        of="prompts",
        tell=points,
    )


def slope(x: Sequence[float], y: Sequence[float], units: Sequence[object], alpha: float) -> Bound | None:
    """Least squares of y on x with the sandwich by unit and Student's quantile; None where x never differs."""
    from scipy import stats  # noqa: PLC0415  # 0.5 s

    xs, ys, numbers = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), numbered(list(map(str, units)))
    centred = xs - xs.mean()
    size = float(centred @ centred)
    count = int(numbers.max()) + 1
    if size < 1e-12 or count < 3:
        return None
    value = float(centred @ ys) / size
    residuals = ys - ys.mean() - value * centred
    error = math.sqrt(clustered_variance(centred * residuals / size, numbers))
    half = float(stats.t.ppf(1 - alpha, count - 2)) * error
    return Bound(value, value - half, value + half, count, error)


def _calibration(pairs: Sequence[ScoredPair], limits: RewardThresholds, alpha: float) -> Verdict:
    told = [pair for pair in pairs if pair.difference() != 0]
    bound = miscalibration(
        [sigmoid(abs(pair.difference())) for pair in told],
        [pair.difference() > 0 for pair in told],
        [str(one) for one in groups(told)],
        alpha,
    )
    if bound is None:
        return unmeasured(G1, CALIBRATION, "There are too few pairs to bin.", n=len(told))
    return held(
        G1,
        CALIBRATION,
        bound,
        "below",
        limits.calibration,
        alpha,
        margin=limits.calibration,
        what="The error of sigma(r - r')",
        of="prompts",
        tell=plain,
    )


def _equal(pairs: Sequence[ScoredPair], limits: RewardThresholds, alpha: float) -> Verdict:
    controlled = length_controlled(
        [pair.agrees() for pair in pairs],
        [float(pair.tokens[0] - pair.tokens[1]) for pair in pairs],
        groups(pairs),
        2 * alpha,
    )
    if not isinstance(controlled, LengthControlled):
        return unmeasured(G1, EQUAL_AGREEMENT, f"There is no agreement at equal lengths: {controlled}.", n=len(pairs))
    return held(
        G1,
        EQUAL_AGREEMENT,
        of_estimate(controlled.win_rate, alpha),
        "above",
        limits.equal_length,
        alpha,
        margin=limits.agreement_margin,
        what="Agreement, were both answers equally long,",
        of="prompts",
        facts={"slope": controlled.slope},
    )


def _bench(bench: BenchResult, limits: RewardThresholds, alpha: float) -> Verdict:
    return held(
        G1,
        BENCH,
        rescaled(bench.average, alpha),
        "above",
        limits.bench,
        alpha,
        margin=limits.agreement_margin,
        what="The average of its subsets",
        of="questions",
        tell=percent,
        facts={name: found.value for name, found in bench.subsets.items()},
    )
