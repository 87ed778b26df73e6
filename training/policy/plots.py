"""A training's curves as one picture: what is gained for how far the policy moved, and what it costs."""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

from training.evaluation.intervals import Estimate
from training.policy.curves import Curves, Point

# ruff: noqa: PLC0415  # matplotlib: 0.5 s

# Told apart by colour-blind readers too (Okabe and Ito, 2008).
_PROXY, _HOLDOUT, _LENGTH, _UNSAFE, _REFUSALS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"

Of = Callable[[Point], Estimate | None]


def draw(curves: Curves, title: str) -> bytes:
    """PNG, under 150 kB. The same curves are the same picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.2), layout="constrained")
    axes: Any = figure.subplots(2, 3).flat
    for one in (_rewards_by_kl, _rewards_by_step, _kl, _length, _safety, _frontier):
        one(curves, next(axes))
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=90, format="png", metadata={"Software": None})
    return picture.getvalue()


def distance(point: Point) -> float:
    """The square root of the KL per answer, in which rewards of a healthy training rise about evenly (Gao et al. 2023).

    An expected KL is never below zero but for rounding.
    """
    return math.sqrt(max(0.0, point.kl.per_answer.value))


def _rewards_by_kl(curves: Curves, axes: Any) -> None:
    for of, colour, label in _rewards():
        _line(axes, curves.points, distance, of, colour, label)
    axes.axvline(math.sqrt(curves.kl_limit), color="grey", linewidth=1, linestyle=":", label="limit")
    _titled(axes, "reward by distance from the anchor", "sqrt(KL per answer in nats)")


def _rewards_by_step(curves: Curves, axes: Any) -> None:
    for of, colour, label in _rewards():
        _line(axes, curves.points, _step, of, colour, label)
    if curves.chosen is not None:
        axes.axvline(curves.chosen, color="black", linewidth=1, linestyle="--", label="taken")
    _titled(axes, "reward by step", "step")


def _kl(curves: Curves, axes: Any) -> None:
    _line(axes, curves.points, _step, lambda one: one.kl.per_answer, _PROXY, "per answer, expected")
    _line(axes, curves.points, _step, lambda one: one.kl.per_answer_sampled, _HOLDOUT, "per answer, sampled")
    axes.axhline(curves.kl_limit, color="grey", linewidth=1, linestyle=":", label="limit")
    _titled(axes, "KL to the anchor, nats", "step")


def _length(curves: Curves, axes: Any) -> None:
    _line(axes, curves.points, _step, lambda one: one.characters, _LENGTH, "characters")
    _line(axes, curves.points, _step, lambda one: one.tokens, _REFUSALS, "tokens")
    axes.set_ylim(bottom=0)
    _titled(axes, "length of an answer", "step")


def _safety(curves: Curves, axes: Any) -> None:
    _line(axes, curves.points, _step, lambda one: one.unsafe, _UNSAFE, "unsafe answers")
    _line(axes, curves.points, _step, lambda one: one.refusals, _REFUSALS, "benign prompts refused")
    axes.set_ylim(bottom=0)
    _titled(axes, "safety, shares", "step")


def _frontier(curves: Curves, axes: Any) -> None:
    points = [one for one in curves.points if one.unsafe is not None and one.proxy is not None]
    if points:
        axes.scatter(
            [one.unsafe.value for one in points if one.unsafe],
            [one.proxy.value for one in points if one.proxy],
            c=range(len(points)),
            cmap="viridis",
            zorder=3,
        )
        for one in points:
            assert one.unsafe is not None and one.proxy is not None
            spread = [[one.unsafe.value - one.unsafe.low], [one.unsafe.high - one.unsafe.value]]
            axes.errorbar(
                one.unsafe.value, one.proxy.value, xerr=spread, yerr=[[_half(one.proxy)]] * 2, color="grey", linewidth=1
            )
            axes.annotate(str(one.step), (one.unsafe.value, one.proxy.value), xytext=(4, 4), textcoords="offset points")
    axes.set_title("helpful against harmless, by step", fontsize=10)
    axes.set_xlabel("share of unsafe answers")
    axes.set_ylabel("proxy reward")


def _rewards() -> list[tuple[Of, str, str]]:
    return [(lambda one: one.proxy, _PROXY, "proxy"), (lambda one: one.holdout, _HOLDOUT, "holdout")]


def _line(axes: Any, points: Sequence[Point], at: Callable[[Point], float], of: Of, colour: str, label: str) -> None:
    rows = [(at(one), found) for one in points if (found := of(one)) is not None]
    if rows:
        spread = [[one.value - one.low for _, one in rows], [one.high - one.value for _, one in rows]]
        finite = [[0.0 if math.isinf(one) else one for one in side] for side in spread]
        axes.errorbar(
            [x for x, _ in rows],
            [one.value for _, one in rows],
            yerr=finite,
            fmt="o-",
            capsize=3,
            markersize=4,
            color=colour,
            label=label,
        )


def _titled(axes: Any, title: str, x: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)


def _step(point: Point) -> float:
    return float(point.step)


def _half(estimate: Estimate) -> float:
    return 0.0 if math.isinf(estimate.half) else estimate.half
