"""An exact answer: found, normalised, compared; an error where there is nothing to compare with."""

from typing import Any

import pytest

from scorers.contract import Score
from tests.scorers.verifiers.checking import checked


@pytest.mark.parametrize(
    ("answer", "reference", "options", "value"),
    [
        ("Paris", "Paris", {}, 1.0),
        (" paris.\n", "Paris", {}, 1.0),
        ("“Paris”", "Paris", {}, 1.0),
        ("New\u00a0 York", "new york", {}, 1.0),
        ("Ｐａｒｉｓ", "Paris", {}, 1.0),
        ("STRASSE", "Straße", {}, 1.0),
        ("Paris, France", "Paris", {}, 0.0),
        ("", "Paris", {}, 0.0),
        ("-5", "5", {}, 0.0),
        ("50%", "50", {}, 0.0),
        ("(1, 2]", "[1, 2)", {}, 0.0),
        ("**Paris**:", "Paris", {}, 1.0),
        ("paris", "Paris", {"ignore_case": False}, 0.0),
        ("Ｐaris", "Paris", {"unicode": False}, 0.0),
        ("Paris.", "Paris", {"punctuation": "keep"}, 0.0),
        ("it's", "its", {"punctuation": "remove"}, 1.0),
        ("a b", "ab", {"spaces": "remove"}, 1.0),
        ("a  b", "a b", {"spaces": "keep"}, 0.0),
        ("So the answer is (B).", "b", {"extract": "choice"}, 1.0),
        (r"Thus \boxed{x^{2}}.", "x^{2}", {"extract": "boxed", "punctuation": "keep"}, 1.0),
        ('{"city": "Paris"}', "Paris", {"extract": "json_field", "json_field": "city"}, 1.0),
        ("Long.\nParis", "Paris", {"extract": "last_line"}, 1.0),
        ("A: Paris.", "Paris", {"extract": "regex", "pattern": "A: (.*)"}, 1.0),
    ],
)
def test_equal_but_for_differences_that_do_not_count(
    answer: str, reference: str, options: dict[str, Any], value: float
) -> None:
    assert checked("exact", answer, options=options, reference=reference).value == value


def test_the_score_says_whether_an_answer_was_found() -> None:
    boxed = {"extract": "boxed"}
    assert checked("exact", "no box", options=boxed, reference="1") == Score(value=0.0, parts={"extracted": 0.0})
    assert checked("exact", r"\boxed{2}", options=boxed, reference="1") == Score(value=0.0, parts={"extracted": 1.0})


def test_an_answer_of_parts_is_read_as_one_text() -> None:
    parts = [{"type": "text", "text": "So:"}, {"type": "text", "text": "Paris"}]
    assert checked("exact", {"content": parts}, options={"extract": "last_line"}, reference="Paris").value == 1.0


@pytest.mark.parametrize("reference", [None, "", " ... "])
def test_without_a_reference_there_is_no_score(reference: str | None) -> None:
    score = checked("exact", "Paris", reference=reference)
    assert score.value is None
    assert score.error is not None and "reference" in score.error


def test_an_answer_that_cannot_be_read_has_no_score_and_says_that_asking_again_is_no_use() -> None:
    score = checked("exact", {"content": [{"type": "image_url"}]}, reference="Paris")
    assert score.value is None and score.unreadable
