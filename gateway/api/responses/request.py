"""A Responses request as the equivalent chat completion request, and errors of that one told in the client's words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.api.responses.items import Item
from gateway.api.responses.protocol import ResponsesRequest
from gateway.errors import ApiError, BadRequest

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChatForm:
    """body: a chat completion request. origins: which field of the client's request each message comes from."""

    body: dict[str, Any]
    origins: tuple[str, ...]


def chat_form(request: ResponsesRequest, history: Sequence[Item], new: Sequence[Item]) -> ChatForm:
    """history: the items of the stored conversation; new: those of this request's input, in order.

    Raises BadRequest naming the field.
    """
    fields = request.body
    _check_calls_are_known(history, new)
    sources = [(item, "previous_response_id") for item in history]
    sources += [(item, f"input[{index}]") for index, item in enumerate(new)]
    messages, origins = _messages(sources)
    if not messages:
        raise BadRequest("input: it is missing or empty; at least one item is needed", param="input")
    if fields.instructions is not None:
        messages.insert(0, {"role": "system", "content": fields.instructions})
        origins.insert(0, "instructions")
    tools, tool_choice = _tools(request)
    found = {
        **request.others,
        "model": fields.model,
        "messages": messages,
        "max_completion_tokens": fields.max_output_tokens,
        "temperature": fields.temperature,
        "top_p": fields.top_p,
        "stream": fields.stream,
        "tools": tools or None,
        "tool_choice": tool_choice,
        "parallel_tool_calls": fields.parallel_tool_calls if tools else None,
        "response_format": _response_format(request),
        "verbosity": fields.text.verbosity if fields.text else None,
        "reasoning_effort": fields.reasoning.effort if fields.reasoning else None,
        "logprobs": True if request.wants_logprobs else None,
        "top_logprobs": fields.top_logprobs if request.wants_logprobs else None,
        "metadata": fields.metadata or None,
        "user": fields.user,
        "safety_identifier": fields.safety_identifier,
        "service_tier": fields.service_tier,
        "store": fields.store,
        "guidance": fields.guidance,
    }
    return ChatForm({key: value for key, value in found.items() if value is not None}, tuple(origins))


def _check_calls_are_known(history: Sequence[Item], new: Sequence[Item]) -> None:
    """An output without its call would be a tool's word out of nowhere; mostly previous_response_id was forgotten."""
    known = {item["call_id"] for item in history if item["type"] == "function_call"}
    for index, item in enumerate(new):
        if item["type"] == "function_call":
            known.add(item["call_id"])
        elif item["type"] == "function_call_output" and item["call_id"] not in known:
            raise BadRequest(
                f"input[{index}].call_id: there is no function call {item['call_id']!r} before its output; send the "
                "function_call item too, or the previous_response_id of the response that made it",
                param=f"input[{index}].call_id",
            )


def _messages(sources: Sequence[tuple[Item, str]]) -> tuple[list[Message], list[str]]:
    """A turn of the model is several items (reasoning, message, calls) and one chat message."""
    messages: list[Message] = []
    origins: list[str] = []
    for item, origin in sources:
        part = _as_message(item)
        if messages and _continues(messages[-1], part):
            _join(messages[-1], part)
        else:
            messages.append(part)
            origins.append(origin)
    for message in messages:
        if message["role"] == "assistant" and "tool_calls" not in message:
            # Reasoning that was cut off before a word was said.
            message.setdefault("content", "")
    return messages, origins


def _as_message(item: Item) -> Message:
    match item["type"]:
        case "reasoning":
            return {"role": "assistant", "reasoning": _reasoning_text(item)}
        case "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            return {
                "role": "assistant",
                "tool_calls": [{"id": item["call_id"], "type": "function", "function": function}],
            }
        case "function_call_output":
            return {"role": "tool", "tool_call_id": item["call_id"], "content": _chat_content(item["output"])}
        case _:
            return {"role": item["role"], "content": _chat_content(item["content"])}


def _continues(message: Message, part: Message) -> bool:
    """Whether the model's message can take this part in: reasoning, then content, then calls, each not yet there."""
    if message["role"] != "assistant" or part["role"] != "assistant":
        return False
    if "tool_calls" in part:
        return True
    if "content" in part:
        return "content" not in message
    return set(message) == {"role", "reasoning"}


def _join(message: Message, part: Message) -> None:
    if "tool_calls" in part:
        message.setdefault("tool_calls", []).extend(part["tool_calls"])
    elif "content" in part:
        message["content"] = part["content"]
    else:
        message["reasoning"] += "\n" + part["reasoning"]


def _reasoning_text(item: Item) -> str:
    return "\n".join(part["text"] for part in item["content"] or item["summary"])


def _chat_content(content: str | list[Item]) -> str | list[dict[str, Any]]:
    """One text as text (every chat template can read that), several parts as parts; a model's own parts joined."""
    if isinstance(content, str):
        return content
    if all(part["type"] in ("output_text", "refusal") for part in content):
        return "".join(str(part.get("text", part.get("refusal"))) for part in content)
    if len(content) == 1 and content[0]["type"] == "input_text":
        return str(content[0]["text"])
    return [_chat_part(part) for part in content]


