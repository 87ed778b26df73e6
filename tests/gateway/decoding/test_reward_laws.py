import math
import random
from statistics import NormalDist, fmean

import pytest

from gateway.decoding.card import ModelCard
from gateway.decoding.laws import pandora
from gateway.decoding.reward_laws import KEPT, RewardLaw, RewardLaws
from scorers.calibration.quantiles import RewardLaw as MarginalLaw

UNIFORM_DEVIATION = math.sqrt(1 / 12)


def card(deviation: float, residuals: list[float]) -> ModelCard:
    law = MarginalLaw(count=1000, mean=0.0, deviation=1.0, quantiles=[-1.0, 1.0])
    return ModelCard(1, "m", "p@1", "r@1", 0.0, 100, 1600, law, deviation, residuals, 50.0)


def uniform_card() -> ModelCard:
    """Rewards of a prompt are uniform over an interval of length 1."""
    return card(UNIFORM_DEVIATION, [-math.sqrt(3), math.sqrt(3)])


def taught(deviation: float, prompts: int, each: int, seed: int = 0, between: float = 10.0) -> RewardLaw:
    rng, law = random.Random(seed), RewardLaw()
    for _ in range(prompts):
        mean = rng.gauss(0, between)
        law.learn([rng.gauss(mean, deviation) for _ in range(each)])
    return law


def normal_tau(price: float) -> float:
    """Where phi(t) - t (1 - Phi(t)) is the price."""
    normal, low, high = NormalDist(), -5.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        gain = normal.pdf(middle) - middle * (1 - normal.cdf(middle))
        low, high = (middle, high) if gain > price else (low, middle)
    return low


def test_it_learns_the_spread_within_prompts_and_not_that_between_them() -> None:
    law = taught(2.0, prompts=3000, each=4)
    # 9,000 degrees of freedom: five standard errors are 0.075; the spread of all rewards together is over 10.
    assert law.deviation == pytest.approx(2.0, abs=0.075)


def test_what_it_has_learnt_gives_the_closed_form_reservation_of_that_law() -> None:
    laws = [taught(2.0, prompts=1500, each=4, seed=seed) for seed in range(8)]
    seen = [7.0 - 2.0, 7.0 + 2.0] * 5000  # so many that their mean is known
    for price in (0.02, 0.05, 0.2):
        # Each law's tail is a hundred residuals at the least: its tau is off by 0.06 deviations, the mean of eight by
        # a third of that. In raw rewards, and with the bound's 1 %, five of these are 0.2; a price that were not in
        # deviations would move tau by 0.5.
        tau = fmean(law.reservation(seen, price) for law in laws)
        assert tau == pytest.approx(7.0 + 2.0 * normal_tau(price), abs=0.25)


def test_a_card_is_what_it_begins_with() -> None:
    law = RewardLaw(uniform_card())
    assert law.deviation == pytest.approx(UNIFORM_DEVIATION)
    price = 0.005 / UNIFORM_DEVIATION
    # A price that were raw and not in deviations would make it 0.95.
    assert law.reservation([0.0, 1.0] * 5000, price) == pytest.approx(pandora.uniform(0.005), abs=0.02)


def test_little_data_counts_for_a_wider_law_and_the_surplus_fades() -> None:
    ratios = []
    for prompts in (2, 20, 200, 2000):
        law = taught(1.0, prompts, each=4)
        assert law.deviation is not None and law.bound is not None
        ratios.append(law.bound / law.deviation)
    assert ratios == sorted(ratios, reverse=True)
    # sqrt(f / chi^2 of rank 0.1 with f = 3 * prompts degrees of freedom), from tables for 6 and 60.
    assert ratios[0] == pytest.approx(math.sqrt(6 / 2.204), rel=0.01)
    assert ratios[1] == pytest.approx(math.sqrt(60 / 46.459), rel=0.01)
    assert ratios[-1] < 1.02


