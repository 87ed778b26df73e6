"""Length within bounds, in words or characters."""

from typing import Any

import pytest

from tests.scorers.verifiers.checking import checked


@pytest.mark.parametrize(
    ("answer", "options", "value", "parts"),
    [
        ("one two three", {"max": 3}, 1.0, {"words": 3.0}),
        ("one two three four", {"max": 3}, 0.0, {"words": 4.0}),
        ("one", {"min": 2}, 0.0, {"words": 1.0}),
        ("one  two", {"min": 2, "max": 2}, 1.0, {"words": 2.0}),
        ("日本語", {"unit": "characters", "min": 3, "max": 3}, 1.0, {"characters": 3.0}),
        ("one two three", {"max": 2, "graded": True}, 0.5, {"words": 3.0}),
        ("a b c d e", {"max": 2, "graded": True}, 0.0, {"words": 5.0}),
        ("one", {"min": 4, "graded": True}, 0.25, {"words": 1.0}),
        ("", {"min": 4, "graded": True}, 0.0, {"words": 0.0}),
    ],
)
def test_within_the_bounds_or_as_far_off_as_graded(
    answer: str, options: dict[str, Any], value: float, parts: dict[str, float]
) -> None:
    score = checked("length", answer, options=options)
    assert (score.value, score.parts) == (value, parts)
