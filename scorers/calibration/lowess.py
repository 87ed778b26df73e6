"""LOWESS: what y is on average at x, by local straight lines that outliers hardly move.

Cleveland 1979, "Robust Locally Weighted Regression and Smoothing Scatterplots": at each x a line is fitted to the
nearest share of the points, weighted by the tricube of their distance over that of the farthest; then again, each
point weighted by the bisquare of its residual over six times the median one. Its constants, and what it does where
points tie, are those of Cleveland's own program, which R's `lowess` is.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHARE = 2 / 3
ITERATIONS = 3


def lowess(
    x: Sequence[float], y: Sequence[float], share: float = SHARE, iterations: int = ITERATIONS
) -> tuple[Floats, Floats]:
    """The distinct x, ascending, and the smoothed y at each. share: of the points, in each line.

    Raises ValueError without points, and where x and y differ in length or are not finite.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape or not len(xs):
        raise ValueError("each point needs an x and a y, and there must be a point")
    if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        raise ValueError("a point is not finite")
    order = np.argsort(xs, kind="stable")
    xs, ys = xs[order], ys[order]
    places, back = np.unique(xs, return_inverse=True)
    nearest = min(len(xs), max(2, int(share * len(xs) + 1e-7)))
    trust = np.ones_like(ys)
    fitted = _fitted(places, xs, ys, trust, nearest)
    for _ in range(iterations):
        residuals = np.abs(ys - fitted[back])
        scale = 6 * float(np.median(residuals))
        if scale < 1e-7 * float(residuals.mean()) or scale == 0.0:
            break
        trust = np.where(residuals > 0.999 * scale, 0.0, (1 - (residuals / scale) ** 2) ** 2)
        trust[residuals <= 0.001 * scale] = 1.0
        fitted = _fitted(places, xs, ys, trust, nearest)
    return places, fitted


def _fitted(places: Floats, xs: Floats, ys: Floats, trust: Floats, nearest: int) -> Floats:
    return np.array([_line(place, xs, ys, trust, nearest) for place in places])


def _line(place: float, xs: Floats, ys: Floats, trust: Floats, nearest: int) -> float:
    """The weighted least-squares line of the nearest points, at `place`."""
    away = np.abs(xs - place)
    reach = float(np.partition(away, nearest - 1)[nearest - 1])
    weights = np.where(away <= 0.999 * reach, (1 - (away / reach) ** 3) ** 3, 0.0) if reach else np.zeros_like(away)
    weights[away <= 0.001 * reach] = 1.0
    weights *= trust
    total = float(weights.sum())
    if total <= 0.0:
        # All that is near is an outlier: what there is there.
        return float(ys[away <= reach].mean())
    weights /= total
    centre = float(weights @ xs)
    spread = float(weights @ (xs - centre) ** 2)
    level = float(weights @ ys)
    if spread**0.5 <= 0.001 * float(xs[-1] - xs[0]):
        # The points are at one place, and any line through them would do.
        return level
    return level + (place - centre) * float(weights @ ((xs - centre) * ys)) / spread
