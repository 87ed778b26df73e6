"""The text is JSON that keeps a schema: the options' own, or that of the request's response_format."""

from typing import Any

import msgspec
from pydantic import ConfigDict, Field, field_validator

from scorers.settings import Section
from scorers.verifiers.case import CannotScore, Case, Check, Verdict
from scorers.verifiers.extract import code_block
from scorers.verifiers.schemas import Schema, Uncheckable, schema_of

_decode = msgspec.json.Decoder().decode
_OBJECT = {"type": "object"}


class JsonSchemaOptions(Section):
    """The schema, and where the JSON is."""

    model_config = ConfigDict(validate_by_name=False)

    own_schema: dict[str, Any] | None = Field(
        None, alias="schema", description="The JSON schema; empty: that of the request's response_format."
    )
    code_block: bool = Field(False, description="Take what the last block between ``` holds, where there is one.")

    @field_validator("own_schema")
    @classmethod
    def _compiles(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            try:
                schema_of(value)
            except Uncheckable as problem:
                raise ValueError(f"no JSON schema that can be checked: {problem}") from None
        return value


def json_schema(options: JsonSchemaOptions) -> Check:
    """1 where the text is JSON that keeps the schema, else 0."""

    def check(case: Case) -> Verdict:
        schema = _wanted(options.own_schema, case.response_format)
        text = case.text
        if not text and case.candidate.get("tool_calls"):
            raise CannotScore("The answer calls tools and has no content, so there is no JSON to check.")
        try:
            value = _decode((code_block(text) if options.code_block else None) or text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return Verdict(0.0, {"json": 0.0})
        try:
            return Verdict(float(schema.kept_by(value)), {"json": 1.0})
        except Uncheckable as problem:
            raise CannotScore(f"Whether the answer keeps the schema cannot be said: {problem}.") from None

    return check


def _wanted(own: dict[str, Any] | None, response_format: dict[str, Any] | None) -> Schema:
    form = response_format or {}
    named = form.get("json_schema")
    document = own if own is not None else named.get("schema") if isinstance(named, dict) else None
    if document is None and form.get("type") in ("json_object", "json_schema"):
        document = _OBJECT if form["type"] == "json_object" else True
    if document is None:
        raise CannotScore("The request asks for no JSON, and the scorer's options have no schema.")
    try:
        return schema_of(document)
    except Uncheckable as problem:
        raise CannotScore(f"The schema cannot be checked: {problem}.") from None
