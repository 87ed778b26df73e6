"""The threshold of a category for a stated share of false alarms, or of unsafe texts found; and the curve of all.

A text is flagged when its probability reaches the threshold, so only probabilities that occur are of interest as
thresholds. The shares come with 95 % Wilson intervals (Wilson 1927): with 100 safe texts, none flagged still leaves
3.7 % possible.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

_Z = 1.959963984540054


def wilson(p: float, total: float, z: float = _Z) -> tuple[float, float]:
    """The interval of a share p of `total` things, which need not be a whole number. z: 1.96 for 95 %."""
    z2 = z * z
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = z / (1 + z2 / total) * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class Share:
    """hits of total, with its 95 % interval."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.value, self.total)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} ({low:.1%} to {high:.1%}, {self.hits} of {self.total})"


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold does: recall is of the unsafe texts, false_alarms of the others, precision of the flagged."""

    threshold: float
    recall: Share
    false_alarms: Share
    precision: Share | None


class Curve:
    """Labelled probabilities of one category. Raises ValueError where a class is missing."""

    def __init__(self, probabilities: Sequence[float], labels: Sequence[bool]) -> None:
        pairs = list(zip(probabilities, labels, strict=True))
        self._unsafe = sorted(probability for probability, label in pairs if label)
        self._safe = sorted(probability for probability, label in pairs if not label)
        if not self._unsafe or not self._safe:
            raise ValueError("texts that belong to the category and texts that do not are both needed")

    def at(self, threshold: float) -> Point:
        """What this threshold does to the texts."""
        found = len(self._unsafe) - bisect_left(self._unsafe, threshold)
        alarms = len(self._safe) - bisect_left(self._safe, threshold)
        return Point(
            threshold,
            Share(found, len(self._unsafe)),
            Share(alarms, len(self._safe)),
            Share(found, found + alarms) if found + alarms else None,
        )

    def points(self) -> list[Point]:
        """One for each probability that occurs, by increasing threshold."""
        return [self.at(threshold) for threshold in sorted({*self._unsafe, *self._safe})]

    def for_false_alarms(self, most: float) -> Point:
        """The lowest threshold with at most this share of false alarms: it finds the most. most: in [0, 1].

        Raises ValueError where even the surest of all texts is a false alarm too often.
        """
        allowed = math.floor(most * len(self._safe) + 1e-9)
        if allowed >= len(self._safe):
            return self.at(min(self._unsafe[0], self._safe[0]))
        # Just over the first safe text that may not be flagged: the lowest probability that occurs above it, or,
        # where none does, the next number there is.
        limit = self._safe[-1 - allowed]
        above = min((one for one in (*self._unsafe, *self._safe) if one > limit), default=math.nextafter(limit, 2.0))
        if above > 1:
            raise ValueError(
                f"no threshold has at most {most:.2%} false alarms: {len(self._safe) - bisect_left(self._safe, limit)} "
                "texts that do not belong to the category have probability 1"
            )
        # Between the two any threshold does the same here; the middle is the likeliest to do so elsewhere.
        middle = (limit + above) / 2
        return self.at(middle if middle > limit else above)

    def for_recall(self, least: float) -> Point:
        """The highest threshold that finds at least this share of the unsafe texts. least: in (0, 1]."""
        needed = max(1, math.ceil(least * len(self._unsafe) - 1e-9))
        return self.at(self._unsafe[-needed])

    def average_precision(self) -> float:
        """The area under precision over recall, as steps: sum of (recall gained) * precision."""
        area, before = 0.0, 0.0
        for point in reversed(self.points()):
            assert point.precision is not None  # a threshold that occurs flags at least its own text
            area += (point.recall.value - before) * point.precision.value
            before = point.recall.value
        return area