def test_the_bound_holds_as_often_as_it_says() -> None:
    held = 0
    for seed in range(2000):
        bound = taught(1.0, prompts=2, each=4, seed=seed).bound
        held += bound is not None and bound >= 1.0
    # 90 %, and five standard errors of 0.67 %; a bound at the estimate itself would hold in 43 % of cases.
    assert held / 2000 == pytest.approx(0.9, abs=0.034)


def test_few_answers_of_the_prompt_leave_its_mean_open_and_the_reservation_higher() -> None:
    law = taught(1.0, prompts=2000, each=4)
    taus = [law.reservation([-0.5, 0.5] * pairs, 0.05) for pairs in (1, 2, 8, 1000)]
    assert taus == sorted(taus, reverse=True)
    ratio = (law.bound or 0.0) / (law.deviation or 1.0)
    # A normal law of deviation s: tau(price) = s tau_1(price / s).
    wider = ratio * math.sqrt(1.5)
    assert taus[0] == pytest.approx(wider * normal_tau(0.05 / wider), abs=0.15)


@pytest.mark.parametrize("width", [1, 2, 4, 16])
def test_a_wave_is_worth_what_its_best_is_expected_to_gain(width: int) -> None:
    law = RewardLaw(uniform_card())
    price = 0.02 / UNIFORM_DEVIATION
    tau = law.reservation([0.0, 1.0] * 5000, price, width)
    scale = (law.bound or 0.0) / UNIFORM_DEVIATION
    place = 0.5 + (tau - 0.5) / scale
    # E[(best of k - tau)+] over an interval of that length.
    gain = scale * (1 - place - (1 - place ** (width + 1)) / (width + 1))
    assert gain == pytest.approx(0.02 * width, rel=0.02)


def test_affine_rewards_move_the_reservation_with_them() -> None:
    plain, moved = RewardLaw(), RewardLaw()
    rng = random.Random(5)
    for _ in range(300):
        rewards = [rng.expovariate(1.0) for _ in range(5)]
        plain.learn(rewards)
        moved.learn([1000 + 50 * reward for reward in rewards])
    seen = [0.3, 1.2, 0.8]
    tau = plain.reservation(seen, 0.05, 3)
    assert moved.reservation([1000 + 50 * one for one in seen], 0.05, 3) == pytest.approx(1000 + 50 * tau, rel=1e-9)


def test_a_free_sample_is_always_worth_it_and_so_is_one_of_an_unknown_law() -> None:
    assert taught(1.0, 100, 4).reservation([1.0], 0.0) == math.inf
    law = RewardLaw()
    law.learn([3.0])
    assert law.deviation is law.bound is None
    assert law.reservation([3.0], 1.0) == math.inf


def test_where_all_rewards_are_equal_nothing_more_is_to_be_gained() -> None:
    law = RewardLaw()
    law.learn([2.0, 2.0, 2.0])
    assert law.reservation([2.0, 2.0, 2.0], 0.01) == 2.0


def test_the_shape_is_that_of_the_last_residuals_and_the_spread_follows_slowly() -> None:
    law, rng = taught(1.0, prompts=2000, each=4), random.Random(1)
    normal = law.reservation([0.0] * 1000, 0.02)
    for _ in range(KEPT // 4):
        # Of deviation 1, and a heavier right tail.
        law.learn([rng.expovariate(1.0) for _ in range(4)])
    assert law.reservation([0.0] * 1000, 0.02) > normal + 0.3
    before = law.deviation or 0.0
    for _ in range(60_000):
        law.learn([-3.0, 3.0])
    assert before < 1.1
    # sqrt(2) times 3, once the old has faded: a plain average over all would still be 4.1 at most.
    assert law.deviation == pytest.approx(3 * math.sqrt(2), rel=0.1)


def test_laws_are_kept_by_key_and_the_one_not_asked_for_the_longest_gives_way() -> None:
    laws = RewardLaws(most=2)
    first = laws.of("a")
    first.learn([0.0, 1.0])
    laws.of("b")
    assert laws.of("a") is first
    laws.of("c", uniform_card())
    assert len(laws) == 2
    assert laws.of("a") is first
    assert laws.of("c").deviation == pytest.approx(UNIFORM_DEVIATION)
    assert laws.of("b").deviation is None
