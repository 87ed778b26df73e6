"""The expected calibration error, against sums made by hand."""

import random

import pytest

from scorers.calibration.error import expected_calibration_error, reliability


def test_the_error_is_the_mean_gap_between_probability_and_share() -> None:
    probabilities = [0.1] * 10 + [0.8] * 10
    labels = [index < 3 for index in range(10)] + [index < 6 for index in range(10)]
    # Bins of equal probabilities: |.1 - .3| and |.8 - .6|, half of the texts each.
    assert expected_calibration_error(probabilities, labels, bins=2) == pytest.approx(0.2)


def test_true_probabilities_have_nearly_no_error_and_overconfident_ones_much() -> None:
    rng = random.Random(4)
    true = [rng.random() for _ in range(20_000)]
    labels = [rng.random() < p for p in true]
    assert expected_calibration_error(true, labels) < 0.015
    sure = [0.999 if p > 0.5 else 0.001 for p in true]
    assert expected_calibration_error(sure, labels) == pytest.approx(0.25, abs=0.01)


def test_every_text_is_in_one_bin_and_equal_probabilities_are_never_parted() -> None:
    rng = random.Random(5)
    probabilities = [round(rng.random(), 1) for _ in range(500)]
    labels = [rng.random() < 0.5 for _ in probabilities]
    bins = reliability(probabilities, labels)
    assert sum(one.count for one in bins) == 500
    means = [one.probability for one in bins]
    assert means == sorted(set(means))
    assert len(bins) <= 11


def test_no_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="no texts"):
        expected_calibration_error([], [])
