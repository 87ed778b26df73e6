"""From a safety classifier's probabilities to a verdict: pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.log.records import Verdict
from scorers.contract import Score


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A category flags a text when its probability reaches its own threshold, or the general one without its own."""

    general: float
    by_category: Mapping[str, float] = field(default_factory=dict)

    def of(self, category: str) -> float:
        return self.by_category.get(category, self.general)


def verdict_of(score: Score, thresholds: Thresholds) -> Verdict:
    """The verdict on one text. A score without categories is a guard that did not answer, never a pass."""
    if score.error is not None:
        return Verdict(error=score.error, unreadable=score.unreadable)
    if not score.categories:
        return Verdict(error="the safety classifier gave no categories")
    flagged = [name for name, probability in score.categories.items() if probability >= thresholds.of(name)]
    return Verdict(categories=score.categories, flagged=flagged)
