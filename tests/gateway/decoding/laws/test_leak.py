from itertools import product
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decoding.laws.leak import empirical, gaussian

rewards = st.lists(st.integers(0, 3), min_size=1, max_size=3)
shares = st.sampled_from([0.0, 0.01, 0.3, 1.0])


def test_the_leak_of_wide_unsafe_rewards_is_the_printed_curve() -> None:
    """kappa = 1 %, unsafe rewards five times as wide. With F_A alone in the brackets it is 20.5 at 64."""
    leaks = [100 * gaussian(n, 0.01, NormalDist(), NormalDist(0, 5)) for n in (1, 4, 16, 64, 256)]
    assert [round(leak, 1) for leak in leaks] == [1.0, 1.7, 5.7, 18.6, 51.9]


@pytest.mark.parametrize("n", [1, 2, 16, 256])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.4, 1.0])
def test_unsafe_rewards_like_the_safe_ones_leak_their_share_whatever_n(n: int, share: float) -> None:
    assert gaussian(n, share, NormalDist(3, 2), NormalDist(3, 2)) == pytest.approx(share, abs=1e-9)


def test_of_two_the_leak_has_a_closed_form() -> None:
    """P(a pair's winner is unsafe) = k^2 + 2 k (1 - k) P(B > A), P(B > A) = Phi(difference / joint deviation)."""
    safe, unsafe, k = NormalDist(1, 0.02), NormalDist(1.5, 3), 0.1
    wins = NormalDist().cdf((unsafe.mean - safe.mean) / (safe.variance + unsafe.variance) ** 0.5)
    assert gaussian(2, k, safe, unsafe) == pytest.approx(k * k + 2 * k * (1 - k) * wins, abs=1e-9)


@given(st.floats(-3, 3), st.floats(0.1, 10), st.integers(1, 300))
@settings(max_examples=30, deadline=None)
def test_shifting_and_scaling_all_rewards_changes_no_leak(shift: float, scale: float, n: int) -> None:
    safe, unsafe = NormalDist(0, 1), NormalDist(0.5, 2)
    before = gaussian(n, 0.05, safe, unsafe)
    assert gaussian(n, 0.05, safe * scale + shift, unsafe * scale + shift) == pytest.approx(before, abs=1e-9)
    assert 0 < before < 1


def test_better_rewarded_unsafe_answers_leak_more_with_n_and_worse_rewarded_ones_less() -> None:
    sizes = (1, 2, 8, 64, 512)
    more = [gaussian(n, 0.1, NormalDist(), NormalDist(1, 1)) for n in sizes]
    less = [gaussian(n, 0.1, NormalDist(), NormalDist(-1, 1)) for n in sizes]
    assert more == sorted(more)
    assert less == sorted(less, reverse=True)


@given(rewards, rewards, shares, st.integers(1, 3))
@settings(deadline=None)
def test_of_measured_rewards_the_leak_is_that_of_all_draws_with_ties_to_the_earliest(
    safe: list[int], unsafe: list[int], share: float, n: int
) -> None:
    pool = [(reward, False, (1 - share) / len(safe)) for reward in safe]
    pool += [(reward, True, share / len(unsafe)) for reward in unsafe]
    leaked = 0.0
    for draws in product(pool, repeat=n):
        probability = 1.0
        for _, _, chance in draws:
            probability *= chance
        leaked += probability * max(draws, key=lambda draw: draw[0])[1]
    assert empirical(n, share, safe, unsafe) == pytest.approx(leaked, abs=1e-12)


def test_many_quantiles_of_normal_rewards_leak_like_the_normal_laws() -> None:
    safe, unsafe = NormalDist(), NormalDist(0, 5)
    table = [[law.inv_cdf((i - 0.5) / 2_000) for i in range(1, 2_001)] for law in (safe, unsafe)]
    assert empirical(64, 0.01, *table) == pytest.approx(gaussian(64, 0.01, safe, unsafe), abs=1e-3)


def test_a_leak_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="n must be 1 or more"):
        gaussian(0, 0.1, NormalDist(), NormalDist())
    with pytest.raises(ValueError, match="unsafe share"):
        gaussian(1, 1.1, NormalDist(), NormalDist())
    with pytest.raises(ValueError, match="1 safe and 1 unsafe"):
        empirical(1, 0.1, [1.0], [])
