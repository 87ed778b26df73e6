"""What is recommended on a card of normal rewards, for each target."""

from random import Random
from statistics import NormalDist, fmean
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.calibrate.recommend import Target, latency_at, parse_target, recommendations, reward_at
from gateway.decoding.card import FORMAT, CurvePoint, GuardLaw, ModelCard, PartialPoint, Recommendation
from gateway.decoding.laws.halving import expected_maximum, retained
from gateway.decoding.reward_laws import RewardLaw
from gateway.profile_settings import ProfileConfig
from scorers.calibration.quantiles import RewardLaw as Law

SIZES = (1, 2, 3, 4, 6, 8, 12, 16)
SCALE = 2.0
NORMAL = NormalDist()
CARD = ModelCard(
    format=FORMAT,
    model="m",
    policy="policy@1",
    reward_model="reward@1",
    created=0.0,
    prompts=200,
    answers=3200,
    law=Law(3200, 0.0, 3.0, [-9.0, 0.0, 9.0]),
    deviation=SCALE,
    residuals=[NORMAL.inv_cdf((place + 0.5) / 257) for place in range(257)],
    mean_tokens=40.0,
    curve=[
        CurvePoint(n, SCALE * expected_maximum(n), 0.0, 9.0, 40.0 * n, {1: 100.0, 4: 130.0, 16: 250.0}.get(n))
        for n in SIZES
    ],
    lengths=[40.0, 40.0],
)
TELLING = [PartialPoint(5, 0.35, 0.30, 0.40, 3200), PartialPoint(10, 0.75, 0.70, 0.80, 3200)]


def for_target(text: str, **changed: Any) -> dict[str, Recommendation]:
    """By strategy; what recommends none is under the empty name."""
    found = recommendations(replace(CARD, **changed), [parse_target(text)])
    for one in found:
        assert one.target == text and one.because.endswith(".")
        ProfileConfig.model_validate(one.settings)
    return {str(one.settings.get("strategy", "")): one for one in found}


def test_the_least_n_for_a_share_of_the_gain() -> None:
    """The best of 16 gains 1.766 deviations; 0.9 of it is 1.589, between the 1.424 of 8 and the 1.629 of 12."""
    found = for_target("gain=0.9")["best_of_n"]
    assert found.settings == {"strategy": "best_of_n", "n": 12}
    assert "92%" in found.because and "480 of its 640 tokens" in found.because
    assert for_target("gain=1")["best_of_n"].settings["n"] == 16
    assert for_target("gain=0.3")["best_of_n"].settings["n"] == 2


def test_the_most_n_for_tokens_and_for_latency() -> None:
    assert for_target("tokens=250")["best_of_n"].settings["n"] == 6
    assert for_target("tokens=9999")["best_of_n"].settings["n"] == 16
    # 130 ms at 4 and 250 at 16: 180 at 9.
    found = for_target("latency=180")
    assert list(found) == ["best_of_n"] and found["best_of_n"].settings["n"] == 9
    assert "180 ms" in found["best_of_n"].because


def test_what_no_n_does_is_said() -> None:
    assert for_target("tokens=30")[""].because == "No n does it. One answer has 40 tokens on average."
    assert for_target("latency=50")[""].because == "No n does it. One answer alone takes 100 ms."
    bare = [replace(point, latency_ms=None) for point in CARD.curve]
    assert for_target("latency=50", curve=bare)[""].because == "No n does it. Latency was not measured."
    flat = [replace(point, reward=1.0) for point in CARD.curve]
    [found] = recommendations(replace(CARD, curve=flat), [Target("gain", 0.9)])
    assert (found.settings, found.because) == ({"n": 1}, "More answers gain nothing here.")


def test_between_measured_points_the_reward_is_linear_in_log_n_and_latency_in_n() -> None:
    assert [reward_at(CARD, n) for n in SIZES] == pytest.approx([SCALE * expected_maximum(n) for n in SIZES])
    assert all(abs(reward_at(CARD, n) - SCALE * expected_maximum(n)) < 0.02 * SCALE for n in range(1, 17))
    assert [latency_at(CARD, n) for n in (1, 2, 4, 10, 16, 17)] == pytest.approx([100, 110, 130, 190, 250, None])


