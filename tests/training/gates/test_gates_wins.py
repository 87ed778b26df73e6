"""Wins by the holdout and the proxy: how often what is no better passes, and what a gamed version shows."""

import numpy as np
import pytest

from tests.training.gates.asking import answered, prompts, scored
from training.evaluation.win_rate import Pair, pairs_of
from training.gates.checks import EQUAL_WINS, GAP, WINS
from training.gates.thresholds import PolicyThresholds
from training.gates.verdicts import Verdict
from training.gates.wins import Rewards, wins

LIMITS = PolicyThresholds()


def judged(
    by_holdout: np.ndarray, by_proxy: np.ndarray | None, longer: int = 0, alpha: float = 0.05
) -> dict[str, Verdict]:
    """Whether A wins each prompt."""
    items = prompts(len(by_holdout))
    answers = answered(items, lambda side, number: "x" * (10 + number % 7 + (longer if side == "a" else number % 3)))
    pairs: list[Pair] = pairs_of(items, answers, 1)
    place = {item.id: number for number, item in enumerate(items)}

    def rewards(wins_of: np.ndarray) -> Rewards:
        return scored(answers, lambda one: float(wins_of[place[one.item]] if one.side == "a" else 0.5))

    proxy = None if by_proxy is None else rewards(by_proxy)
    return {one.check: one for one in wins(pairs, rewards(by_holdout), proxy, LIMITS, alpha)}


def test_a_version_that_is_better_by_both_passes_all_three() -> None:
    rng = np.random.default_rng(0)
    found = judged(rng.random(1000) < 0.62, rng.random(1000) < 0.64)
    assert [found[name].outcome for name in (WINS, EQUAL_WINS, GAP)] == ["pass"] * 3
    assert found[WINS].n == 1000 and found[WINS].alpha == 0.05
    assert "62" in found[WINS].reason or "6" in found[WINS].reason


def test_one_that_is_the_same_passes_no_more_often_than_alpha() -> None:
    rng = np.random.default_rng(1)
    passed = [judged(rng.random(200) < 0.5, None)[WINS].outcome == "pass" for _ in range(250)]
    assert np.mean(passed) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 250)


def test_one_that_the_proxy_alone_likes_is_stopped_by_the_gap() -> None:
    rng = np.random.default_rng(2)
    found = judged(rng.random(600) < 0.56, rng.random(600) < 0.95)
    assert found[GAP].outcome == "fail"
    assert found[GAP].facts["win rate by the proxy"] == pytest.approx(0.95, abs=0.03)


def test_without_a_proxy_the_gap_is_unmeasured_and_does_not_pass() -> None:
    assert judged(np.ones(50, dtype=bool), None)[GAP].outcome == "unmeasured"


def test_a_few_prompts_are_unmeasured_with_how_many_it_takes() -> None:
    rng = np.random.default_rng(3)
    found = judged(rng.random(40) < 0.55, rng.random(40) < 0.55)
    assert found[WINS].outcome == "unmeasured"
    assert 500 < (found[WINS].needed or 0) < 900


def test_a_holdout_that_has_not_read_all_decides_nothing() -> None:
    items = prompts(20)
    answers = answered(items, lambda side, number: side)
    verdicts = wins(pairs_of(items, answers, 1), {}, None, LIMITS, 0.05)
    assert [one.outcome for one in verdicts] == ["unmeasured"] * 3
