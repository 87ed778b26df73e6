"""Whether an answer keeps the form that was asked for: tool calls and their arguments, JSON, a schema, a pattern.

Pure. A worker enforces much of this while it samples, but not all: not the arguments of a tool without `strict`, nor
the end of an answer that its token limit cut off. What cannot be decided within bounds (`schemas.py`) counts as kept.
Nothing of the answer's own text is in a reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from gateway.decoding.schemas import InvalidSchema, Schema, TooComplex, compiled, pattern
from gateway.errors import BadRequest
from gateway.log.records import Message

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a request demands of the form of its answers.

    tools: each tool that may be called, with the schema of its arguments where it has one. None: no tools were given.
    calls: whether there may, must or must not be calls.
    content: each demand on the content of an answer without calls.
    """

    tools: Mapping[str, "Tool"] | None = None
    calls: Literal["auto", "required", "none"] = "auto"
    parallel: bool = True
    content: tuple["Content", ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is anything to check."""
        return self.tools is not None or self.calls == "none" or bool(self.content)

    def broken(self, message: Message, finish_reason: str) -> str | None:
        """Why this answer does not keep what was asked for, in one short sentence; None where it does."""
        if not self.any:
            return None
        calls = message.get("tool_calls") or []
        reason = self._calls_broken(calls) if calls else self._content_broken(message.get("content"))
        if reason is not None and finish_reason == "length":
            return f"{reason} (it was cut off at its token limit)"
        return reason

    def _calls_broken(self, calls: list[dict[str, Any]]) -> str | None:
        if self.calls == "none":
            return "it calls a tool although tool_choice is none"
        if len(calls) > 1 and not self.parallel:
            return f"it has {len(calls)} tool calls although parallel_tool_calls is false"
        for call in calls:
            part = call.get("function") or call.get("custom") or {}
            tool = self.tools.get(part.get("name", "")) if self.tools is not None else None
            if tool is None:
                return "it calls a tool that was not offered"
            reason = tool.broken(part.get("arguments"))
            if reason is not None:
                return reason
        return None

    def _content_broken(self, content: Any) -> str | None:
        if self.calls == "required":
            return "it calls no tool although tool_choice demands it"
        text = content if isinstance(content, str) else ""
        return next((reason for demand in self.content if (reason := demand.broken(text)) is not None), None)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that may be called. schema: of its arguments. custom: takes free text."""

    name: str
    schema: Schema | None
    custom: bool = False

    def broken(self, arguments: Any) -> str | None:
        if self.custom:
            return None
        what = f"the arguments of {self.name}"
        try:
            value = _decode(arguments or "")
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError, TypeError):
            return f"{what} are not JSON"
        if not isinstance(value, dict):
            return f"{what} are not a JSON object"
        return _schema_broken(self.schema, value, what, "break")


@dataclass(frozen=True, slots=True)
class Content:
    """One demand on the content: JSON (of a schema), a text that a pattern matches, or one of a list."""

    kind: Literal["json", "object", "pattern", "choice"]
    schema: Schema | None = None
    choice: frozenset[str] = frozenset()

    def broken(self, text: str) -> str | None:
        if self.kind == "choice":
            return None if text in self.choice else "the content is none of the choices"
        if self.kind == "pattern":
            kept = _schema_broken(self.schema, text, "", "") is None
            return None if kept else "the content does not match the pattern"
        try:
            value = _decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return "the content is not JSON"
        if self.kind == "object" and not isinstance(value, dict):
            return "the content is not a JSON object"
        return _schema_broken(self.schema, value, "the content", "breaks")


def _schema_broken(schema: Schema | None, value: Any, what: str, verb: str) -> str | None:
    try:
        where = schema.violation(value) if schema is not None else None
    except TooComplex:
        return None
    return None if where is None else f"{what} {verb} the schema at {where}"


