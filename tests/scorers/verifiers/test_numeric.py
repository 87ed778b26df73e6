"""A numeric answer: exact unless a tolerance is given, whatever way the number is written."""

from typing import Any

import pytest

from tests.scorers.verifiers.checking import checked


@pytest.mark.parametrize(
    ("answer", "reference", "options", "value"),
    [
        ("So it is 42.", "42", {}, 1.0),
        ("42 or 43", "42", {}, 0.0),
        ("0.30", "0.3", {}, 1.0),
        ("0.30000000000000001", "0.3", {}, 0.0),
        ("0.3", "3/10", {}, 1.0),
        ("9007199254740993", "9007199254740992", {}, 0.0),
        ("1,234 apples", "1234", {}, 1.0),
        ("50%", "0.5", {}, 1.0),
        ("50%", "50", {}, 0.0),
        ("50%", "50", {"percent": False}, 1.0),
        ("1e999", "1" + "0" * 290, {}, 0.0),
        (r"\boxed{\frac{1}{3}}", "1/3", {"extract": "boxed"}, 1.0),
        (r"\boxed{2\sqrt{3}}", "2", {"extract": "boxed"}, 0.0),
        ('{"answer": 1e3}', "1000", {"extract": "json_field", "json_field": "answer"}, 1.0),
        ("0.1", "0.2", {"absolute": 0.1}, 1.0),
        ("0.0999", "0.2", {"absolute": 0.1}, 0.0),
        ("0.30000000000000004", "0.2", {"absolute": 0.1}, 0.0),
        ("99", "100", {"relative": "0.01"}, 1.0),
        ("98.9", "100", {"relative": "0.01"}, 0.0),
        ("-99", "-100", {"relative": 0.01}, 1.0),
        ("98", "100", {"relative": 0.01, "absolute": 2}, 1.0),
        ("none", "42", {}, 0.0),
    ],
)
def test_the_number_is_the_references_within_the_tolerance(
    answer: str, reference: str, options: dict[str, Any], value: float
) -> None:
    assert checked("numeric", answer, options=options, reference=reference).value == value


def test_parts_show_the_number_and_how_far_off_it_is() -> None:
    assert checked("numeric", "40", reference="42").parts == {"extracted": 1.0, "number": 40.0, "difference": 2.0}
    assert checked("numeric", "none", reference="42").parts == {"extracted": 0.0}
    assert checked("numeric", "1e999", reference="42").parts == {"extracted": 1.0}


@pytest.mark.parametrize("reference", [None, "many", "3, 5"])
def test_without_a_reference_that_is_a_number_there_is_no_score(reference: str | None) -> None:
    score = checked("numeric", "42", reference=reference)
    assert score.value is None
    assert score.error is not None and "reference" in score.error
