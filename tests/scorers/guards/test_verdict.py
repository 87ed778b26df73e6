"""What a guard's next-token probabilities become, and when they are no verdict."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorers.guards.guard_format import GuardFormat
from scorers.guards.verdict import VerdictReader, VerdictTokens
from scorers.model_scorer import CannotScore

FORMAT = GuardFormat.model_validate(
    {
        "about": "a guard",
        "labels": [
            {"text": "safe", "unsafe": 0},
            {"text": "perhaps", "unsafe": 0.25, "name": "doubtful"},
            {"text": "unsafe", "unsafe": 1},
        ],
        "then": "\n",
        "categories": [{"text": "1", "name": "fraud"}, {"text": "2", "name": "violence"}],
    }
)
TOKENS = VerdictTokens(labels=(10, 11, 12), naming=(12, 5), categories=(20, 21))


def reader(max_tokens: int = 8) -> VerdictReader:
    return VerdictReader(FORMAT, TOKENS, max_tokens)


def row(*probabilities: float) -> list[float]:
    """Log-probabilities of 10, 11, 12, 20 and 21."""
    return [math.log(one) for one in probabilities]


VERDICT = row(0.5, 0.2, 0.3, 1e-9, 1e-9)
NAMED = row(1e-9, 1e-9, 1e-9, 0.7, 0.2)


def test_the_whole_counts_labels_by_their_weight() -> None:
    score = reader().score([VERDICT, NAMED], 6)
    assert score.tokens == 6
    assert score.categories is not None
    assert score.categories["unsafe"] == pytest.approx(0.3 + 0.25 * 0.2)
    assert score.categories["doubtful"] == pytest.approx(0.2)


def test_a_category_is_the_most_that_it_can_be() -> None:
    categories = reader().score([VERDICT, NAMED], 6).categories or {}
    assert categories["fraud"] == pytest.approx(0.35 * (0.7 + 0.1))
    assert categories["violence"] == pytest.approx(0.35 * (0.2 + 0.1))


def test_a_guard_that_names_no_category_may_mean_any() -> None:
    categories = reader().score([VERDICT, row(0.9, 0.05, 0.03, 1e-9, 1e-9)], 6).categories or {}
    assert categories["fraud"] == categories["violence"] == pytest.approx(categories["unsafe"])


def test_labels_are_normalised_over_themselves() -> None:
    halved = reader().score([row(0.3, 0.12, 0.18, 0.1, 0.1), NAMED], 6).categories or {}
    assert halved["unsafe"] == pytest.approx(0.35)


def test_labels_with_less_than_half_of_the_mass_are_no_answer() -> None:
    with pytest.raises(CannotScore, match=r"one of its labels: they hold 0.49"):
        reader().score([row(0.2, 0.09, 0.2, 0.1, 0.1), NAMED], 6)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (0, 2), (1, 3)])
def test_a_number_that_is_not_finite_is_no_answer(wrong: float, place: tuple[int, int]) -> None:
    rows = [list(VERDICT), list(NAMED)]
    rows[place[0]][place[1]] = wrong
    with pytest.raises(CannotScore, match="not finite"):
        reader().score(rows, 6)


def test_the_second_prefill_makes_it_name_a_category() -> None:
    assert reader().ids == (10, 11, 12, 20, 21)
    assert reader().windows([1, 2, 3]) == [[1, 2, 3], [1, 2, 3, 12, 5]]


def test_a_prompt_that_does_not_fit_with_its_verdict_is_no_answer() -> None:
    assert reader(8).windows([1] * 6)
    with pytest.raises(CannotScore, match="has 9 tokens, its model reads at most 8"):
        reader(8).windows([1] * 7)


def test_a_category_token_may_be_a_label_token_too() -> None:
    shared = VerdictReader(FORMAT, VerdictTokens((10, 11, 12), (12, 5), (10, 21)), 8)
    assert shared.ids == (10, 11, 12, 21)
    score = shared.score([row(0.5, 0.2, 0.3, 1e-9), row(0.7, 1e-9, 1e-9, 0.2)], 6)
    assert (score.categories or {})["fraud"] == pytest.approx(0.35 * 0.8)


_LOGITS = st.lists(st.floats(-30, 30), min_size=5, max_size=5)


@given(_LOGITS, _LOGITS)
def test_no_category_exceeds_the_whole_and_none_leaves_the_unit_interval(one: list[float], other: list[float]) -> None:
    def normal(logits: list[float]) -> list[float]:
        total = math.log(sum(map(math.exp, logits)))
        return [logit - total for logit in logits]

    rows: Any = [normal(one), normal(other)]
    try:
        categories = reader().score(rows, 1).categories or {}
    except CannotScore:
        assert sum(math.exp(value) for value in rows[0][:3]) < 0.5
        return
    assert all(0 <= value <= 1 for value in categories.values())
    assert max(categories["fraud"], categories["violence"]) <= categories["unsafe"]
    assert categories["fraud"] + categories["violence"] >= categories["unsafe"] - 1e-9
