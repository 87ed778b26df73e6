"""What `bestow calibrate` draws, as PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scorers.calibration.error import reliability
from scorers.calibration.quantiles import RewardLaw
from scorers.calibration.thresholds import Curve, Point


@dataclass(frozen=True, slots=True)
class CategoryDrawing:
    """One category: labelled texts with probabilities before and after, and the threshold that was chosen."""

    name: str
    labels: Sequence[bool]
    before: Sequence[float]
    after: Sequence[float]
    chosen: Point | None


def draw_categories(title: str, categories: Sequence[CategoryDrawing], path: Path) -> None:
    """Precision over recall of each category with the chosen thresholds; and how true the probabilities are."""
    figure, (left, right) = _figure(2)
    for one in categories:
        points = [point for point in Curve(one.after, one.labels).points() if point.precision]
        [line] = left.step(
            [point.recall.value for point in points],
            [point.precision.value for point in points if point.precision],
            where="post",
            label=one.name,
        )
        if one.chosen and one.chosen.precision:
            left.plot(one.chosen.recall.value, one.chosen.precision.value, "o", color=line.get_color())
        bins = reliability(one.before, one.labels), reliability(one.after, one.labels)
        for found, style in zip(bins, (":", "-"), strict=True):
            right.plot([b.probability for b in found], [b.share for b in found], style, color=line.get_color())
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02), title=f"{title}: dot = threshold")
    left.legend(loc="lower left")
    right.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    right.set(xlabel="probability", ylabel="share unsafe", title="calibration: dotted before, solid after")
    _save(figure, path)


def draw_law(title: str, rewards: Sequence[float], law: RewardLaw, path: Path) -> None:
    """The rewards' histogram, and the rank that each reward stands for."""
    figure, (left, right) = _figure(2)
    left.hist(rewards, bins=60)
    left.axvline(law.mean, color="black", linewidth=1)
    left.set(
        xlabel="reward", ylabel="answers", title=f"{title}: {law.count} answers of {law.reference or 'the policy'}"
    )
    ranks = [index / (len(law.quantiles) - 1) for index in range(len(law.quantiles))]
    right.plot(law.quantiles, ranks)
    right.set(xlabel="reward", ylabel="rank under the reference policy", title="calibrated reward")
    _save(figure, path)


def _figure(columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.5 * columns, 4.5), layout="constrained")
    return figure, figure.subplots(1, columns)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