@pytest.mark.parametrize("text", ["gain=0.9", "tokens=300"])
def test_a_price_does_what_it_is_said_to_do_on_fresh_prompts(text: str) -> None:
    found = for_target(text)["early_stopping"]
    assert found.settings["n"] == 16
    law, rng = RewardLaw(CARD), Random(5)
    price = found.settings["options"]["price"] * CARD.mean_tokens / 1000
    rewards, draws = [], []
    for _ in range(2000):
        mean = rng.gauss(0, 50)
        seen = [rng.gauss(mean, SCALE) for _ in range(4)]
        while len(seen) < 16 and max(seen) < law.reservation(seen, price, 4):
            seen += [rng.gauss(mean, SCALE) for _ in range(4)]
        rewards.append(max(seen) - mean)
        draws.append(len(seen))
    # Five errors of a mean of 2,000, of rewards that deviate by less than one such and draws by less than six.
    if text == "gain=0.9":
        assert fmean(rewards) > SCALE * (expected_maximum(12) - 5 / 2000**0.5)
        assert fmean(draws) < 0.95 * 12
    else:
        assert fmean(draws) < 300 / 40 + 5 * 6 / 2000**0.5
        assert fmean(rewards) > SCALE * expected_maximum(7)


def test_halving_where_the_lower_bound_of_the_correlation_carries_it() -> None:
    """At 0.7 the best of 16 by way of 4 keeps 95 %; after 10 of 40 tokens that costs 16 * 10 + 4 * 30 = 280."""
    assert retained(16, 4, 0.7) == pytest.approx(0.95, abs=0.01)
    found = for_target("gain=0.9", partial=TELLING)["halving"]
    assert found.settings == {"strategy": "halving", "n": 16, "options": {"checkpoints": [10], "keep": 0.25}}
    assert "0.75 (0.70 to 0.80)" in found.because and "for 280 tokens instead of the 480" in found.because
    # 12 by way of 3 costs 210, and gains more than the best of 6 does.
    found = for_target("tokens=250", partial=TELLING)["halving"]
    assert found.settings["options"]["checkpoints"] == [10] and found.settings["n"] in (12, 16)


@pytest.mark.parametrize(
    "partial",
    [
        [PartialPoint(10, 0.49, 0.48, 0.5, 100)],  # the strategy would leave that checkpoint out
        [PartialPoint(10, 0.75, 0.05, 0.9, 100)],  # its value would do, its lower bound does not
        [PartialPoint(39, 0.99, 0.98, 1.0, 100)],  # too late to save anything
    ],
)
def test_no_halving_where_it_does_not_and_why(partial: list[PartialPoint]) -> None:
    found = for_target("gain=0.9", partial=partial)
    assert "halving" not in found and found[""].settings == {}
    assert found[""].because.startswith("Halving does not do it for less: 0.")
    assert f"after {partial[0].tokens} tokens, by whose lower bound 4 of 16" in found[""].because


def test_without_measured_beginnings_nothing_is_said_of_halving() -> None:
    assert set(for_target("gain=0.9")) == {"best_of_n", "early_stopping"}


def test_a_large_n_comes_with_its_bound() -> None:
    curve = [*CARD.curve, CurvePoint(32, SCALE * expected_maximum(32), 0.0, 9.0, 1280.0)]
    found = for_target("gain=1", curve=curve)
    assert found["best_of_n"].settings == {"strategy": "best_of_n", "n": 32, "max_n": 32}


def test_thresholds_for_a_share_of_flagged_answers() -> None:
    guard = {
        "weapons": GuardLaw([place / 1000 for place in range(1001)], 0.5),
        "fraud": GuardLaw([0.0, 0.1], 0.01),
    }
    [found] = recommendations(replace(CARD, guard=guard), [Target("flagged", 0.05)])
    chosen = found.settings["category_thresholds"]
    # Probabilities at or over it are at most 5 % of them, and fraud can stay.
    assert list(chosen) == ["weapons"] and 0.95 < chosen["weapons"] < 0.951
    assert "weapons 50.0%, fraud 1.0%" in found.because
    ProfileConfig.model_validate(found.settings)
    [stays] = recommendations(replace(CARD, guard=guard), [Target("flagged", 0.6)])
    assert (stays.settings, stays.because) == (
        {},
        "The thresholds can stay: of the answers are flagged weapons 50.0%, fraud 1.0%.",
    )
    assert recommendations(CARD, [Target("flagged", 0.05)]) == []


@pytest.mark.parametrize(
    "text", ["gain", "gain=2", "gain=0", "gain=nan", "tokens=-1", "latency=inf", "speed=1", "", "=1"]
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no target such as gain=0\.9"):
        parse_target(text)
