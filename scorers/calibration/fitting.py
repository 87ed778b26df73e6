"""From labelled probabilities to temperatures and thresholds, measured on texts that they were not chosen on.

The texts are cut in two halves by their prompt. What one half chooses is tried on the other, both ways; the figures are
of that, and the temperature and threshold that are kept are chosen on all.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from scorers.calibration.calibration import CategoryFit
from scorers.calibration.error import expected_calibration_error
from scorers.calibration.temperature import fit_temperature, scaled
from scorers.calibration.thresholds import Curve, Point, Share

# Fewer texts of a class than this in a half, and nothing can be said.
LEAST = 5


@dataclass(frozen=True, slots=True)
class Target:
    """What a threshold is chosen for: at most this share of false alarms, or at least this recall. One of them."""

    false_alarms: float | None = None
    recall: float | None = None

    def choose(self, curve: Curve) -> Point:
        """Raises ValueError where no threshold does it."""
        if self.recall is not None:
            return curve.for_recall(self.recall)
        assert self.false_alarms is not None
        return curve.for_false_alarms(self.false_alarms)


@dataclass(frozen=True, slots=True)
class CategoryResult:
    """One category. chosen: the threshold on scaled probabilities, or why there is none.

    recall, false_alarms: what such a threshold did to texts that it was not chosen on.
    """

    fit: CategoryFit
    average_precision: float
    chosen: Point | str
    recall: Share | None
    false_alarms: Share | None


def fit_category(
    prompts: Sequence[str], probabilities: Sequence[float], labels: Sequence[bool], target: Target
) -> CategoryResult:
    """All three by text, in order. Raises ValueError where a half has too few texts of a class."""
    halves = [_half(prompt) for prompt in prompts]
    for half in (False, True):
        mine = [label for label, one in zip(labels, halves, strict=True) if one == half]
        if min(sum(mine), len(mine) - sum(mine)) < LEAST:
            raise ValueError(
                f"{sum(labels)} texts that belong to it and {len(labels) - sum(labels)} that do not are too few: each "
                f"half of the prompts needs {LEAST} of both"
            )
    after: list[float] = [0.0] * len(labels)
    tried: list[Point] = []
    for half in (False, True):
        there = [index for index, one in enumerate(halves) if one != half]
        here = [index for index, one in enumerate(halves) if one == half]
        temperature = fit_temperature(*_of(there, probabilities, labels))
        for index in here:
            after[index] = scaled(probabilities[index], temperature)
        tried += _tried(there, here, temperature, probabilities, labels, target)
    temperature = fit_temperature(probabilities, labels)
    curve = Curve([scaled(one, temperature) for one in probabilities], labels)
    fit = CategoryFit(
        temperature=temperature,
        texts=len(labels),
        unsafe=sum(labels),
        ece_before=expected_calibration_error(probabilities, labels),
        ece_after=expected_calibration_error(after, labels),
    )
    return CategoryResult(
        fit,
        curve.average_precision(),
        _chosen(curve, target),
        _sum([point.recall for point in tried]),
        _sum([point.false_alarms for point in tried]),
    )


def _tried(
    there: Sequence[int],
    here: Sequence[int],
    temperature: float,
    probabilities: Sequence[float],
    labels: Sequence[bool],
    target: Target,
) -> list[Point]:
    """What the threshold that one half chooses does to the other."""
    values, truths = _of(there, probabilities, labels)
    chosen = _chosen(Curve([scaled(one, temperature) for one in values], truths), target)
    if isinstance(chosen, str):
        return []
    values, truths = _of(here, probabilities, labels)
    return [Curve([scaled(one, temperature) for one in values], truths).at(chosen.threshold)]


def _chosen(curve: Curve, target: Target) -> Point | str:
    try:
        return target.choose(curve)
    except ValueError as error:
        return str(error)


def _of(
    indices: Sequence[int], probabilities: Sequence[float], labels: Sequence[bool]
) -> tuple[list[float], list[bool]]:
    return [probabilities[index] for index in indices], [labels[index] for index in indices]


def _sum(shares: Sequence[Share]) -> Share | None:
    total = sum(one.total for one in shares)
    return Share(sum(one.hits for one in shares), total) if total else None


def _half(prompt: str) -> bool:
    """By the prompt's hash, so that a prompt's answers stay together and a second run cuts the same."""
    return bool(hashlib.sha256(prompt.encode(errors="surrogatepass")).digest()[0] & 1)
