"""The answer is found where it is said to be, without a model library."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scorers.verifiers.extract import Extraction, boxed, code_block, extractor


def found(text: str, **options: Any) -> str | None:
    return extractor(Extraction(**options))(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed {x^{2}}", "x^{2}"),
        (r"\fbox{7}", "7"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{\text{Paris}}", "Paris"),
        (r"\boxed{\text{Paris} 7}", r"\text{Paris} 7"),
        (r"\boxed{1} and then \boxed{2", None),
        (r"\boxed{\}", None),
        (r"\boxed{}", None),
        (r"\boxed", None),
        ("no box", None),
        ("", None),
    ],
)
def test_the_last_box_is_read_to_its_own_brace(text: str, answer: str | None) -> None:
    assert found(text, extract="boxed") == answer


@given(st.recursive(st.text("ab1 ", max_size=5), lambda inner: st.lists(inner, max_size=3).map(
    lambda parts: "{" + "".join(parts) + "}")))  # fmt: skip
def test_whatever_is_balanced_comes_out_of_a_box_as_it_went_in(content: str) -> None:
    assert boxed(rf"thus \boxed{{{content}}}, as {{said}}") == (content.strip() or None)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(C)", "C"),
        ("**D**", "D"),
        ("B) Paris", "B"),
        ("A. It is so.", "A"),
        ("The answer is C.", "C"),
        ("The correct answer is: (B)", "B"),
        ("**Answer:** D", "D"),
        (r"Answer: $\text{B}$", "B"),
        (r"Final answer: $\boxed{A}$", "A"),
        ("The answer is A at first sight. But no: the answer is option B", "B"),
        ("I think (A) is wrong, and so (C)", "C"),
        ("A cat sat on the mat.", None),
        ("The answer is not B", None),
        ("The answer is Berlin", None),
        ("The answer is E", None),
        ("", None),
    ],
)
def test_the_letter_of_a_choice_is_found_and_no_word_is_taken_for_one(text: str, letter: str | None) -> None:
    assert found(text, extract="choice") == letter


def test_choices_say_which_letters_there_are() -> None:
    assert found("The answer is E", extract="choice", choices="ABCDE") == "E"


@pytest.mark.parametrize(
    ("text", "path", "answer"),
    [
        ('{"answer": "Paris"}', "answer", "Paris"),
        ('{"answer": 0.10}', "answer", "0.10"),
        ('{"answer": 12345678901234567890}', "answer", "12345678901234567890"),
        ('{"answer": true}', "answer", "true"),
        ('{"a": [{"b": 7}]}', "a.0.b", "7"),
        ('Here:\n```json\n{"answer": 7}\n```\nDone.', "answer", "7"),
        ('```\n{"answer": 1}\n```\n```\n{"answer": 2}\n```', "answer", "2"),
        ('{"answer": null}', "answer", None),
        ('{"answer": {"x": 1}}', "answer", None),
        ('{"answer": NaN}', "answer", None),
        ('{"other": 1}', "answer", None),
        ("[1, 2]", "answer", None),
        ("[1, 2]", "7", None),
        ("not JSON", "answer", None),
        ("[" * 100_000, "0", None),
    ],
)
def test_a_field_comes_as_it_is_written(text: str, path: str, answer: str | None) -> None:
    assert found(text, extract="json_field", json_field=path) == answer


def test_a_pattern_gives_its_first_group_or_the_match() -> None:
    assert found("#### 72\n", extract="regex", pattern=r"#### (\d+)") == "72"
    assert found("it is 72 or 73", extract="regex", pattern=r"\d+") == "72"
    assert found("it is 72 or 73", extract="regex", pattern=r"(?s).*\b(\d+)") == "73"
    assert found("none", extract="regex", pattern=r"x(y)?z|none") is None
    assert found("none", extract="regex", pattern=r"\d+") is None


def test_the_text_and_its_last_line_come_without_blanks_around() -> None:
    assert found(" a\nb \n", extract="text") == "a\nb"
    assert found("a\n b \n\n", extract="last_line") == "b"
    assert found(" \n", extract="text") is found("\n \n", extract="last_line") is None


def test_a_code_block_needs_an_end() -> None:
    assert code_block("```\nx") is None
    assert code_block("```python\nx\n``` and ```y``` and ```z") == "y"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"extract": "regex"}, "extract: regex needs pattern"),
        ({"extract": "json_field"}, "extract: json_field needs json_field"),
        ({"extract": "boxed", "pattern": "x"}, "pattern does something with extract: regex only"),
        ({"extract": "regex", "pattern": "("}, "no regular expression of RE2: missing )"),
        ({"extract": "regex", "pattern": "(?=x)"}, "no regular expression of RE2: invalid perl operator"),
        ({"extract": "choice", "choices": "abc"}, "should match"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Extraction(**options)
    assert says in str(caught.value)


def test_votes_may_import_the_extractors_without_the_server_or_a_model_library() -> None:
    code = (
        "import sys, scorers.verifiers.extract; "
        "print([name for name in sys.modules if name.partition('.')[0] in ('torch', 'transformers', 'fastapi', 're2')"
        " or name in ('scorers.service', 'scorers.server', 'scorers.loading')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
