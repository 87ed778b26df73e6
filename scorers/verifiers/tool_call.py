"""The tool calls of an answer are ones that the request offered, with arguments that keep each tool's schema."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from pydantic import Field

from scorers.settings import Section
from scorers.verifiers.case import CannotScore, Case, Check, Verdict
from scorers.verifiers.schemas import Uncheckable, schema_of

_decode = msgspec.json.Decoder().decode


class ToolCallOptions(Section):
    """Which calls there must and must not be."""

    must_call: bool = Field(False, description="Whether an answer without any call fails.")
    required: list[str] = Field([], description="Tools of which each must be called.")
    forbidden: list[str] = Field([], description="Tools that must not be called.")


def tool_call(options: ToolCallOptions) -> Check:
    """1 where each call names a tool of the request, its arguments are JSON and keep the tool's schema, else 0."""
    required, forbidden = frozenset(options.required), frozenset(options.forbidden)

    def check(case: Case) -> Verdict:
        tools = _offered(case.tools)
        calls = [_named(call) for call in _calls(case.candidate)]
        names = {name for name, _ in calls if name is not None}
        known = [(tools[name], arguments) for name, arguments in calls if name in tools]
        valid = sum(_keeps(tool, arguments) for tool, arguments in known)
        called = bool(calls) or not options.must_call
        passes = valid == len(calls) and called and required <= names and not forbidden & names
        return Verdict(float(passes), {"calls": len(calls), "known": len(known), "valid": valid})

    return check


def _offered(tools: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The tools by name: `{"type": "function", "function": {...}}`, or OpenAI's custom ones, which take any text."""
    found = {}
    for tool in tools:
        part = tool.get(tool.get("type", "function"))
        if isinstance(part, dict) and isinstance(part.get("name"), str):
            found[part["name"]] = tool
    return found


def _calls(candidate: Mapping[str, Any]) -> list[Any]:
    calls = candidate.get("tool_calls") or []
    if not isinstance(calls, list):
        raise CannotScore("The answer's tool_calls are no list.")
    legacy = candidate.get("function_call")
    return [*calls, {"function": legacy}] if legacy else calls


def _named(call: Any) -> tuple[str | None, Any]:
    part = (call.get("function") or call.get("custom")) if isinstance(call, dict) else None
    if not isinstance(part, dict) or not isinstance(part.get("name"), str):
        return None, None
    return part["name"], part.get("arguments")


def _keeps(tool: Mapping[str, Any], arguments: Any) -> bool:
    """Whether the arguments are right. Raises CannotScore where the tool's schema cannot be checked."""
    if tool.get("type") == "custom":
        return True
    try:
        value = _decode(arguments) if isinstance(arguments, str) else arguments
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    if not isinstance(value, dict):
        return False
    parameters = tool["function"].get("parameters")
    try:
        return parameters is None or schema_of(parameters).kept_by(value)
    except Uncheckable as problem:
        name = tool["function"]["name"]
        raise CannotScore(f"Whether the arguments of {name} keep its schema cannot be said: {problem}.") from None
