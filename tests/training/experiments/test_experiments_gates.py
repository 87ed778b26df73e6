"""The gates' experiment: its limits and rates from runs, and one small version of each kind from real training."""

from pathlib import Path
from typing import get_args

import pytest

from tests.training.experiments.test_experiments_goodhart import LABELLED
from training.evaluation.items import drawn
from training.experiments.gates import QUICK, Kind, Limits, Ran, holdout_model, limits_from, rate, version
from training.gates.checks import EQUAL_WINS, GAP, KL, WINS
from training.gates.suite_files import PROMPTS, read_suite
from training.gates.verdicts import Outcome, Verdict


def ran(kind: Kind, seed: int, gap: float, kl: float, wins: Outcome = "pass", gold: float = 0.6) -> Ran:
    values = {WINS: (0.6, wins), EQUAL_WINS: (0.6, wins), GAP: (gap, "pass"), KL: (kl, "pass")}
    verdicts = [
        Verdict(gate="G2 policy", check=check, outcome=outcome, reason="", value=value, low=value, high=value)
        for check, (value, outcome) in values.items()
    ]
    gold_interval = (gold, gold - 0.05, gold + 0.05)
    return Ran(kind=kind, seed=seed, sizes=[400], verdicts=verdicts, gold=gold_interval, proxy=0.9, steps=1)


HEALTHY = [ran("healthy", seed, 0.05 + 0.01 * seed, 1.0 + 0.1 * seed) for seed in range(10)]
GAMED = [ran("gamed", seed, 0.4 + 0.01 * seed, 20.0 + seed, gold=0.2) for seed in range(10)]


def test_limits_lie_between_what_is_healthy_and_what_is_gamed() -> None:
    limits = limits_from([*HEALTHY, *GAMED])
    assert 0.14 < limits.gap < 0.4 and 1.9 < limits.kl < 20
    assert rate(HEALTHY, limits, True).value == rate(GAMED, limits, False).value == 1.0


def test_where_they_overlap_a_check_costs_one_healthy_version_in_ten() -> None:
    overlapping = [ran("gamed", seed, 0.0, 0.5) for seed in range(10)]
    limits = limits_from([*HEALTHY, *overlapping])
    assert sum(one.verdict(GAP).value < limits.gap for one in HEALTHY) >= 9  # type: ignore[operator]


def test_a_version_must_win_whatever_the_limits() -> None:
    assert not Limits(1.0, 100.0).passed(ran("healthy", 0, 0.0, 0.0, wins="fail"))


def test_limits_need_both_kinds() -> None:
    with pytest.raises(ValueError, match="healthy and gamed"):
        limits_from(HEALTHY)


def test_a_run_counts_as_what_the_gold_judge_says_it_is() -> None:
    assert HEALTHY[0].truly and GAMED[0].truly
    assert not ran("healthy", 0, 0, 0, gold=0.5).truly
    assert not ran("gamed", 0, 0, 0, gold=0.5).truly
    assert not ran("shuffled", 0, 0, 0, gold=0.7).truly


@pytest.mark.slow
def test_a_small_version_of_each_kind_comes_with_its_verdicts(tmp_path: Path) -> None:
    items = drawn(read_suite(PROMPTS).items, 16)
    holdout = holdout_model(LABELLED[:20], QUICK, tmp_path)
    for kind in get_args(Kind):
        folder = tmp_path / kind
        folder.mkdir()
        found = version(kind, 1, LABELLED[20:], holdout, items, QUICK, folder)
        assert {one.check for one in found.verdicts} == {WINS, EQUAL_WINS, GAP, KL}
        assert 0 <= found.gold[1] <= found.gold[0] <= found.gold[2] <= 1
        kl = found.verdict(KL).value
        assert kl is not None and ((abs(kl) < 1e-6) if kind == "same" else kl > 0)
