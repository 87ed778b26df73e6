"""Which answers keep the form that was asked for, and that a stranger's schema can neither reach out nor cost much."""

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding import schemas
from gateway.decoding.schemas import InvalidSchema, TooComplex, compiled
from gateway.decoding.validity import Requirements, requirements_of
from gateway.errors import BadRequest

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city"],
    "additionalProperties": False,
}


def tool(name: str = "weather", parameters: Any = WEATHER) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def calling(*calls: tuple[str, str]) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for i, (name, arguments) in enumerate(calls)
        ],
    }


def saying(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def with_schema(schema: Any) -> Requirements:
    return requirements_of({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}})


def test_a_plain_request_demands_nothing() -> None:
    required = requirements_of({"messages": [], "response_format": {"type": "text"}, "tools": None})
    assert not required.any
    assert required.broken(saying("whatever"), "stop") is None


@pytest.mark.parametrize("arguments", ['{"city": "Oslo"}', '{"city":"Oslo","days":3}', ' {"city": ""} '])
def test_a_call_that_keeps_its_schema_is_kept(arguments: str) -> None:
    assert requirements_of({"tools": [tool()]}).broken(calling(("weather", arguments)), "tool_calls") is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"city": 3}', "the arguments of weather break the schema at /properties/city/type"),
        ('{"days": 3}', "the arguments of weather break the schema at /required"),
        ('{"city":"Oslo","days":0}', "the arguments of weather break the schema at /properties/days/minimum"),
        ('{"city":"Oslo","x":0}', "the arguments of weather break the schema at /additionalProperties"),
        ('["Oslo"]', "the arguments of weather are not a JSON object"),
        ('{"city": "Os', "the arguments of weather are not JSON"),
        ("", "the arguments of weather are not JSON"),
        ('{"city": NaN}', "the arguments of weather are not JSON"),
        ("[" * 100_000, "the arguments of weather are not JSON"),
    ],
)
def test_a_call_that_breaks_its_schema_is_named_with_the_place(arguments: str, reason: str) -> None:
    required = requirements_of({"tools": [tool()]})
    assert required.broken(calling(("weather", arguments)), "stop") == reason


def test_each_call_counts() -> None:
    required = requirements_of({"tools": [tool(), tool("other", None)]})
    good, bad = ("weather", '{"city":"Oslo"}'), ("weather", "{}")
    assert required.broken(calling(good, ("other", "{}"), good), "stop") is None
    assert required.broken(calling(good, bad), "stop") is not None


def test_an_unknown_tool_is_broken() -> None:
    assert requirements_of({"tools": [tool()]}).broken(calling(("wether", "{}")), "stop") == (
        "it calls a tool that was not offered"
    )


def test_no_text_of_the_answer_is_in_a_reason() -> None:
    secret = "swordfish"
    required = requirements_of({"tools": [tool()]})
    for arguments in (f'{{"city":"x","{secret}":1}}', f'{{"city":["{secret}"]}}', secret):
        reason = required.broken(calling(("weather", arguments)), "stop")
        assert reason is not None and secret not in reason
    reason = required.broken(calling((secret, "{}")), "stop")
    assert reason is not None and secret not in reason


def test_being_cut_off_is_said() -> None:
    reason = requirements_of({"tools": [tool()]}).broken(calling(("weather", '{"city": "Os')), "length")
    assert reason == "the arguments of weather are not JSON (it was cut off at its token limit)"
    reason = with_schema({}).broken(saying('{"a": '), "length")
    assert reason == "the content is not JSON (it was cut off at its token limit)"


def test_tool_choice_is_demanded() -> None:
    call = calling(("weather", '{"city":"Oslo"}'))
    tools = [tool(), tool("other", None)]

    def broken(choice: Any, message: dict[str, Any]) -> str | None:
        return requirements_of({"tools": tools, "tool_choice": choice}).broken(message, "stop")

    assert broken("auto", saying("no")) is None
    assert broken("required", call) is None
    assert broken("required", saying("no")) is not None
    assert broken("none", saying("no")) is None
    assert broken("none", call) is not None
    named = {"type": "function", "function": {"name": "weather"}}
    assert broken(named, call) is None
    assert broken(named, calling(("other", "{}"))) == "it calls a tool that was not offered"
    assert broken(named, saying("no")) is not None
    for mode, text_is_kept in (("auto", True), ("required", False)):
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named]}}
        assert broken(allowed, call) is None
        assert broken(allowed, calling(("other", "{}"))) is not None
        assert (broken(allowed, saying("no")) is None) == text_is_kept


