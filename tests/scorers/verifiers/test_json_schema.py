"""JSON of a schema: the scorer's own or the request's."""

from typing import Any

import pytest

from tests.scorers.verifiers.checking import checked

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
ASKED = {"type": "json_schema", "json_schema": {"name": "point", "schema": POINT}}


@pytest.mark.parametrize(
    ("answer", "value", "parts"),
    [
        ('{"x": 1}', 1.0, {"json": 1.0}),
        (' {"x": 1}\n', 1.0, {"json": 1.0}),
        ('{"x": "1"}', 0.0, {"json": 1.0}),
        ("{}", 0.0, {"json": 1.0}),
        ('{"x": 1', 0.0, {"json": 0.0}),
        ('{"x": NaN}', 0.0, {"json": 0.0}),
        ('```json\n{"x": 1}\n```', 0.0, {"json": 0.0}),
        ("[" * 100_000, 0.0, {"json": 0.0}),
        ("", 0.0, {"json": 0.0}),
    ],
)
def test_an_answer_keeps_the_schema_or_not(answer: str, value: float, parts: dict[str, float]) -> None:
    own = checked("json_schema", answer, options={"schema": POINT})
    asked = checked("json_schema", answer, response_format=ASKED)
    assert (own.value, own.parts) == (asked.value, asked.parts) == (value, parts)


def test_the_options_schema_comes_before_the_requests() -> None:
    assert checked("json_schema", "3", options={"schema": {"type": "integer"}}, response_format=ASKED).value == 1.0


def test_a_code_block_is_opened_where_the_options_say_so() -> None:
    for answer in ('Here it is:\n```json\n{"x": 1}\n```', '{"x": 1}'):
        assert checked("json_schema", answer, options={"schema": POINT, "code_block": True}).value == 1.0


def test_any_object_will_do_where_that_is_asked_for() -> None:
    assert checked("json_schema", "{}", response_format={"type": "json_object"}).value == 1.0
    assert checked("json_schema", "[]", response_format={"type": "json_object"}).value == 0.0
    assert checked("json_schema", "[]", response_format={"type": "json_schema"}).value == 1.0


@pytest.mark.parametrize(
    ("answer", "response_format", "says"),
    [
        ("{}", None, "asks for no JSON"),
        ("{}", {"type": "text"}, "asks for no JSON"),
        ("{}", {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://x"}}}, "cannot be checked"),
        ("[" * 200 + "]" * 200, {"type": "json_schema", "json_schema": {"schema": {}}}, "nests deeper"),
        ({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, ASKED, "calls tools"),
    ],
)
def test_what_cannot_be_said_is_an_error_and_no_number(answer: Any, response_format: Any, says: str) -> None:
    score = checked("json_schema", answer, response_format=response_format)
    assert score.value is None
    assert score.error is not None and says in score.error
