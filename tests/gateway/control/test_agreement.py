"""Agreement of a shadow scorer with what decides: one request, and sums of many."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.agreement import Agreement, compare, kendall_tau_b

SCORES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=9)


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        # Kendall's own way by hand: 6 pairs, 1 tied by the first, 4 alike, 1 the other way round.
        ([1, 1, 2, 3], [1, 2, 4, 3], 3 / math.sqrt(5 * 6)),
        # scipy.stats.kendalltau([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]), of its documentation.
        ([12, 2, 1, 12, 2], [1, 4, 7, 1, 0], -0.47140452079103173),
    ],
)
def test_kendalls_tau_b(first: list[float], second: list[float], tau: float) -> None:
    assert kendall_tau_b(first, second) == pytest.approx(tau)


@pytest.mark.parametrize(("first", "second"), [([], []), ([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0])])
def test_it_is_undefined_where_a_scorer_ties_all(first: list[float], second: list[float]) -> None:
    assert kendall_tau_b(first, second) is None


@given(SCORES)
def test_it_is_symmetric_bounded_and_blind_to_the_scale(pairs: list[tuple[int, int]]) -> None:
    first, second = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    tau = kendall_tau_b(first, second)
    assert tau == kendall_tau_b(second, first) == kendall_tau_b([math.exp(a) for a in first], second)
    if tau is not None:
        assert -1 - 1e-9 <= tau <= 1 + 1e-9
        assert kendall_tau_b(first, [-b for b in second]) == pytest.approx(-tau)


def test_one_request() -> None:
    one = compare([3.0, 1.0, None, 2.0], [0.1, 0.2, 9.0, None], peers=(0, 1, 3), chosen=0, seconds=0.5)
    assert (one.winner, one.tau) == (1, -1.0)
    assert one.agreement == Agreement(1, 4, 1, 1, 1, 1, -1.0, 1.0, 0.5)


def test_a_tie_with_the_delivered_answer_is_no_other_winner() -> None:
    one = compare([3.0, 1.0], [0.2, 0.2], peers=(0, 1), chosen=0, seconds=0.0)
    assert one.winner == 0 and one.agreement.differs == 0 and one.agreement.compared == 1 and one.tau is None


@pytest.mark.parametrize("shadow", [[None, 1.0], [1.0, None], [None, None]])
def test_without_a_score_for_the_delivered_answer_and_another_there_is_no_winner(shadow: list[float | None]) -> None:
    one = compare([3.0, 1.0], shadow, peers=(0, 1), chosen=0, seconds=0.0)
    assert one.winner is None and one.agreement.compared == 0 and one.agreement.ranked == 0


def test_one_that_could_not_have_been_delivered_is_no_winner() -> None:
    one = compare([3.0, 9.0, 1.0], [0.2, 0.9, 0.1], peers=(0, 2), chosen=0, seconds=0.0)
    assert one.winner == 0 and one.tau is not None


def test_sums_give_means_with_their_standard_errors() -> None:
    taus, differs = [1.0, 0.0, 0.5, 0.5], [1, 0, 0, 0]
    total = sum(
        (Agreement(1, 3, 0, 1, d, 1, t, t * t, 0.1) for t, d in zip(taus, differs, strict=True)), start=Agreement()
    )
    figures = total.figures()
    assert (figures["requests"], figures["candidates"], figures["mean_ms"]) == (4, 12, 100.0)
    assert figures["other_winner"] == {"share": 0.25, "stderr": round(math.sqrt(0.25 * 0.75 / 4), 4)}
    assert figures["rank_correlation"] == {"mean": 0.5, "stderr": round(math.sqrt((0.5 / 3) / 4), 4), "requests": 4}


def test_nothing_counted_is_told_as_nothing() -> None:
    figures = Agreement().figures()
    assert figures["other_winner"] == {"share": None, "stderr": None} and figures["mean_ms"] is None
    assert Agreement(1, 2, 0, 0, 0, 1, 0.5, 0.25).figures()["rank_correlation"]["stderr"] is None
