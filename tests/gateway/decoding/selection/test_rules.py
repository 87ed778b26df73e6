import math
from collections.abc import Callable
from itertools import combinations, pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding.laws.soft import poisson_expected_rank
from gateway.decoding.selection.rules import argmax, pessimism, poisson, probabilities, soft
from gateway.decoding.selection.settings import SelectionConfig

# Each rule with a scale for pessimism that goes with its values.
Rule = Callable[[list[float]], list[float]]
BY_RANK: dict[str, Rule] = {
    "argmax": argmax,
    "soft": lambda values: soft(values, 0.3),
    "poisson": lambda values: poisson(values, 2.5),
}
ALL: dict[str, Rule] = {**BY_RANK, "pessimism": lambda values: pessimism(values, 0.7)}

values_of = st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=20)
tied = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=20)


@pytest.mark.parametrize("rule", ALL)
@given(values=st.one_of(values_of, tied))
def test_probabilities_sum_to_one_and_a_larger_value_has_no_smaller_one(rule: str, values: list[float]) -> None:
    found = ALL[rule](values)
    assert len(found) == len(values) and min(found) >= 0.0
    assert math.fsum(found) == pytest.approx(1.0, abs=1e-12)
    ascending = sorted(range(len(values)), key=lambda at: (values[at], -at))
    assert all(found[low] <= found[high] + 1e-15 for low, high in pairwise(ascending))


@pytest.mark.parametrize("rule", ALL)
@given(values=st.lists(st.integers(-99, 99).map(float), min_size=1, max_size=12, unique=True), random=st.randoms())
def test_the_order_of_the_candidates_does_not_matter(rule: str, values: list[float], random: Random) -> None:
    shuffled = random.sample(values, len(values))
    by_value = dict(zip(values, ALL[rule](values), strict=True))
    assert ALL[rule](shuffled) == pytest.approx([by_value[value] for value in shuffled], abs=1e-12)


@pytest.mark.parametrize("rule", BY_RANK)
@given(values=tied)
def test_a_rule_by_rank_does_not_see_a_monotone_map(rule: str, values: list[float]) -> None:
    assert BY_RANK[rule]([math.exp(3 * value) - 7 for value in values]) == BY_RANK[rule](values)


@given(tied, st.integers(1, 64), st.integers(-1000, 1000), st.floats(0.01, 50))
def test_pessimism_does_not_see_a_shift_and_a_scale_that_beta_shares(
    values: list[float], scale: int, shift: int, beta: float
) -> None:
    mapped = [scale * value + shift for value in values]
    assert pessimism(mapped, scale * beta) == pytest.approx(pessimism(values, beta), abs=1e-9)
    settings = SelectionConfig(rule="pessimism", beta=beta)
    assert probabilities(mapped, settings, scale) == pytest.approx(probabilities(values, settings), abs=1e-9)


def test_of_equal_values_the_earliest_is_the_best() -> None:
    assert argmax([1.0, 2.0, 2.0]) == [0.0, 1.0, 0.0]
    first, second = poisson([2.0, 2.0], 1.0)
    assert first > second


def test_soft_is_the_softmax_of_ranks() -> None:
    weights = [math.exp(place / 4 / 0.5) for place in (2, 4, 1, 3)]
    expected = [weight / sum(weights) for weight in weights]
    assert soft([0.0, 1e9, -5.0, 0.1], 0.5) == pytest.approx(expected, rel=1e-12)


def test_softs_limits_are_argmax_and_any_of_them_alike() -> None:
    values = [3.0, 1.0, 7.0, 5.0]
    assert soft(values, 1e-4) == argmax(values)
    assert soft(values, 5e-324) == argmax(values)
    assert soft(values, 1e9) == pytest.approx([0.25] * 4, abs=1e-9)
    # Ties are shared, at any temperature.
    assert soft([7.0, 1.0, 7.0], 1e-4) == [0.5, 0.0, 0.5]
    assert soft([2.0] * 3, 0.05) == pytest.approx([1 / 3] * 3)


@given(tied, st.floats(0.02, 10))
def test_soft_gives_equal_values_what_their_places_would_get(values: list[float], temperature: float) -> None:
    """And so its divergence is that of its ranks; the softmax of mid-ranks gives them less."""
    places = soft([float(at) for at in range(len(values))], temperature)
    ascending = sorted(values)
    found = soft(values, temperature)
    for value in set(values):
        mine = [chance for chance, one in zip(found, values, strict=True) if one == value]
        theirs = [chance for chance, one in zip(places, ascending, strict=True) if one == value]
        assert max(mine) == min(mine)
        assert math.fsum(mine) == pytest.approx(math.fsum(theirs), abs=1e-12)


