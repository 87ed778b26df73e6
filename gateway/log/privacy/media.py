"""Images, audio and files in a conversation: no pattern reads them, so the log keeps of what kind and size they are."""

from typing import Any

from gateway.log.records import Message

# Content parts that are text; every other is media, also one that nobody here knows yet.
_TEXT = frozenset({"text", "input_text", "output_text", "refusal", "thinking", "reasoning", "reasoning_text"})
_INLINE = 4096
"""Characters from which a string in a part is its data, not its name or address."""


def is_media(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") not in _TEXT


def is_inline(part: dict[str, Any]) -> bool:
    """Whether it holds the data itself."""
    return any(len(text) >= _INLINE for text in _strings(part))


def without_media(messages: list[Message]) -> tuple[list[Message], bool]:
    """The messages with a marker in the place of each image, sound or file; whether there was any.

    A marker keeps the part's type: `{"type": "image_url", "omitted": {"media_type": "image/png", "bytes": 1234}}`.
    bytes: of inline data, else null.
    """
    if not any(map(_has_media, messages)):
        return messages, False
    return [_message(message) if _has_media(message) else message for message in messages], True


def _has_media(message: Message) -> bool:
    content = message.get("content")
    return (type(content) is list and any(map(is_media, content))) or type(message.get("audio")) is dict


def _message(message: Message) -> Message:
    changes: Message = {}
    if isinstance(message.get("content"), list):
        changes["content"] = [_marker(part) if is_media(part) else part for part in message["content"]]
    if isinstance(message.get("audio"), dict):
        changes["audio"] = _marker({"type": "audio", **message["audio"]})
    return message | changes


def _marker(part: dict[str, Any]) -> dict[str, Any]:
    data = max(_strings(part), key=len, default="")
    media_type, size = None, None
    if data.startswith("data:") and "," in data[:200]:
        media_type = data[5 : data.index(",")].partition(";")[0][:100] or None
        size = _decoded(data[data.index(",") + 1 :])
    elif "://" not in data[:20] and len(data) > 100:
        size = _decoded(data)
    return {"type": part.get("type"), "omitted": {"media_type": media_type, "bytes": size}}


def _decoded(base64: str) -> int:
    return len(base64) * 3 // 4 - base64[-2:].count("=")


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in _strings(one)]