def test_parallel_calls_may_be_forbidden() -> None:
    two = calling(("weather", '{"city":"Oslo"}'), ("weather", '{"city":"Rome"}'))
    assert requirements_of({"tools": [tool()]}).broken(two, "stop") is None
    assert requirements_of({"tools": [tool()], "parallel_tool_calls": False}).broken(two, "stop") is not None


def test_a_custom_tool_takes_any_text() -> None:
    required = requirements_of({"tools": [{"type": "custom", "custom": {"name": "run"}}]})
    call = {"id": "c", "type": "custom", "custom": {"name": "run", "input": "not { json"}}
    assert required.broken({"content": None, "tool_calls": [call]}, "stop") is None


def test_json_is_demanded_of_the_content_alone() -> None:
    required = with_schema({"type": "object", "required": ["a"]})
    assert required.broken(saying('{"a": 1}', reasoning="not json"), "stop") is None
    assert required.broken(saying('{"b": 1}'), "stop") == "the content breaks the schema at /required"
    assert required.broken(saying(None, reasoning='{"a": 1}'), "stop") == "the content is not JSON"
    required = requirements_of({"response_format": {"type": "json_object"}})
    assert required.broken(saying('\n{"a": 1}'), "stop") is None
    assert required.broken(saying("[1]"), "stop") == "the content is not a JSON object"


def test_a_call_takes_the_place_of_json_content() -> None:
    body = {"tools": [tool()], "response_format": {"type": "json_object"}}
    assert requirements_of(body).broken(calling(("weather", '{"city":"Oslo"}')), "tool_calls") is None


@pytest.mark.parametrize(
    ("outputs", "good", "bad"),
    [
        ({"json": {"type": "integer"}}, "3", '"3"'),
        ({"json": '{"type": "integer"}'}, "3", '"3"'),
        ({"json_object": True}, "{}", "3"),
        ({"choice": ["yes", "no"]}, "yes", "yes!"),
        ({"regex": "[ab]+|c"}, "abba", "abbac"),
        ({"regex": "a.b"}, "a\nb", "a.bc"),
    ],
)
def test_structured_outputs_are_demanded(outputs: dict[str, Any], good: str, bad: str) -> None:
    required = requirements_of({"structured_outputs": outputs})
    assert required.any
    assert required.broken(saying(good), "stop") is None
    assert required.broken(saying(bad), "stop") is not None


@pytest.mark.parametrize("outputs", [{"grammar": "root ::= 'a'"}, {"structural_tag": "{}"}, {"regex": "(?=a)b"}])
def test_what_cannot_be_checked_is_left_to_the_worker(outputs: dict[str, Any]) -> None:
    assert requirements_of({"structured_outputs": outputs}).broken(saying("x"), "stop") is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "dict"},
        {"properties": 3},
        7,
        {"$ref": "#/$defs/missing"},
        {"$ref": "http://127.0.0.1:1/schema"},
        {"$ref": "file:///etc/hostname"},
        {"properties": {"a": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}},
        {"description": "x" * schemas.MAX_BYTES},
        {"anyOf": [{"pattern": "a"}] * (schemas.MAX_PATTERNS + 1)},
    ],
)
def test_no_schema_is_a_bad_request_that_names_the_field(schema: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        requirements_of({"tools": [tool("ok"), tool("bad", schema)]})
    assert caught.value.param == "tools[1].function.parameters"
    assert caught.value.code == "invalid_function_parameters"
    assert len(caught.value.message) < 500
    with pytest.raises(BadRequest) as caught:
        with_schema(schema)
    assert caught.value.param == "response_format.json_schema.schema"
    with pytest.raises(BadRequest) as caught:
        requirements_of({"structured_outputs": {"json": schema}})
    assert caught.value.param == "structured_outputs.json"


def test_a_schema_nested_without_end_is_a_bad_request() -> None:
    schema: Any = {}
    for _ in range(5000):
        schema = {"not": schema}
    with pytest.raises(BadRequest):
        with_schema(schema)


def test_tools_that_may_not_be_called_are_not_compiled() -> None:
    assert requirements_of({"tools": [tool("bad", {"type": "dict"})], "tool_choice": "none"}).calls == "none"


@pytest.mark.parametrize(
    "body",
    [
        {"tools": "x"},
        {"tools": [3, {"type": "function"}, {"function": {"name": 3}}, {"type": []}]},
        {"tools": [tool()], "tool_choice": {"type": "function"}},
        {"tools": [tool()], "tool_choice": {"type": "allowed_tools"}},
        {"response_format": "json"},
        {"response_format": {"type": "json_schema"}},
        {"structured_outputs": []},
        {"structured_outputs": {"choice": "x", "regex": 3}},
    ],
)
def test_what_is_malformed_otherwise_is_left_to_the_worker(body: dict[str, Any]) -> None:
    required = requirements_of(body)
    assert required.broken(saying("{}"), "stop") in (None, "it calls no tool although tool_choice demands it")


@pytest.mark.parametrize(
    "draft", ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema"]
)
def test_an_older_draft_is_read_by_its_own_rules(draft: str) -> None:
    schema = {"$schema": draft, "type": "array", "items": [{"type": "integer"}]}
    assert compiled(schema).violation([1, "x"]) is None
    assert compiled(schema).violation(["x"]) == "/items/0/type"


def test_an_unknown_draft_is_read_as_the_newest() -> None:
    assert compiled({"$schema": "http://127.0.0.1:1/own", "type": "string"}).violation(3) == "/type"


def test_references_within_the_schema_are_followed() -> None:
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}, "required": ["kids"]}
    assert compiled(tree).violation({"kids": [{"kids": []}]}) is None
    assert compiled(tree).violation({"kids": [{}]}) is not None
    named = {"$id": "Node", "type": "object", "additionalProperties": {"$ref": "Node"}}
    assert compiled(named).violation({"a": {"b": {}}}) is None
    assert compiled(named).violation({"a": {"b": 1}}) is not None


