import math
import random
from collections.abc import Callable
from statistics import fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decoding.laws.best_of_n import win_rate
from gateway.decoding.laws.pandora import chance, expected_draws, exponential, reservation, uniform
from gateway.decoding.laws.quadrature import integral

values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)
prices = st.floats(1e-3, 1e3)


@given(values, prices)
def test_at_tau_the_gain_of_one_more_draw_is_its_price(rewards: list[float], price: float) -> None:
    tau = reservation(rewards, price)
    assert fmean(max(0.0, value - tau) for value in rewards) == pytest.approx(price, rel=1e-8, abs=1e-9)


@given(values, prices, st.floats(0.01, 100), st.floats(-1e3, 1e3), st.randoms())
def test_tau_moves_with_the_rewards_in_whatever_order_and_unit(
    rewards: list[float], price: float, scale: float, shift: float, shuffler: random.Random
) -> None:
    tau = reservation(rewards, price)
    moved = [scale * value + shift for value in rewards]
    shuffler.shuffle(moved)
    assert reservation(moved, scale * price) == pytest.approx(scale * tau + shift, rel=1e-9, abs=1e-6)


def test_rewards_that_are_large_and_close_keep_their_digits() -> None:
    assert reservation([1e15, 1e15 + 1], 0.25) == 1e15 + 0.5


@given(st.floats(1e-4, 3.0))
@settings(deadline=None)
def test_the_closed_forms_solve_the_equation(price: float) -> None:
    """1 - sqrt(price), or the exponential's tau without its scale before the logarithm, fail this."""
    tau = uniform(price)
    assert integral(lambda v: v - tau, [max(tau, 0.0), 1.0]) == pytest.approx(price)
    tau = exponential(4.0, 2.0, price)
    edges = [max(tau, 4.0) + x for x in range(100)]
    gain = integral(lambda v: (v - tau) * math.exp(-(v - 4.0) / 2.0) / 2.0, edges)
    assert gain == pytest.approx(price, rel=1e-9)


@pytest.mark.parametrize("price", [0.001, 0.1, 0.5, 0.9])
def test_a_fine_grid_has_the_tau_of_the_uniform_law(price: float) -> None:
    grid = [(i - 0.5) / 20_000 for i in range(1, 20_001)]
    assert reservation(grid, price) == pytest.approx(uniform(price), abs=1e-6)


def test_a_price_of_a_two_hundredth_buys_ten_draws_and_beats_every_fixed_n() -> None:
    price = 0.005
    assert expected_draws(1 - uniform(price)) == pytest.approx(10.0)
    assert uniform(price) == pytest.approx(0.900)
    net = {n: win_rate(n) - n * price for n in range(1, 200)}
    assert max(net, key=net.__getitem__) == 13
    assert net[13] == pytest.approx(0.864, abs=5e-4)


def _rolled(rng: random.Random) -> float:
    return float(rng.choice(DICE))


DICE = [1, 2, 3, 4, 5, 6]
SEARCHES: list[tuple[Callable[[random.Random], float], float, float, float]] = [
    (random.Random.random, 0.005, uniform(0.005), 0.1),
    (lambda rng: 2.0 + rng.expovariate(1 / 3), 0.2, exponential(2.0, 3.0, 0.2), 0.2 / 3),
    (_rolled, 0.4, reservation(DICE, 0.4), 2 / 6),
]


@pytest.mark.parametrize(("draw", "price", "tau", "chance_of_end"), SEARCHES, ids=["uniform", "exponential", "dice"])
def test_stopping_at_tau_gains_tau_net_of_the_price(
    draw: Callable[[random.Random], float], price: float, tau: float, chance_of_end: float
) -> None:
    rng, nets, counts = random.Random(6), [], []
    for _ in range(20_000):
        best, count = -math.inf, 0
        while best < tau:
            best, count = max(best, draw(rng)), count + 1
        nets.append(best - count * price)
        counts.append(count)
    assert abs(fmean(nets) - tau) < 5 * stdev(nets) / math.sqrt(len(nets))
    assert abs(fmean(counts) - expected_draws(chance_of_end)) < 5 * stdev(counts) / math.sqrt(len(counts))


@given(values, prices)
def test_below_its_tau_no_empirical_law_stops_and_above_it_always_can(rewards: list[float], price: float) -> None:
    tau = reservation(rewards, price)
    assert 1 <= expected_draws(chance(rewards, tau)) <= len(rewards)


def test_the_chance_counts_what_reaches_the_threshold_exactly() -> None:
    assert chance(DICE, 5) == pytest.approx(2 / 6)
    assert chance(DICE, 6.5) == 0.0
    assert expected_draws(0.0) == math.inf


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_a_price_that_is_none_is_refused(price: float) -> None:
    for solve in (uniform, lambda price: reservation([1.0], price), lambda price: exponential(0.0, 1.0, price)):
        with pytest.raises(ValueError, match="price of a draw must be above 0"):
            solve(price)


def test_a_law_of_nothing_or_of_failures_is_refused() -> None:
    for rewards in ([], [1.0, math.nan, 2.0], [math.inf]):
        with pytest.raises(ValueError, match="1 value or more, all finite"):
            reservation(rewards, 0.1)
    with pytest.raises(ValueError, match="scale must be above 0"):
        exponential(0.0, 0.0, 0.1)
