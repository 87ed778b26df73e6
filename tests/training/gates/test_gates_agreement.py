"""G1 on pairs whose truth is known: what passes, what does not, and how often by chance."""

import numpy as np
import pytest

from tests.training.reward.scored_rows import scored_pair
from training.gates.agreement import reward_checks, slope
from training.gates.checks import AGREEMENT, BENCH, CALIBRATION, EQUAL_AGREEMENT, NOT_WORSE, TREND
from training.gates.miscalibration import miscalibration
from training.gates.thresholds import RewardThresholds
from training.gates.verdicts import Verdict
from training.reward.measured import Measured
from training.reward.reward_bench import BenchResult
from training.reward.scored import ScoredPair

LIMITS = RewardThresholds()
MARGINS = (0.0, 1 / 3, 2 / 3, 1.0)


def pairs(
    count: int, seed: int = 0, right: float = 0.6, rise: float = 0.2, old: float | None = 0.65, confident: float = 1.0
) -> list[ScoredPair]:
    """P(agreement) = right + rise * margin, calibrated by the size of the difference times `confident`."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        margin = MARGINS[index % 4]
        p = right + rise * margin
        size = confident * float(np.log(p / (1 - p)))
        new = size if rng.random() < p else -size
        members = (new,) if old is None else (new, 1.0 if rng.random() < old else -1.0)
        tokens = (int(rng.integers(5, 40)), int(rng.integers(5, 40)))
        found.append(scored_pair(index, members, margin=margin, tokens=tokens))
    return found


def checked(of: list[ScoredPair], limits: RewardThresholds = LIMITS, alpha: float = 0.05) -> dict[str, Verdict]:
    serving = bool(of) and len(of[0].chosen) > 1
    return {one.check: one for one in reward_checks(of, serving, None, limits, alpha)}


def test_a_good_reward_model_passes_every_check() -> None:
    found = checked(pairs(4000, old=0.6))
    assert {name: one.outcome for name, one in found.items()} == dict.fromkeys(
        (AGREEMENT, NOT_WORSE, TREND, CALIBRATION, EQUAL_AGREEMENT), "pass"
    )
    assert "ceiling that is unknown" in found[AGREEMENT].reason


def test_agreement_is_told_beside_its_ceiling() -> None:
    several = [scored_pair(n // 2, texts=("a", "b"), user=f"u{n}", prompt=f"p{n // 2}") for n in range(200)]
    found = checked(several)[AGREEMENT]
    assert "of at most" in found.reason and found.facts["ceiling"] == pytest.approx(1.0, abs=0.05)


def test_one_that_agrees_as_the_limit_says_passes_no_more_often_than_alpha() -> None:
    found = [checked(pairs(200, seed, right=0.6, rise=0.0))[AGREEMENT].outcome == "pass" for seed in range(80)]
    assert np.mean(found) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 80)


def test_a_worse_one_than_the_one_that_serves_does_not_pass() -> None:
    found = checked(pairs(3000, right=0.6, rise=0.1, old=0.75))[NOT_WORSE]
    assert found.outcome == "fail" and found.facts["serving"] > found.facts["new"]


def test_without_a_serving_model_it_is_unmeasured_unless_thresholds_say_so() -> None:
    of = pairs(1000, old=None)
    assert checked(of)[NOT_WORSE].outcome == "unmeasured"
    assert NOT_WORSE not in checked(of, RewardThresholds(against_serving=False))


def test_a_flat_agreement_shows_no_trend_and_a_rising_one_does() -> None:
    assert checked(pairs(4000, rise=0.0, right=0.7))[TREND].outcome == "fail"
    assert checked(pairs(4000, rise=0.25))[TREND].outcome == "pass"
    assert checked([scored_pair(n) for n in range(200)])[TREND].outcome == "unmeasured"


def test_the_slope_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random(50), rng.random(50)
    found = slope(x.tolist(), y.tolist(), range(50), 0.05)
    assert found is not None
    assert found.value == pytest.approx(np.polyfit(x, y, 1)[0])
    assert found.low < found.value < found.high


def test_an_overconfident_model_is_not_calibrated() -> None:
    found = checked(pairs(3000, confident=3.0))[CALIBRATION]
    assert found.outcome == "fail" and (found.value or 0) > 0.1


@pytest.mark.parametrize("count", [200, 600])
def test_a_perfect_model_has_no_error_where_the_plain_one_shows_some(count: int) -> None:
    """The mean of the square over runs is 0, and the upper bound holds it in 95 % of them."""
    rng = np.random.default_rng(0)
    values, covered = [], []
    for _ in range(40):
        p = rng.uniform(0.5, 0.95, count)
        bound = miscalibration(p.tolist(), (rng.random(count) < p).tolist(), range(count), 0.05)
        assert bound is not None
        values.append(bound.value**2)
        covered.append(bound.high > 0)
    assert np.mean(values) < 0.35 * 10 / count
    assert np.mean(covered) == 1.0


def test_the_upper_bound_of_a_known_error_holds_it() -> None:
    rng = np.random.default_rng(1)
    held = []
    for _ in range(60):
        p = rng.uniform(0.55, 0.85, 600)
        bound = miscalibration(p.tolist(), (rng.random(600) < p - 0.08).tolist(), range(600), 0.05)
        assert bound is not None
        held.append(bound.high >= 0.08)
    assert np.mean(held) > 0.9


def test_too_few_pairs_are_unmeasured() -> None:
    assert {one.outcome for one in checked([]).values()} == {"unmeasured"}


def test_a_file_in_reward_bench_layout_decides_where_it_is_given() -> None:
    average = Measured(value=0.5, low=0.45, high=0.55, rows=400, groups=400)
    bench = BenchResult(subsets={"Safety": average}, average=average, chance={"Safety": 0.25})
    found = {one.check: one for one in reward_checks(pairs(400), True, bench, LIMITS, 0.05)}
    assert found[BENCH].outcome == "pass" and found[BENCH].facts == {"Safety": 0.5}
