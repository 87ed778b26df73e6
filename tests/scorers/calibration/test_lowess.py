"""LOWESS against straight lines, against R's own figures, and against outliers."""

import numpy as np
import pytest

from scorers.calibration.lowess import lowess

# R's data set `cars`: speed, and distance to stop.
SPEED = [4, 4, 7, 7, 8, 9] + [10] * 3 + [11] * 2 + [12] * 4 + [13] * 4 + [14] * 4 + [15] * 3 + [16] * 2 + [17] * 3 + (
    [18] * 4 + [19] * 3 + [20] * 5 + [22, 23] + [24] * 4 + [25]
)  # fmt: skip
DISTANCE = [
    2, 10, 4, 22, 16, 10, 18, 26, 34, 17, 28, 14, 20, 24, 28, 26, 34, 34, 46, 26, 36, 60, 80, 20, 26, 54, 32, 40, 32,
    40, 50, 42, 56, 76, 84, 36, 46, 68, 32, 48, 52, 56, 64, 66, 54, 70, 92, 93, 120, 85,
]  # fmt: skip
# What R's documentation prints for lowess(cars), at the distinct speeds.
OF_R = [
    4.965459, 13.124495, 15.858633, 18.579691, 21.280313, 24.129277, 27.119549, 30.027276, 32.962506, 36.757728,
    40.435075, 43.463492, 46.885479, 50.793152, 56.491224, 67.585824, 73.079695, 78.643164, 84.328698,
]  # fmt: skip


@pytest.mark.parametrize("share", [0.2, 2 / 3, 1.0])
def test_a_straight_line_is_itself(share: float) -> None:
    x = [1.0, 2.0, 2.0, 5.0, 7.0, 7.0, 11.0, 12.0, 20.0, 21.0]
    places, fitted = lowess(x, [3 - 0.25 * one for one in x], share)
    assert places.tolist() == sorted(set(x))
    np.testing.assert_allclose(fitted, 3 - 0.25 * places, atol=1e-12)


def test_it_gives_the_figures_of_r() -> None:
    """Without robust iterations, or with Epanechnikov's weights, they are off by tenths and more."""
    places, fitted = lowess(SPEED, DISTANCE)
    assert places.tolist() == sorted(set(SPEED))
    np.testing.assert_allclose(fitted, OF_R, atol=1e-6)
    assert np.abs(lowess(SPEED, DISTANCE, iterations=0)[1] - OF_R).max() > 0.1


def test_an_outlier_does_not_move_it() -> None:
    x = np.linspace(0, 10, 41)
    noise = np.tile([0.1, -0.1], 21)[:41]
    y = 2 * x + noise
    struck = y.copy()
    struck[20] += 100
    assert np.abs(lowess(x.tolist(), struck.tolist())[1] - 2 * x).max() < 0.1
    assert np.abs(lowess(x.tolist(), struck.tolist(), iterations=0)[1] - 2 * x).max() > 2


def test_points_at_one_place_are_their_mean() -> None:
    places, fitted = lowess([3, 3, 3], [1, 2, 6], iterations=0)
    assert (places.tolist(), fitted.tolist()) == ([3.0], [3.0])


def test_most_points_at_one_place_leave_the_others_their_own() -> None:
    """As answers that all end at the limit of tokens do."""
    places, fitted = lowess([96] * 30 + [10, 20], [1.0] * 30 + [5.0, 5.0], iterations=0)
    assert places.tolist() == [10, 20, 96] and np.isfinite(fitted).all()
    assert fitted[2] == pytest.approx(1.0)


@pytest.mark.parametrize(("x", "y"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, float("nan")], [1.0, 2.0])])
def test_what_is_no_set_of_points_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match="point"):
        lowess(x, y)
