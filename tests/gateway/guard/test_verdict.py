from gateway.guard.verdict import Thresholds, verdict_of
from scorers.contract import Score

THRESHOLDS = Thresholds(0.5, {"insult": 0.8})


def test_a_category_flags_at_its_threshold() -> None:
    verdict = verdict_of(Score(categories={"danger": 0.5, "other": 0.49}), THRESHOLDS)
    assert verdict.flagged == ["danger"]
    assert verdict.categories == {"danger": 0.5, "other": 0.49}


def test_a_category_of_its_own_threshold_ignores_the_general_one() -> None:
    assert verdict_of(Score(categories={"insult": 0.7}), THRESHOLDS).flagged == []
    assert verdict_of(Score(categories={"insult": 0.8}), THRESHOLDS).flagged == ["insult"]


def test_a_failed_score_is_neither_pass_nor_flag() -> None:
    verdict = verdict_of(Score(error="down"), THRESHOLDS)
    assert verdict.error == "down"
    assert verdict.flagged == []


def test_a_reward_in_place_of_categories_is_no_pass() -> None:
    assert verdict_of(Score(value=3.0), THRESHOLDS).error is not None
