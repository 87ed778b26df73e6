import math

import msgspec
import pytest

from gateway.release.budget import THUMBS, alphas, compares, is_last, signals
from gateway.release.settings import ReleaseConfig
from gateway.release.state import Bundle, Canary


def ways(config: ReleaseConfig) -> list[Canary]:
    """All stages that are looked at, and the watch."""
    first = Canary(bundle=Bundle(release=2), control=Bundle(), salt="s", phase="canary", began=0.0)
    last = max(len(config.stages) - 1, 1)
    found = [msgspec.structs.replace(first, stage=stage) for stage in range(last)]
    return [*found, msgspec.structs.replace(first, stage=last, phase="watch")]


@pytest.mark.parametrize("stages", [[1.0], [0.5, 1.0], [0.01, 0.05, 0.25, 1.0], [0.1, 0.2, 0.3, 0.5, 0.7, 1.0]])
@pytest.mark.parametrize("slow_ms", [None, 2000.0])
def test_all_stages_and_signals_together_have_alpha(stages: list[float], slow_ms: float | None) -> None:
    config = ReleaseConfig(stages=stages, slow_ms=slow_ms)
    parts = [alphas(config, one) for one in ways(config)]
    assert math.fsum(part for one in parts for part in one.values()) == pytest.approx(config.alpha)
    assert all(part > 0 for one in parts for part in one.values())


def test_later_stages_get_more() -> None:
    config = ReleaseConfig()
    sums = [math.fsum(alphas(config, one).values()) for one in ways(config)]
    assert sums == sorted(sums) and sums[0] < sums[-1]


def test_a_promotion_by_hand_leaves_the_budget_whole() -> None:
    """From the first stage to the watch: the last one's part is kept for it."""
    config = ReleaseConfig()
    first, *_, watch = ways(config)
    early = msgspec.structs.replace(watch, stage=1)
    assert alphas(config, early) == alphas(config, watch)
    assert math.fsum([*alphas(config, first).values(), *alphas(config, early).values()]) <= config.alpha


def test_small_stages_look_at_operations_alone() -> None:
    config = ReleaseConfig()
    watched = [signals(config, one) for one in ways(config)]
    assert watched[0] == watched[1] == ("error", "unsafe", "complaint")
    assert set(watched[2]) == set(watched[3]) == {"error", "unsafe", "complaint", "regenerated", "up"}
    assert [THUMBS in alphas(config, one) for one in ways(config)] == [False, False, True, True]
    assert [compares(config, one) for one in ways(config)] == [False, False, True, True]
    assert "slow" in signals(ReleaseConfig(slow_ms=500.0), ways(config)[0])


def test_the_promotion_follows_the_stage_before_the_last() -> None:
    assert [is_last(ReleaseConfig(), one) for one in ways(ReleaseConfig())[:-1]] == [False, False, True]
    single = ReleaseConfig(stages=[1.0])
    assert is_last(single, ways(single)[0])
