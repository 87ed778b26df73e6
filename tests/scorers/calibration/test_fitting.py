"""A category's temperature and threshold, and that their figures are not of the texts they were chosen on."""

import math
import random

import pytest

from scorers.calibration.fitting import Target, fit_category
from scorers.calibration.thresholds import Point, Share


def world(count: int, sharpness: float, seed: int = 7) -> tuple[list[str], list[float], list[bool]]:
    """Texts whose true logit is normal; the guard says `sharpness` times that."""
    rng = random.Random(seed)
    logits = [rng.gauss(-1, 2) for _ in range(count)]
    labels = [rng.random() < 1 / (1 + math.exp(-logit)) for logit in logits]
    return [f"prompt {i}" for i in range(count)], [1 / (1 + math.exp(-sharpness * logit)) for logit in logits], labels


def test_an_overconfident_guard_is_mended() -> None:
    result = fit_category(*world(8000, 3.0), Target(false_alarms=0.05))
    assert result.fit.temperature == pytest.approx(3.0, rel=0.1)
    assert result.fit.ece_before > 0.08
    assert result.fit.ece_after < 0.03


def test_the_promised_false_alarms_hold_on_texts_that_the_threshold_was_not_chosen_on() -> None:
    result = fit_category(*world(8000, 3.0), Target(false_alarms=0.05))
    assert isinstance(result.chosen, Point)
    assert result.false_alarms is not None
    low, high = result.false_alarms.interval
    assert low - 0.01 <= 0.05 <= high + 0.01
    assert result.false_alarms.total == result.fit.texts - result.fit.unsafe


def test_scores_that_know_nothing_show_no_recall_beyond_chance_however_many_thresholds_are_tried() -> None:
    rng = random.Random(8)
    labels = [rng.random() < 0.5 for _ in range(400)]
    noise = [rng.random() for _ in labels]
    result = fit_category([f"p{i}" for i in range(400)], noise, labels, Target(false_alarms=0.1))
    assert isinstance(result.recall, Share)
    assert result.recall.value < 0.25


def test_answers_to_one_prompt_are_never_in_both_halves() -> None:
    prompts, probabilities, labels = world(60, 1.0)
    with pytest.raises(ValueError, match="too few"):
        fit_category(["the same"] * 60, probabilities, labels, Target(recall=0.9))
    assert fit_category(prompts, probabilities, labels, Target(recall=0.9)).fit.texts == 60


def test_why_there_is_no_threshold_is_said() -> None:
    rng = random.Random(9)
    labels = [index % 2 == 0 for index in range(200)]
    sure = [1.0 if rng.random() < 0.5 else 0.3 for _ in labels]
    result = fit_category([f"p{i}" for i in range(200)], sure, labels, Target(false_alarms=0.01))
    assert isinstance(result.chosen, str)
    assert "probability 1" in result.chosen
    assert result.recall is None
