"""G1 where people press thumbs and hardly anybody compares: the same questions, asked of thumbs. Pure.

    agreement       the chance that an answer with a thumb up has a higher reward than one with a thumb down (AUC)
    not worse       the same less that of the serving model on the same thumbs
    calibration     how far sigma(a r + b), with the model's own a and b, is from the share of thumbs up
    equal lengths   agreement among answers of about one length: up and down from the same stratum of lengths, a fifth
                    to a twentieth of them. In a wide stratum a model that knows lengths alone still tells a little

A stratified AUC is U = sum_s sum_ij h(x_i, y_j) / M over pairs within strata s, M = sum_s m_s n_s; h is 1, 1/2 or 0.
Its variance is that of what each row moves it by, n_s (V_i - U) / M for a liked one and m_s (W_j - U) / M for another
(DeLong et al. 1988, summed within prompt clusters first: Obuchowski 1997). A difference of two models on the same rows
has the difference of these. How much better an answer is no thumb says, so there is no trend with the margin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scorers.probability import sigmoid
from training.gates.bounds import Bound, z_of
from training.gates.checks import AGREEMENT, CALIBRATION, EQUAL_AGREEMENT, G1, NOT_WORSE
from training.gates.miscalibration import miscalibration
from training.gates.saying import held, plain, points, unmeasured
from training.gates.thresholds import RewardThresholds
from training.gates.verdicts import Verdict
from training.reward.measured import Floats, clustered_variance, numbered
from training.reward.scored import ScoredLabel, groups, voice

LEAST = 10
_STRATA, _MOST_STRATA, _ROWS_EACH = 5, 20, 40
_NEW, _OLD = 0, 1
_OF = "prompts"


@dataclass(frozen=True)
class Concordance:
    """value: the stratified AUC. moves: what each row moves it by; (rows,)."""

    value: float
    moves: Floats


def of_people(labels: Sequence[ScoredLabel]) -> list[ScoredLabel]:
    return [one for one in labels if voice(one.origin.source) == "people" and one.origin.weight > 0]


def enough(labels: Sequence[ScoredLabel]) -> bool:
    """Whether thumbs can be gone by: of both kinds, about prompts enough."""
    return all(len(set(groups([one for one in labels if one.up is up]))) >= LEAST for up in (True, False))


def thumb_checks(
    labels: Sequence[ScoredLabel],
    serving: bool,
    scale: tuple[float, float] | None,
    limits: RewardThresholds,
    alpha: float,
) -> list[Verdict]:
    """labels: people's, `enough`. scale: the model's a and b; None: it has learnt from no thumbs."""
    up = np.array([one.up for one in labels])
    units = numbered(groups(labels))
    new = concordance(_rewards(labels, _NEW), up)
    count = f"{int(up.sum()):,} thumbs up and {int((~up).sum()):,} down"
    found = [
        held(
            G1,
            AGREEMENT,
            _bound(new.value, new.moves, units, alpha),
            "above",
            limits.agreement,
            alpha,
            margin=limits.agreement_margin,
            what=f"The chance that a liked answer has the higher reward ({count})",
            of=_OF,
            facts={"thumbs": len(labels)},
        )
    ]
    if limits.against_serving:
        found.append(_not_worse(labels, up, units, new, serving, limits, alpha))
    return [*found, _calibration(labels, scale, limits, alpha), _equal(labels, up, units, limits, alpha)]


def concordance(scores: Floats, up: "np.typing.NDArray[np.bool_]", strata: Sequence[int] | None = None) -> Concordance:
    """strata: of each row; pairs are within one. Raises ValueError where no stratum has both kinds."""
    places = np.zeros(len(scores), dtype=np.intp) if strata is None else np.asarray(strata)
    inside = [np.flatnonzero(places == stratum) for stratum in np.unique(places)]
    pairs = sum(int(up[rows].sum()) * int((~up[rows]).sum()) for rows in inside)
    if not pairs:
        raise ValueError("no stratum has thumbs of both kinds")
    won = np.zeros(len(scores))
    against = np.zeros(len(scores))
    for rows in inside:
        liked, others = np.sort(scores[rows[up[rows]]]), np.sort(scores[rows[~up[rows]]])
        for row in rows:
            if up[row]:
                won[row], against[row] = _beaten(others, scores[row]), len(others)
            else:
                won[row], against[row] = len(liked) - _beaten(liked, scores[row]), len(liked)
    value = float(won[up].sum()) / pairs
    return Concordance(value, (won - value * against) / pairs)


def _beaten(ordered: Floats, score: float) -> float:
    """How many are lower; equal ones count half."""
    return float(np.searchsorted(ordered, score, "left") + np.searchsorted(ordered, score, "right")) / 2


def _not_worse(
    labels: Sequence[ScoredLabel],
    up: "np.typing.NDArray[np.bool_]",
    units: "np.typing.NDArray[np.intp]",
    new: Concordance,
    serving: bool,
    limits: RewardThresholds,
    alpha: float,
) -> Verdict:
    if not serving:
        return unmeasured(
            G1, NOT_WORSE, "Name the reward model that serves with --serving, or set reward.against_serving: false."
        )
    old = concordance(_rewards(labels, _OLD), up)
    return held(
        G1,
        NOT_WORSE,
        _bound(old.value - new.value, old.moves - new.moves, units, alpha),
        "below",
        limits.worse_by,
        alpha,
        margin=limits.worse_by,
        what="What the serving model tells better",
        of=_OF,
        tell=points,
        facts={"new": new.value, "serving": old.value},
    )


def _calibration(
    labels: Sequence[ScoredLabel], scale: tuple[float, float] | None, limits: RewardThresholds, alpha: float
) -> Verdict:
    if scale is None:
        why = "The model has learnt from no thumbs, so nothing says what its rewards mean for them."
        return unmeasured(G1, CALIBRATION, why, n=len(labels))
    a, b = scale
    said = [sigmoid(a * one.rewards[_NEW] + b) for one in labels]
    bound = miscalibration(said, [one.up for one in labels], groups(labels), alpha)
    if bound is None:
        return unmeasured(G1, CALIBRATION, "There are too few thumbs to bin.", n=len(labels))
    return held(
        G1,
        CALIBRATION,
        bound,
        "below",
        limits.calibration,
        alpha,
        margin=limits.calibration,
        what="The error of sigma(a r + b)",
        of=_OF,
        tell=plain,
    )


def _equal(
    labels: Sequence[ScoredLabel],
    up: "np.typing.NDArray[np.bool_]",
    units: "np.typing.NDArray[np.intp]",
    limits: RewardThresholds,
    alpha: float,
) -> Verdict:
    lengths = np.array([one.tokens for one in labels], dtype=np.float64)
    parts = max(_STRATA, min(_MOST_STRATA, len(labels) // _ROWS_EACH))
    cuts = np.quantile(lengths, [part / parts for part in range(1, parts)])
    try:
        found = concordance(_rewards(labels, _NEW), up, np.searchsorted(cuts, lengths).tolist())
    except ValueError:
        why = "Answers of about one length were all liked, or none: nothing tells length from quality."
        return unmeasured(G1, EQUAL_AGREEMENT, why, n=len(labels))
    return held(
        G1,
        EQUAL_AGREEMENT,
        _bound(found.value, found.moves, units, alpha),
        "above",
        limits.equal_length,
        alpha,
        margin=limits.agreement_margin,
        what="The same among answers of about one length",
        of=_OF,
    )


def _bound(value: float, moves: Floats, units: "np.typing.NDArray[np.intp]", alpha: float) -> Bound:
    error = math.sqrt(clustered_variance(moves, units))
    half = z_of(alpha) * error
    return Bound(value, value - half, value + half, int(units.max()) + 1, error)


def _rewards(labels: Sequence[ScoredLabel], member: int) -> Floats:
    return np.array([one.rewards[member] for one in labels], dtype=np.float64)