def test_many_candidates_under_soft_are_the_exponential_tilt() -> None:
    """E[u] under the density e^(u/t) / (t (e^(1/t) - 1)) is 1 / (1 - e^(-1/t)) - t; raw rewards would give another."""
    count, temperature = 4000, 0.2
    found = soft([float(at) ** 3 for at in range(count)], temperature)
    mean = math.fsum(chance * (at + 0.5) / count for at, chance in enumerate(found))
    assert mean == pytest.approx(1 / (1 - math.exp(-1 / temperature)) - temperature, abs=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("mean", [0.0, 0.4, 3.0])
def test_poisson_is_the_best_of_a_random_subset_of_a_random_size(count: int, mean: float) -> None:
    """Against all subsets; a wrong one: sizes of Poisson(mean) without the 1, or its tail dropped and renormalised."""
    values = [float((7 * at) % count) for at in range(count)]
    sizes = [math.exp(-mean) * mean**k / math.factorial(k) for k in range(count - 1)]
    sizes.append(1.0 - sum(sizes))
    expected = [0.0] * count
    for size, share in enumerate(sizes, 1):
        subsets = list(combinations(range(count), size))
        for subset in subsets:
            expected[max(subset, key=lambda at: (values[at], -at))] += share / len(subsets)
    assert poisson(values, mean) == pytest.approx(expected, abs=1e-12)


def test_poissons_limits_are_any_of_them_alike_and_argmax() -> None:
    values = [3.0, 1.0, 7.0, 5.0]
    assert poisson(values, 0.0) == pytest.approx([0.25] * 4)
    assert poisson(values, 1000.0) == pytest.approx(argmax(values), abs=1e-12)


@pytest.mark.parametrize("mean", [0.5, 3.0, 20.0])
def test_of_many_candidates_poisson_is_the_best_of_poisson(mean: float) -> None:
    count = 2000
    found = poisson([float(at) for at in range(count)], mean)
    rank = math.fsum(chance * (at + 1) / (count + 1) for at, chance in enumerate(found))
    assert rank == pytest.approx(poisson_expected_rank(mean), abs=1e-3)


@given(tied, st.floats(0.01, 20))
def test_pessimism_draws_by_the_distance_to_a_threshold_of_mean_beta(values: list[float], beta: float) -> None:
    """Found by bisection; with 1/n missing from the mean, or beta divided twice, it would be elsewhere."""
    low, high = min(values) - beta - 1, max(values)
    for _ in range(200):
        middle = (low + high) / 2
        excess = math.fsum(max(0.0, value - middle) for value in values) / len(values)
        low, high = (middle, high) if excess > beta else (low, middle)
    expected = [max(0.0, value - low) / (beta * len(values)) for value in values]
    assert pessimism(values, beta) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("beta", [0.02, 0.3, 0.9])
def test_pessimism_on_uniform_rewards_starts_where_the_formula_says(beta: float) -> None:
    """lambda = 1 - sqrt(2 beta) up to 1/2, and 1/2 - beta beyond; the mean of what is drawn follows."""
    count = 4000
    rewards = [(at + 0.5) / count for at in range(count)]
    floor = 1 - math.sqrt(2 * beta) if beta <= 0.5 else 0.5 - beta
    found = pessimism(rewards, beta)
    assert all(chance == 0.0 for chance, reward in zip(found, rewards, strict=True) if reward < floor - 1e-3)
    assert all(chance > 0.0 for chance, reward in zip(found, rewards, strict=True) if reward > floor + 1e-3)
    above = max(0.0, floor)
    mean = ((1 - above**3) / 3 - floor * (1 - above**2) / 2) / beta
    assert math.fsum(map(float.__mul__, found, rewards)) == pytest.approx(mean, abs=1e-3)


def test_pessimisms_limits_are_argmax_and_any_of_them_alike() -> None:
    assert pessimism([3.0, 1.0, 7.0, 7.0], 1e-9) == pytest.approx([0, 0, 0.5, 0.5])
    assert pessimism([3.0, 1.0, 7.0, 5.0], 1e9) == pytest.approx([0.25] * 4)


@pytest.mark.parametrize(("values", "beta"), [([1e6, 0.0], 1e-12), ([1e308, -1e308], 0.5), ([1e17, 1e17 - 64], 5e-324)])
def test_pessimism_of_rewards_beside_which_beta_is_nothing_is_argmax(values: list[float], beta: float) -> None:
    assert pessimism(values, beta) == [1.0, 0.0]


@pytest.mark.parametrize("rule", ["argmax", "soft", "poisson", "pessimism"])
@given(values=tied, explore=st.floats(0, 1))
def test_exploring_gives_each_its_share_and_the_rule_the_rest(rule: str, values: list[float], explore: float) -> None:
    plain = probabilities(values, SelectionConfig.model_validate({"rule": rule}))
    mixed = probabilities(values, SelectionConfig.model_validate({"rule": rule, "explore": explore}))
    expected = [(1 - explore) * one + explore / len(values) for one in plain]
    assert mixed == pytest.approx(expected, abs=1e-12)
    assert math.fsum(mixed) == pytest.approx(1.0, abs=1e-12)
