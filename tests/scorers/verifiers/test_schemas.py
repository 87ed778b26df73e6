"""Schemas of strangers: checked where the work is bounded, refused in words where it is not."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorers.verifiers.schemas import Uncheckable, schema_of

TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["value"],
    "additionalProperties": False,
}


def doubling(levels: int) -> dict[str, Any]:
    twice = {
        f"l{level}": {"allOf": [{"$ref": f"#/$defs/l{level + 1}"}, {"$ref": f"#/$defs/l{level + 1}"}]}
        for level in range(levels)
    }
    return {"$ref": "#/$defs/l0", "$defs": twice | {f"l{levels}": {"type": "integer"}}}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"value": 0}
    for level in range(levels):
        value = {"value": level, "children": [value]}
    return value


def test_a_schema_that_recurs_is_kept_or_not() -> None:
    schema = schema_of(TREE)
    assert schema.kept_by(nested(20))
    assert not schema.kept_by(nested(20) | {"children": [{"value": "one"}]})


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "a schema is an object"),
        ("x", "a schema is an object"),
        ({"type": "no such"}, "at /type"),
        ({"$ref": "https://example.org/schema"}, "does not lead to a place in the schema"),
        ({"$ref": "file:///etc/passwd"}, "does not lead to a place in the schema"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "does not lead to a place in the schema"),
        ({"$ref": "#named"}, "does not lead to a place in the schema"),
        ({"pattern": "(?=x)"}, "is not a"),
        ({"unevaluatedProperties": False}, "unevaluatedProperties is not checked here"),
        ({"items": {"$dynamicRef": "#x"}}, "$dynamicRef is not checked here"),
        ({"properties": {"a": {"$id": "https://example.org/a"}}}, "$id within a schema"),
        ({"allOf": [{"pattern": str(each)} for each in range(51)]}, "51 patterns, more than 50"),
        ({"title": "x" * 200_000}, "bytes, more than"),
    ],
)
def test_a_schema_that_is_none_or_cannot_be_bounded_is_refused(document: Any, says: str) -> None:
    with pytest.raises(Uncheckable) as caught:
        schema_of(document)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("document", "value", "says"),
    [
        (doubling(40), 1, "too long"),
        ({"$ref": "#"}, 1, "refers to itself at the same value"),
        ({"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}, json.loads("[" * 60 + "]" * 60), "too long"),
        ({"items": {"enum": list(range(1000))}}, list(range(1000)), "too long"),
        ({"type": "array"}, json.loads("[" * 500 + "]" * 500), "nests deeper"),
    ],
)
def test_a_value_that_would_take_exponential_work_is_not_begun(document: Any, value: Any, says: str) -> None:
    with pytest.raises(Uncheckable, match=says):
        schema_of(document).kept_by(value)


def test_what_doubles_a_little_is_checked() -> None:
    assert schema_of(doubling(8)).kept_by(1)
    assert not schema_of(doubling(8)).kept_by("one")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
schemas = st.recursive(
    st.sampled_from([{"type": "integer"}, {"type": "string", "pattern": "^a"}, {"enum": [1, "a", None]}, True, {}]),
    lambda inner: st.one_of(
        st.builds(lambda each: {"items": each}, inner),
        st.builds(lambda each: {"allOf": each}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda each: {"anyOf": each}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda each: {"not": each}, inner),
        st.builds(lambda each: {"additionalProperties": each, "properties": {"a": True}}, inner),
        st.builds(lambda each: {"properties": each}, st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
        st.builds(lambda each: {"$defs": {"x": each}, "if": {"type": "array"}, "then": each}, inner),
    ),
    max_leaves=6,
)


@given(schemas, values)
def test_what_is_checked_is_what_jsonschema_says(document: Any, value: Any) -> None:
    assert schema_of(document).kept_by(value) == jsonschema_rs.is_valid(document, value)
