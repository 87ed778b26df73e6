"""Patterns that must and must not occur."""

from typing import Any

import pytest

from tests.scorers.verifiers.checking import checked


@pytest.mark.parametrize(
    ("answer", "options", "value", "parts"),
    [
        ("Dear Ada,", {"must_match": ["^Dear"]}, 1.0, {"must_match.0": 1.0}),
        ("Hi Ada,", {"must_match": ["^Dear", "Ada"]}, 0.0, {"must_match.0": 0.0, "must_match.1": 1.0}),
        ("dear", {"must_match": ["Dear"]}, 0.0, {"must_match.0": 0.0}),
        ("dear", {"must_match": ["Dear"], "ignore_case": True}, 1.0, {"must_match.0": 1.0}),
        ("As an AI", {"must_not_match": ["As an AI"]}, 0.0, {"must_not_match.0": 1.0}),
        ("Well", {"must_match": ["W"], "must_not_match": ["AI"]}, 1.0, {"must_match.0": 1.0, "must_not_match.0": 0.0}),
        ("", {"must_not_match": ["AI"]}, 1.0, {"must_not_match.0": 0.0}),
        ("a" * 100_000, {"must_match": ["(a+)+$"], "must_not_match": ["(a+)+b"]}, 1.0,
         {"must_match.0": 1.0, "must_not_match.0": 0.0}),
    ],
)  # fmt: skip
def test_all_of_one_list_and_none_of_the_other(
    answer: str, options: dict[str, Any], value: float, parts: dict[str, float]
) -> None:
    score = checked("regex", answer, options=options)
    assert (score.value, score.parts) == (value, parts)
