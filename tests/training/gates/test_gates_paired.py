"""The paired bound: its errors enumerated exactly, what nothing among n says, clusters, and what it resolves."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training.gates.paired import PairedBound, difference, shows, tango

counts = st.integers(0, 40)


def false_pass(n: int, p_b: float, p_c: float, margin: float, alpha: float) -> float:
    """P(the bound is below the margin) where the true difference is exactly the margin: over all b and c."""
    most = int(stats.binom.ppf(1 - 1e-9, n, p_b + p_c)) + 1
    total = 0.0
    for c in range(most + 1):
        of_c = float(stats.binom.pmf(c, n, p_c))
        if of_c < 1e-10:
            continue
        # The larger b is the larger the bound: find the last b that passes.
        low, high = -1, most
        while low < high:
            middle = (low + high + 1) // 2
            if tango(middle, c, n, alpha) < margin:
                low = middle
            else:
                high = middle - 1
        if low >= 0:
            total += of_c * float(stats.binom.cdf(low, n - c, p_b / (1 - p_c)))
    return total


@pytest.mark.parametrize("n", [100, 600])
@pytest.mark.parametrize("p_c", [0.0, 0.002, 0.02])
@pytest.mark.parametrize("margin", [0.005, 0.02])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_what_is_worse_by_the_margin_passes_no_more_often_than_alpha(
    n: int, p_c: float, margin: float, alpha: float
) -> None:
    assert false_pass(n, p_c + margin, p_c, margin, alpha) <= alpha


def test_nothing_among_n_is_below_the_margin_from_730_on_at_half_a_point() -> None:
    passing = [n for n in range(600, 900) if tango(0, 0, n, 0.05) < 0.005]
    assert passing == list(range(passing[0], 900))
    assert 700 <= passing[0] <= 750


@given(counts, counts, st.integers(100, 2000), st.sampled_from([0.2, 0.05, 0.01]))
def test_the_bound_is_above_what_was_seen_and_rises_with_b_and_falls_with_n(
    b: int, c: int, n: int, alpha: float
) -> None:
    bound = tango(b, c, n, alpha)
    assert (b - c) / n < bound <= 1
    assert tango(b + 1, c, n, alpha) > bound
    assert tango(b, c, n, alpha / 2) > bound
    assert -tango(c, b, n, alpha) <= (b - c) / n


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=5, max_size=60))
def test_sides_change_places_with_the_sign(rows: list[tuple[bool, bool]]) -> None:
    new, old = [float(a) for a, _ in rows], [float(b) for _, b in rows]
    one, other = (difference(*sides, range(len(rows)), 0.05) for sides in ((new, old), (old, new)))
    assert one.value == pytest.approx(-other.value)
    assert one.high == pytest.approx(-other.low, abs=1e-9)
    assert one.low <= one.value <= one.high


def test_prompts_of_one_cluster_count_less() -> None:
    rng = np.random.default_rng(0)
    whole = np.repeat(rng.random(60) < 0.2, 10).astype(float).tolist()
    none = [0.0] * 600
    alone = difference(whole, none, range(600), 0.05)
    clustered = difference(whole, none, [index // 10 for index in range(600)], 0.05)
    assert clustered.high > alone.high + 0.03
    assert clustered.units == 60


@pytest.mark.parametrize(("at_odds", "margin"), [(0.01, 0.01), (0.04, 0.02), (0.1, 0.05)])
def test_as_many_as_needed_pass_four_times_in_five(at_odds: float, margin: float) -> None:
    bound = PairedBound(0.0, 0.0, 0.0, 100, 0.0, 100.0, at_odds)
    n = bound.needed(0.05, margin)
    assert n is not None
    assert shows(n, at_odds, margin, 0.05) and not shows(n - 2, at_odds, margin, 0.05)
    draws = np.random.default_rng(1).multinomial(n, [at_odds / 2, at_odds / 2, 1 - at_odds], 2000)
    passed = np.mean([tango(int(b), int(c), n, 0.05) < margin for b, c, _ in draws])
    assert 0.77 < passed < 0.85
    same = PairedBound(0.0, 0.0, 0.0, n, 0.0, n, at_odds)
    assert same.resolves(0.05) == pytest.approx(margin, rel=0.01)


def test_more_discordant_pairs_need_more_prompts() -> None:
    def needed(k: int) -> int:
        new, old = [1.0] * k + [0.0] * (500 - k), [0.0] * (500 - k) + [1.0] * k
        return difference(new, old, range(500), 0.05).needed(0.05, 0.005) or 0

    found = [needed(k) for k in (0, 2, 8, 32)]
    assert all(later > earlier for earlier, later in pairwise(found))
