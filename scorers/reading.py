"""OpenAI chat messages made plain: one string of content, tool arguments as objects, nothing that cannot be read.

What a message holds falls into four sorts, because scorers differ in what they must see:

    CONTENT  content
    ACTION   refusal, tool calls              the answer too, where there is no content
    THOUGHT  reasoning, reasoning_content     delivered, but not part of the answer
    OTHER    any further field with text      unknown to us, so a guard has to see it
"""

import enum
import json
from collections.abc import Iterator
from typing import Any

from scorers.contract import Message
from scorers.errors import BadScoreRequest

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_THOUGHTS = ("reasoning", "reasoning_content")
_CALL_LABELS = ("id", "type", "index")


class Sort(enum.Flag):
    """Which fields of a message."""

    CONTENT = enum.auto()
    ACTION = enum.auto()
    THOUGHT = enum.auto()
    OTHER = enum.auto()
    ALL = CONTENT | ACTION | THOUGHT | OTHER


def read_message(message: Message, where: str) -> Message:
    """The message with its content as one string, as chat templates take it. `where` names it in errors.

    Text parts are joined by line breaks, as vLLM does for templates that want strings, so that a scorer reads what
    the policy read. Raises BadScoreRequest for a role, part or field that cannot be read.
    """
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise BadScoreRequest(f"{where}.role must be one of {', '.join(sorted(ROLES))}.", f"{where}.role")
    plain: Message = {"role": role, "content": _read_content(message.get("content"), f"{where}.content")}
    for key, value in message.items():
        if key in ("role", "content") or value is None or value == []:
            continue
        if key == "audio":
            raise BadScoreRequest(f"{where}.audio cannot be read: only text can.", f"{where}.audio")
        if key == "tool_calls":
            plain[key] = _read_tool_calls(value, f"{where}.tool_calls")
        elif key == "function_call":
            calls = plain.get("tool_calls", [])
            call = {"type": "function", "function": value}
            plain["tool_calls"] = [*calls, *_read_tool_calls([call], f"{where}.function_call")]
        elif key in (*_THOUGHTS, "refusal", "name", "tool_call_id") and not isinstance(value, str):
            raise BadScoreRequest(f"{where}.{key} must be a string.", f"{where}.{key}")
        else:
            plain[key] = value
    # vLLM answers with `reasoning`, most chat templates read `reasoning_content`.
    if "reasoning" in plain and "reasoning_content" not in plain:
        plain["reasoning_content"] = plain["reasoning"]
    return plain


def texts(message: Message, sort: Sort) -> list[str]:
    """Every string that carries text in the fields of this sort, of a message as `read_message` returns it."""
    found: list[str] = []
    for key, value in message.items():
        if _sort_of(key, message["role"]) & sort:
            leaves = _call_leaves(value) if key == "tool_calls" else _leaves(value)
            found += (text for text in leaves if text.strip())
    return list(dict.fromkeys(found))


def _sort_of(key: str, role: str) -> Sort:
    if key == "content":
        return Sort.CONTENT
    if key in ("refusal", "tool_calls"):
        return Sort.ACTION
    if key in _THOUGHTS:
        return Sort.THOUGHT
    if key in ("role", "tool_call_id") or (key == "name" and role in ("tool", "function")):
        return Sort(0)  # labels that bind messages together
    return Sort.OTHER


def _read_content(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadScoreRequest(f"{where} must be a string or a list of parts.", where)
    return "\n".join(_read_part(part, f"{where}[{index}]") for index, part in enumerate(content))


def _read_part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "input_text", "output_text", "refusal", "thinking"):
        text = part.get(kind if kind in ("refusal", "thinking") else "text")
        if isinstance(text, str):
            return text
    raise BadScoreRequest(f"{where} is a part of type {kind!r} that cannot be read: only text can.", where)


def _read_tool_calls(calls: Any, where: str) -> list[Any]:
    if not isinstance(calls, list):
        raise BadScoreRequest(f"{where} must be a list.", where)
    return [_read_tool_call(call, f"{where}[{index}]") for index, call in enumerate(calls)]


def _read_tool_call(call: Any, where: str) -> dict[str, Any]:
    """Arguments in JSON are parsed, as vLLM does: templates write objects, and escapes hide no text then."""
    if not isinstance(call, dict):
        raise BadScoreRequest(f"{where} must be an object.", where)
    function = call.get("function")
    custom = call.get("custom")
    if function is None and isinstance(custom, dict):
        # OpenAI's custom tools; templates know functions only.
        call = {key: value for key, value in call.items() if key != "custom"} | {"type": "function"}
        function = {"name": custom.get("name"), "arguments": custom.get("input")}
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadScoreRequest(f"{where} must hold a function with a name.", where)
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        parsed = _parsed(arguments)
        arguments = arguments if parsed is None else parsed
    return {**call, "function": {**function, "arguments": arguments}}


def _parsed(arguments: str) -> dict[str, Any] | list[Any] | None:
    """None where the text itself has to be read: it is no JSON, or parsing it would lose some of it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        parsed = dict(pairs)
        if len(parsed) < len(pairs):  # the first of two equal keys would vanish, and some readers take that one
            raise ValueError("a key occurs twice")
        return parsed

    try:
        parsed = json.loads(arguments, object_pairs_hook=unique)
        json.dumps(parsed, ensure_ascii=False).encode()  # a lone surrogate is no text
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict | list) else None


def _call_leaves(calls: Any) -> Iterator[str]:
    for call in calls:
        for key, value in call.items():
            if key == "function" and isinstance(value, dict):
                for part in value.values():
                    yield from _leaves(part)
            elif key not in _CALL_LABELS:
                yield from _leaves(value)


def _leaves(value: Any) -> Iterator[str]:
    """The strings inside, object keys included; numbers and booleans carry no text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