def test_a_pattern_beyond_linear_time_is_not_checked_and_the_rest_is() -> None:
    lookaround = "^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$"  # what pydantic writes for a Decimal
    schema = {"properties": {"price": {"type": "string", "pattern": lookaround}, "name": {"pattern": "^a"}}}
    assert compiled(schema).violation({"price": "x", "name": "ab"}) is None
    assert compiled(schema).violation({"price": 3, "name": "ab"}) == "/properties/price/type"
    assert compiled(schema).violation({"name": "b"}) == "/properties/name/pattern"
    named = {"patternProperties": {"(?!a)": {}}, "additionalProperties": False, "required": ["b"]}
    assert compiled(named).violation({"b": 1}) is None
    assert compiled({"anyOf": [{"pattern": f"(?=a{i})"} for i in range(40)]}).violation(3) is None


def test_a_word_for_a_keyword_may_be_the_name_of_a_property() -> None:
    schema = {"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}}, "enum": [{"$ref": "x"}]}
    assert compiled(schema).violation({"$ref": "x"}) is None


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
@pytest.mark.parametrize("bottom", [{"type": "integer"}, {"items": {"$ref": "#"}}, {"$ref": "#"}])
def test_exponential_work_is_not_done(keyword: str, bottom: dict[str, Any]) -> None:
    doubling: dict[str, Any] = {"s0": bottom}
    for step in range(1, 41):
        again = {"$ref": f"#/$defs/s{step - 1}"}
        doubling[f"s{step}"] = {keyword: [again, again]}
    start = time.perf_counter()
    schema = compiled({"$defs": doubling, "$ref": "#/$defs/s40"})
    with pytest.raises(TooComplex):
        schema.violation([[[1]]])
    assert time.perf_counter() - start < 1.0
    body = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema.document}}}
    assert requirements_of(body).broken(saying("[[[1]]]"), "stop") is None


@pytest.mark.parametrize("keyword", ["unevaluatedProperties", "unevaluatedItems"])
def test_a_schema_that_would_be_compiled_without_end_is_a_bad_request(keyword: str) -> None:
    doubling: dict[str, Any] = {"s0": {}}
    for step in range(1, 41):
        again = {"$ref": f"#/$defs/s{step - 1}"}
        doubling[f"s{step}"] = {keyword: again, "allOf": [again]}
    with pytest.raises(BadRequest, match="multiply"):
        with_schema({"$defs": doubling, "$ref": "#/$defs/s40"})
    assert compiled({"$defs": doubling, "$ref": "#/$defs/s5"}).violation([1, {"a": 2}]) is None