def _chat_part(part: Item) -> dict[str, Any]:
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part["detail"]}}
    return {"type": "text", "text": part["text"]}


def _tools(request: ResponsesRequest) -> tuple[list[dict[str, Any]], str | dict[str, Any] | None]:
    """Chat's tools and tool_choice. allowed_tools becomes a shorter list of tools: no worker knows it."""
    tools = {}
    for index, tool in enumerate(request.body.tools or []):
        where = f"tools[{index}]"
        if tool.get("type") != "function":
            raise _bad(f"{where}.type", f"{tool.get('type')!r} is not served; only function tools are")
        name = tool.get("name")
        if not isinstance(name, str) or not name:
            hint = "; a function's fields stand beside type here, not under function" if "function" in tool else ""
            raise _bad(f"{where}.name", f"it is missing{hint}")
        if name in tools:
            raise _bad(f"{where}.name", f"there are two tools named {name!r}")
        kept = ("name", "description", "parameters", "strict")
        tools[name] = {
            "type": "function",
            "function": {key: tool[key] for key in kept if tool.get(key) is not None},
        }
    choice = request.body.tool_choice
    if isinstance(choice, dict):
        if choice.get("type") == "allowed_tools":
            names = _allowed(choice, tools)
            return [tools[name] for name in tools if name in names], str(choice.get("mode"))
        choice = _named(choice, "tool_choice", tools)
    elif choice not in (None, "none", "auto", "required"):
        raise _bad("tool_choice", f"{choice!r} is none of none, auto, required, or an object with a type")
    elif choice == "required" and not tools:
        raise _bad("tool_choice", "'required' needs at least one tool in tools")
    # Without tools there is nothing to choose, and vLLM refuses a choice then.
    return list(tools.values()), choice if tools else None


def _named(choice: dict[str, Any], where: str, tools: dict[str, Any]) -> dict[str, Any]:
    if choice.get("type") != "function":
        raise _bad(f"{where}.type", f"{choice.get('type')!r} is not served; it is function or allowed_tools")
    if not isinstance(choice.get("name"), str) or choice["name"] not in tools:
        raise _bad(f"{where}.name", f"there is no tool {choice.get('name')!r} in tools")
    return {"type": "function", "function": {"name": choice["name"]}}


def _allowed(choice: dict[str, Any], tools: dict[str, Any]) -> set[str]:
    if choice.get("mode") not in ("auto", "required"):
        raise _bad("tool_choice.mode", f"{choice.get('mode')!r} is none of auto, required")
    listed = choice.get("tools")
    if not isinstance(listed, list) or not listed or not all(isinstance(one, dict) for one in listed):
        raise _bad("tool_choice.tools", "it must be a list of at least one tool")
    named = [_named(one, f"tool_choice.tools[{index}]", tools) for index, one in enumerate(listed)]
    return {one["function"]["name"] for one in named}


def _response_format(request: ResponsesRequest) -> dict[str, Any] | None:
    wanted = request.body.text.format if request.body.text else None
    match wanted and wanted.get("type"):
        case None if not wanted:
            return None
        case "text":
            return None
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            assert wanted is not None
            for key, kind in (("name", str), ("schema", dict)):
                if not isinstance(wanted.get(key), kind):
                    raise _bad(f"text.format.{key}", "it is missing or of the wrong type")
            kept = ("name", "schema", "strict", "description")
            return {
                "type": "json_schema",
                "json_schema": {key: wanted[key] for key in kept if wanted.get(key) is not None},
            }
        case other:
            raise _bad("text.format.type", f"{other!r} is none of text, json_object, json_schema")


def _bad(field: str, reason: str) -> BadRequest:
    return BadRequest(f"{field}: {reason}", param=field)


# Chat's names of fields -> ours.
_RENAMED = (
    (re.compile(r"^(?:max_completion_tokens|max_tokens)\b"), "max_output_tokens"),
    (re.compile(r"^response_format(?:\.json_schema)?\b"), "text.format"),
    (re.compile(r"^reasoning_effort\b"), "reasoning.effort"),
    (re.compile(r"^logprobs\b"), "include"),
    (re.compile(r"^(tools\[\d+\])\.function\b"), r"\1"),
    (re.compile(r"^tool_choice\.function\b"), "tool_choice"),
)
_MESSAGE = re.compile(r"^messages(?:\[(?P<index>\d+)\])?")


def in_our_words(error: ApiError, origins: Sequence[str]) -> ApiError:
    """The same error, naming the field of the Responses request; `param` and a message that opens with it."""
    if error.param is None:
        return error
    param = _renamed(error.param, origins)
    if error.message.startswith(error.param):
        error.message = param + error.message[len(error.param) :]
    error.param = param
    return error


def _renamed(param: str, origins: Sequence[str]) -> str:
    match = _MESSAGE.match(param)
    if match:
        index = match["index"]
        if index is None or int(index) >= len(origins):
            return "input"
        rest = param[match.end() :] if origins[int(index)].startswith("input") else ""
        return origins[int(index)] + rest
    for pattern, ours in _RENAMED:
        param = pattern.sub(ours, param)
    return param
