"""Items: the parts of a conversation in the Responses API, as they are kept and listed.

What a client sends has many short forms; `normalised` turns each into the one full form that OpenAI's description has
for items it returns, so that one function reads them afterwards (`request.py`), stored ones too.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gateway.errors import BadRequest, NotFound

Item = dict[str, Any]

ROLES = ("user", "assistant", "system", "developer")
_PREFIX = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
_OWN_ID = re.compile(r"(?:msg|fc|fco|rs)_(?P<uuid>[0-9a-f]{32})[io][0-9a-f]{4}")
_MAX_ID = 128
_MAX_NAME = 256


def item_id(kind: str, uuid: str, side: Literal["i", "o"], index: int) -> str:
    """An item's id, made from its response's UUID: unique, the same however it is made, and it names its response.

    side: i for input, o for output.
    """
    return f"{_PREFIX[kind]}_{uuid.replace('-', '')}{side}{index:04x}"


def uuid_of(identifier: str) -> str | None:
    """The UUID of the response that an item's id names; None where it is not an id of ours."""
    match = _OWN_ID.fullmatch(identifier)
    if match is None:
        return None
    found = match["uuid"]
    return "-".join((found[:8], found[8:12], found[12:16], found[16:20], found[20:]))


def references(sent: str | Sequence[Item]) -> list[str]:
    """The ids of the stored items that an input refers to."""
    if isinstance(sent, str):
        return []
    return [item["id"] for item in sent if _is_reference(item) and isinstance(item.get("id"), str)]


def normalised(sent: str | Sequence[Item], uuid: str, stored: Mapping[str, Item]) -> list[Item]:
    """The input as full items. uuid: the response's. stored: what item references can name, by id.

    Raises BadRequest naming input[i], and NotFound where a reference names nothing.
    """
    if isinstance(sent, str):
        sent = [{"role": "user", "content": sent}]
    full = []
    for index, item in enumerate(sent):
        where = f"input[{index}]"
        if _is_reference(item):
            full.append(_referred(item, where, stored))
        else:
            found = _full(item, where)
            full.append({"id": _given_id(item, where) or item_id(found["type"], uuid, "i", index), **found})
    return full


def _referred(item: Item, where: str, stored: Mapping[str, Item]) -> Item:
    found = stored.get(str(item.get("id")))
    if found is None:
        message = f"{where}.id: there is no stored item {item.get('id')!r}"
        raise NotFound(message, param=f"{where}.id", code="item_not_found")
    return found


def _given_id(item: Item, where: str) -> str | None:
    given = item.get("id")
    if given is not None and (not isinstance(given, str) or not 0 < len(given) <= _MAX_ID):
        raise _bad(f"{where}.id", f"an id is a text of 1 to {_MAX_ID} characters")
    return given


def _is_reference(item: Item) -> bool:
    """OpenAI lets a reference leave out its type."""
    return item.get("type") == "item_reference" or (item.get("type") is None and "role" not in item and "id" in item)


def _full(item: Item, where: str) -> Item:
    """An item without its id."""
    match item.get("type", "message"):
        case "message" | None:
            return _message(item, where)
        case "function_call":
            return {
                "type": "function_call",
                "call_id": _text(item, "call_id", where, _MAX_NAME),
                "name": _text(item, "name", where, _MAX_NAME),
                "arguments": _text(item, "arguments", where),
                "status": _status(item),
            }
        case "function_call_output":
            return {
                "type": "function_call_output",
                "call_id": _text(item, "call_id", where, _MAX_NAME),
                "output": _output(item.get("output"), f"{where}.output"),
                "status": _status(item),
            }
        case "reasoning":
            return _reasoning(item, where)
        case other:
            raise _bad(
                f"{where}.type",
                f"{other!r} is not served; items are message, function_call, function_call_output, reasoning and "
                "item_reference",
            )


def _message(item: Item, where: str) -> Item:
    role = item.get("role")
    if role not in ROLES:
        raise _bad(f"{where}.role", f"{role!r} is none of {', '.join(ROLES)}")
    content = item.get("content")
    full: Item = {
        "type": "message",
        "role": role,
        "status": _status(item),
        "content": _assistant_parts(content, where) if role == "assistant" else _parts(content, f"{where}.content"),
    }
    if isinstance(item.get("phase"), str):
        full["phase"] = item["phase"]
    return full


def _parts(content: Any, where: str) -> list[Item]:
    """What a user, a system or a tool says."""
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}]
    return [_part(part, f"{where}[{number}]") for number, part in enumerate(_list(content, where))]


def _part(part: Item, where: str) -> Item:
    match part.get("type"):
        case "input_text":
            return {"type": "input_text", "text": _text(part, "text", where)}
        case "input_image":
            if part.get("file_id") is not None:
                raise _bad(f"{where}.file_id", "files are not kept here; send the image as image_url")
            detail = "auto" if part.get("detail") is None else part["detail"]
            if detail not in ("auto", "low", "high", "original"):
                raise _bad(f"{where}.detail", f"{detail!r} is none of auto, low, high, original")
            return {"type": "input_image", "image_url": _text(part, "image_url", where), "detail": detail}
        case "input_file":
            raise _bad(f"{where}.type", "'input_file' is not served: send the file's text as input_text")
        case other:
            raise _bad(f"{where}.type", f"{other!r} is not served here; parts are input_text and input_image")


def _assistant_parts(content: Any, where: str) -> list[Item]:
    """What the model said: texts and refusals. input_text is taken for text, as some clients send it."""
    if isinstance(content, str):
        return [output_text(content)]
    parts = []
    for number, part in enumerate(_list(content, f"{where}.content")):
        at = f"{where}.content[{number}]"
        match part.get("type"):
            case "output_text" | "input_text":
                parts.append(output_text(_text(part, "text", at)))
            case "refusal":
                parts.append({"type": "refusal", "refusal": _text(part, "refusal", at)})
            case other:
                raise _bad(f"{at}.type", f"{other!r} is not served; an assistant's parts are output_text and refusal")
    return parts


def output_text(text: str, logprobs: Sequence[Item] = ()) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def _output(output: Any, where: str) -> str | list[Item]:
    return output if isinstance(output, str) else _parts(output, where)


def _reasoning(item: Item, where: str) -> Item:
    if item.get("encrypted_content") is not None:
        raise _bad(f"{where}.encrypted_content", "it cannot be read here; send the reasoning item without it")
    full: Item = {"type": "reasoning", "summary": [], "content": []}
    for key, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        for number, part in enumerate(_list(item.get(key) or [], f"{where}.{key}")):
            full[key].append({"type": kind, "text": _text(part, "text", f"{where}.{key}[{number}]")})
    return full


def _list(value: Any, where: str) -> list[Item]:
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise _bad(where, "it must be a text or a list of parts, each an object with a type")
    return value


def _text(item: Item, key: str, where: str, limit: int | None = None) -> str:
    """A text of the item; names (those with a limit) may not be empty."""
    value = item.get(key)
    if not isinstance(value, str):
        raise _bad(f"{where}.{key}", "it must be a text" if key in item else "it is missing")
    if limit is not None and not 0 < len(value) <= limit:
        raise _bad(f"{where}.{key}", f"it must have 1 to {limit} characters")
    return value


def _status(item: Item) -> str:
    return "incomplete" if item.get("status") == "incomplete" else "completed"


def _bad(field: str, reason: str) -> BadRequest:
    return BadRequest(f"{field}: {reason}", param=field)