def test_a_value_nested_too_deep_is_not_followed() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(TooComplex):
        compiled({"items": {"$ref": "#"}}).violation(value)


def test_a_pattern_that_would_backtrack_takes_linear_time() -> None:
    required = requirements_of({"structured_outputs": {"regex": "(a+)+b"}})
    start = time.perf_counter()
    assert required.broken(saying("a" * 100_000), "stop") is not None
    assert time.perf_counter() - start < 1.0


def test_the_cache_returns_the_same_schema_and_stays_bounded() -> None:
    assert compiled({"title": "one"}) is compiled({"title": "one"})
    for number in range(600):
        compiled({"title": f"{number}"})
    assert len(schemas._cache) <= 256
    for number in range(600):
        compiled({"title": f"{number}", "description": "x" * 200_000})
    assert sum(size for _, size in schemas._cache.values()) <= 32 * 1024 * 1024


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(st.characters(codec="utf-8"), max_size=8),
    "integer": st.integers(),
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
    "boolean": st.booleans(),
    "null": st.none(),
}


@st.composite
def schema_and_value(draw: st.DrawFn, depth: int = 3) -> tuple[dict[str, Any], Any]:
    """A schema, and a value that keeps it by construction."""
    kind = draw(st.sampled_from([*SCALARS, "enum", *(["object", "array", "anyOf"] if depth else [])]))
    if kind == "enum":
        values = draw(st.lists(st.integers() | st.text(st.characters(codec="utf-8")), min_size=1, max_size=4))
        return {"enum": values}, draw(st.sampled_from(values))
    if kind == "object":
        names = draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=4), unique=True, max_size=4))
        parts = {name: draw(schema_and_value(depth - 1)) for name in names}
        schema = {
            "type": "object",
            "properties": {name: part[0] for name, part in parts.items()},
            "required": names,
            "additionalProperties": False,
        }
        return schema, {name: part[1] for name, part in parts.items()}
    if kind == "array":
        items, value = draw(schema_and_value(depth - 1))
        return {"type": "array", "items": items}, [value] * draw(st.integers(0, 3))
    if kind == "anyOf":
        branches = draw(st.lists(schema_and_value(depth - 1), min_size=1, max_size=3))
        return {"anyOf": [branch[0] for branch in branches]}, draw(st.sampled_from([b[1] for b in branches]))
    return {"type": kind}, draw(SCALARS[kind])


@given(schema_and_value())
def test_a_value_that_keeps_its_schema_is_never_broken(pair: tuple[dict[str, Any], Any]) -> None:
    schema, value = pair
    assert with_schema(schema).broken(saying(json.dumps(value)), "stop") is None
    arguments = json.dumps({"value": value}, ensure_ascii=False)
    required = requirements_of({"tools": [tool("f", {"type": "object", "properties": {"value": schema}})]})
    assert required.broken(calling(("f", arguments)), "stop") is None


@given(schema_and_value())
def test_an_object_that_lacks_what_is_required_is_always_broken(pair: tuple[dict[str, Any], Any]) -> None:
    schema = {"type": "object", "properties": {"a": pair[0]}, "required": ["a"]}
    assert with_schema(schema).broken(saying(json.dumps({"b": pair[1]})), "stop") is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
KEYWORDS = st.sampled_from(
    ["type", "$ref", "properties", "items", "anyOf", "pattern", "patternProperties", "enum", "$defs", "not", "$schema",
     "$id", "required", "minimum", "unevaluatedProperties", "dependentSchemas", "additionalProperties"]
)  # fmt: skip


@given(st.dictionaries(KEYWORDS, JSON | st.sampled_from(["#", "object", "string", "#/properties"])), JSON)
def test_no_schema_raises_anything_else(schema: dict[str, Any], value: Any) -> None:
    try:
        found = compiled(schema)
    except InvalidSchema:
        return
    with contextlib.suppress(TooComplex):
        found.violation(json.loads(json.dumps(value)))


@given(st.text() | JSON.map(json.dumps), st.sampled_from(["stop", "length", "tool_calls"]))
def test_any_answer_gets_a_reason_or_none(text: str, finish_reason: str) -> None:
    required = requirements_of({"tools": [tool()], "response_format": {"type": "json_object"}})
    for message in (saying(text), calling(("weather", text)), calling((text, "{}"))):
        reason = required.broken(message, finish_reason)
        assert reason is None or len(reason) < 200
