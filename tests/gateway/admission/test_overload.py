"""What overload does, in simulation: n shrinks, then the lowest class is turned away, and the highest hardly waits.

The load is given in multiples of what the pool can answer with all candidates (`FULL_PER_S`), or with the least.
"""

from gateway.admission.tiers import TIERS
from tests.gateway.admission.overload import FULL_PER_S, LEAST, PLACES, N, Outcome, overload
from tests.gateway.admission.virtual_time import run

LEAST_PER_S = FULL_PER_S * N / LEAST


def simulate(per_s: float, least: int = LEAST) -> Outcome:
    outcome = run(overload(per_s, least=least))
    assert outcome.most_running <= PLACES
    return outcome


def test_at_half_the_load_that_it_can_take_nearly_all_get_all_candidates() -> None:
    outcome = simulate(0.5 * FULL_PER_S)
    assert outcome.rejected == 0 and outcome.mean_n > 7.0


def test_at_twice_the_load_n_shrinks_and_nobody_is_turned_away() -> None:
    shrinking, stiff = simulate(2 * FULL_PER_S), simulate(2 * FULL_PER_S, least=N)
    assert shrinking.rejected == 0 and LEAST < shrinking.mean_n < N
    assert all(shrinking.tallies[tier].wait_s(0.99) < 0.5 for tier in TIERS)
    assert stiff.rejected > 300
    assert shrinking.goodput_per_s > 1.9 * stiff.goodput_per_s


def test_at_twice_the_load_that_shrinking_can_take_the_lowest_class_alone_is_turned_away() -> None:
    outcome, stiff = simulate(2 * LEAST_PER_S), simulate(2 * LEAST_PER_S, least=N)
    flex, default, priority = (outcome.tallies[tier] for tier in TIERS)
    assert default.rejected == priority.rejected == 0 < flex.rejected
    assert outcome.first_shrunk_s is not None and outcome.first_rejected_s is not None
    assert outcome.first_shrunk_s < outcome.first_rejected_s
    assert priority.wait_s(0.99) < 0.5 < default.wait_s(0.99) < 5.0
    # It is not shut out either: every so often it has a turn.
    assert flex.answered > 0.1 * (default.answered + priority.answered)
    assert outcome.goodput_per_s > 0.95 * LEAST_PER_S
    assert outcome.goodput_per_s > 3.5 * stiff.goodput_per_s
