"""Temperature scaling finds the temperature that probabilities were made with."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorers.calibration.temperature import fit_temperature, scaled


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 6.0])
def test_the_temperature_of_overconfident_probabilities_is_found(temperature: float) -> None:
    rng = random.Random(3)
    logits = [rng.gauss(0, 2) for _ in range(30_000)]
    labels = [rng.random() < sigmoid(logit) for logit in logits]
    said = [sigmoid(logit * temperature) for logit in logits]
    assert fit_temperature(said, labels) == pytest.approx(temperature, rel=0.05)


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=4, max_size=40))
def test_no_other_temperature_makes_the_labels_likelier(pairs: list[tuple[float, bool]]) -> None:
    probabilities, labels = [p for p, _ in pairs], [label for _, label in pairs]
    if len(set(labels)) < 2:
        return

    def loss(temperature: float) -> float:
        values = [scaled(p, temperature) for p in probabilities]
        return -math.fsum(math.log(max(1e-300, p if label else 1 - p)) for p, label in zip(values, labels, strict=True))

    best = fit_temperature(probabilities, labels)
    assert 1 / 20 <= best <= 20
    for other in (0.06, 0.5, 0.9 * best, 1.1 * best, 2.0, 19.0):
        if 1 / 20 <= other <= 20:
            assert loss(best) <= loss(other) + 1e-6


def test_separated_data_stays_within_the_bounds() -> None:
    assert fit_temperature([0.1, 0.2, 0.8, 0.9], [False, False, True, True]) == 1 / 20
    assert fit_temperature([0.1, 0.2, 0.8, 0.9], [True, True, False, False]) == 20


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0.05, 20))
def test_scaling_keeps_the_order(probabilities: list[float], temperature: float) -> None:
    ordered = sorted(probabilities)
    values = [scaled(one, temperature) for one in ordered]
    assert values == sorted(values)
    assert all(0 <= one <= 1 for one in values)


def test_certainty_and_a_half_stay_what_they_are() -> None:
    assert [scaled(p, 3.0) for p in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]
    assert scaled(0.9, 2.0) == pytest.approx(0.75)  # 9 to 1 becomes 3 to 1


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="both"):
        fit_temperature([0.2, 0.3], [False, False])
