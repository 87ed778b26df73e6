"""G1 by thumbs alone, where the truth is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.reward.scored_rows import scored_pair
from training.gates.agreement import reward_checks
from training.gates.checks import AGREEMENT, CALIBRATION, EQUAL_AGREEMENT, NOT_WORSE, TREND
from training.gates.thresholds import RewardThresholds
from training.gates.thumbs import concordance
from training.gates.verdicts import Verdict
from training.reward.discrimination import auc
from training.reward.scored import Origin, ScoredLabel

LIMITS = RewardThresholds()


def label(index: int, rewards: tuple[float, ...], up: bool, tokens: int = 10, source: str = "thumbs") -> ScoredLabel:
    origin = Origin(source=source, group=f"g{index}", prompt=f"p{index}", user=f"u{index}")
    return ScoredLabel(origin, rewards, up, f"t{index}", tokens)


def thumbs(count: int, seed: int = 0, a: float = 1.5, old: float = 0.0, by_length: bool = False) -> list[ScoredLabel]:
    """P(up) = sigma(a r), r normal; the serving model's reward is r and noise of deviation `old`."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        tokens = int(rng.integers(5, 105))
        reward = (tokens - 55) / 30 if by_length else float(rng.normal())
        up = bool(rng.random() < 1 / (1 + np.exp(-a * reward)))
        found.append(label(index, (reward, reward + float(rng.normal()) * old), up, tokens))
    return found


def checked(
    of: list[ScoredLabel], scale: tuple[float, float] | None = (1.5, 0.0), alpha: float = 0.05
) -> dict[str, Verdict]:
    return {one.check: one for one in reward_checks([], True, None, LIMITS, alpha, of, scale)}


def test_a_good_reward_model_passes_and_no_trend_is_asked_for() -> None:
    found = checked(thumbs(4000, old=1.0))
    assert {name: one.outcome for name, one in found.items()} == dict.fromkeys(
        (AGREEMENT, NOT_WORSE, CALIBRATION, EQUAL_AGREEMENT), "pass"
    )
    assert TREND not in found


def test_one_that_says_nothing_fails() -> None:
    assert checked(thumbs(3000, a=0.0))[AGREEMENT].outcome == "fail"


def test_one_that_only_knows_lengths_fails_at_equal_lengths() -> None:
    found = checked(thumbs(4000, by_length=True, a=2.0))
    assert found[AGREEMENT].outcome == "pass"
    assert found[EQUAL_AGREEMENT].outcome == "fail"
    assert found[EQUAL_AGREEMENT].value == pytest.approx(0.5, abs=0.07)


def test_one_that_is_worse_than_what_serves_does_not_pass() -> None:
    swapped = [label(n, one.rewards[::-1], one.up, one.tokens) for n, one in enumerate(thumbs(4000, old=2.0))]
    found = checked(swapped)[NOT_WORSE]
    assert found.outcome == "fail" and (found.value or 0) > 0.05


def test_wrong_probabilities_fail_and_without_a_scale_nothing_is_known() -> None:
    of = thumbs(3000)
    assert checked(of, scale=(4.0, 1.0))[CALIBRATION].outcome == "fail"
    assert checked(of, scale=None)[CALIBRATION].outcome == "unmeasured"


def test_few_thumbs_are_unmeasured() -> None:
    assert checked(thumbs(60, a=0.3))[AGREEMENT].outcome == "unmeasured"
    assert "and 0 thumbs" in checked([])[AGREEMENT].reason


def test_an_ais_thumbs_are_nobodys() -> None:
    of = [label(n, one.rewards, one.up, one.tokens, source="ai_preference") for n, one in enumerate(thumbs(500))]
    assert "and 0 thumbs" in checked(of)[AGREEMENT].reason


def test_where_there_are_pairs_they_are_gone_by() -> None:
    pairs = [scored_pair(n, (1.0, 1.0), margin=(n % 2) / 1.0) for n in range(400)]
    found = {one.check: one for one in reward_checks(pairs, True, None, LIMITS, 0.05, thumbs(500), (1.5, 0.0))}
    assert TREND in found and found[AGREEMENT].facts["pairs"] == 400


def test_a_model_at_the_limit_passes_no_more_often_than_alpha() -> None:
    """AUC of two normals that lie d apart is Phi(d / sqrt 2): .60 at d = .3583."""
    rng = np.random.default_rng(3)
    passed = []
    for _ in range(200):
        of = [label(n, (float(rng.normal(0.3583 if n % 2 else 0.0)),) * 2, bool(n % 2)) for n in range(400)]
        passed.append(checked(of)[AGREEMENT].outcome == "pass")
    assert np.mean(passed) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 2)), min_size=2, max_size=40),
)
def test_it_is_the_share_of_pairs_within_strata_and_one_stratum_is_the_auc(
    rows: list[tuple[int, bool, int]],
) -> None:
    scores, up, strata = (np.array(one) for one in zip(*rows, strict=True))
    won = [
        0.5 * (1 + np.sign(int(scores[i]) - int(scores[j])))
        for i, j in itertools.product(range(len(rows)), repeat=2)
        if up[i] and not up[j] and strata[i] == strata[j]
    ]
    if not won:
        with pytest.raises(ValueError, match="both kinds"):
            concordance(scores.astype(float), up, strata.tolist())
        return
    found = concordance(scores.astype(float), up, strata.tolist())
    assert found.value == pytest.approx(np.mean(won))
    assert found.moves.sum() == pytest.approx(0.0, abs=1e-9)
    whole, measured = concordance(scores.astype(float), up), auc(scores.tolist(), up.tolist(), range(len(rows)))
    assert measured is not None and whole.value == pytest.approx(measured.value)