def requirements_of(body: Mapping[str, Any]) -> Requirements:
    """What a request's fields demand. Raises BadRequest where a schema is none, or beyond our limits."""
    choice = body.get("tool_choice")
    if choice == "none":
        return Requirements(calls="none", content=_content_of(body))
    tools = _tools_of(body.get("tools"))
    calls: Literal["auto", "required"] = "required" if choice == "required" else "auto"
    if isinstance(choice, dict):
        names, calls = _chosen(choice)
        tools = {name: tool for name, tool in tools.items() if name in names} if names is not None else tools
    return Requirements(
        tools=tools if tools or calls == "required" else None,
        calls=calls,
        parallel=body.get("parallel_tool_calls") is not False,
        content=_content_of(body),
    )


def _tools_of(tools: Any) -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type", "function") if isinstance(tool, dict) else None
        part = tool.get(kind) if isinstance(kind, str) else None
        name = part.get("name") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(name, str):
            continue  # the worker says what is wrong with it
        schema = None
        if kind == "function" and part.get("parameters") is not None:
            where = f"tools[{index}].function.parameters"
            schema = _schema(part["parameters"], where, code="invalid_function_parameters")
        found[name] = Tool(name, schema, custom=kind == "custom")
    return found


def _chosen(choice: dict[str, Any]) -> tuple[frozenset[str] | None, Literal["auto", "required"]]:
    """The tools that an object as tool_choice allows (None: all), and whether one must be called."""
    kind = choice.get("type", "function")
    if kind == "allowed_tools":
        allowed = choice.get("allowed_tools")
        allowed = allowed if isinstance(allowed, dict) else choice
        listed = allowed.get("tools")
        names = frozenset(filter(None, map(_name, listed))) if isinstance(listed, list) else None
        return names, "required" if allowed.get("mode") == "required" else "auto"
    name = _name(choice)
    return (frozenset({name}) if name is not None else None), "required"


def _name(tool: Any) -> str | None:
    """The name in {"type": "function", "function": {"name": ...}}, or in the flat form."""
    if not isinstance(tool, dict):
        return None
    part = tool.get(tool.get("type", "function"))
    name = part.get("name") if isinstance(part, dict) else tool.get("name")
    return name if isinstance(name, str) else None


def _content_of(body: Mapping[str, Any]) -> tuple[Content, ...]:
    found: list[Content] = []
    form = body.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else None
    if isinstance(form, dict) and kind == "json_schema":
        named = form.get("json_schema")
        document = named.get("schema") if isinstance(named, dict) else None
        where = "response_format.json_schema.schema"
        found.append(Content("json", None if document is None else _schema(document, where)))
    elif kind == "json_object":
        found.append(Content("object"))
    outputs = body.get("structured_outputs")
    if isinstance(outputs, dict):
        found.extend(_outputs(outputs))
    return tuple(found)


def _outputs(outputs: dict[str, Any]) -> list[Content]:
    """vLLM's structured_outputs; a grammar or a structural tag is the worker's alone."""
    found: list[Content] = []
    document, regex, choice = outputs.get("json"), outputs.get("regex"), outputs.get("choice")
    if isinstance(document, str):
        try:
            document = _decode(document)
        except (msgspec.DecodeError, RecursionError):
            raise BadRequest("structured_outputs.json is not JSON", param="structured_outputs.json") from None
    if document is not None:
        found.append(Content("json", _schema(document, "structured_outputs.json")))
    if isinstance(regex, str) and (schema := pattern(regex)) is not None:
        found.append(Content("pattern", schema))
    if isinstance(choice, list) and choice:
        found.append(Content("choice", choice=frozenset(text for text in choice if isinstance(text, str))))
    if outputs.get("json_object") is True:
        found.append(Content("object"))
    return found


def _schema(document: Any, param: str, code: str | None = None) -> Schema:
    try:
        return compiled(document)
    except InvalidSchema as problem:
        raise BadRequest(f"{param} is no JSON schema that can be checked: {problem}", param=param, code=code) from None
