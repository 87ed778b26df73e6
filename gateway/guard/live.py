"""The guard on a live stream: when to ask it, and about which text.

    hold-back   nothing leaves before the guard has cleared all text up to it: each check reads the whole answer so far
    window      chunks of a set size leave after their own window was cleared, read with some text before it
    audit       everything leaves at once; the verdict follows at the end

hold-back is the safest and costs the most: the guard reads a long answer many times. window reads each part about once,
and misses what only shows over a longer stretch than window and context together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.guard.guard import Guard
from gateway.log.records import Message

StreamGuardMode = Literal["hold-back", "window", "audit"]

Lengths = Mapping[tuple[str, int], int]
"""How long each text of a message is: (field, 0), or ("arguments", index of the tool call)."""


@dataclass(frozen=True, slots=True)
class LiveGuard:
    """A guard with how a profile wants streams guarded. window, context: characters."""

    guard: Guard
    mode: StreamGuardMode
    window: int
    context: int

    def view(self, message: Message, cleared: Lengths) -> Message:
        """What the next check reads of an answer so far, of which `cleared` was cleared before."""
        return tail(message, cleared, self.context) if self.mode == "window" else message


def text_length(delta: Mapping[str, Any]) -> int:
    """Characters of text in a delta, whatever field they are in."""
    return sum(lengths(delta).values())


def lengths(message: Mapping[str, Any]) -> Lengths:
    """Of a message or a delta."""
    found: dict[tuple[str, int], int] = {}
    for key, value in message.items():
        if key == "tool_calls":
            for position, call in enumerate(value):
                function = call.get("function") or {}
                index = call.get("index", position)
                size = len(function.get("name") or "") + len(function.get("arguments") or "")
                found["arguments", index] = found.get(("arguments", index), 0) + size
        elif isinstance(value, str) and key != "role":
            found[key, 0] = len(value)
    return found


def tail(message: Message, cleared: Lengths, context: int) -> Message:
    """The texts that grew since `cleared`, each from `context` characters before its new part."""
    now = lengths(message)
    found: Message = {"role": message["role"], "content": None}
    for key, value in message.items():
        if isinstance(value, str) and now.get((key, 0), 0) > cleared.get((key, 0), 0) and key != "role":
            found[key] = value[max(0, cleared.get((key, 0), 0) - context) :]
    calls = []
    for index, call in enumerate(message.get("tool_calls") or ()):
        before = cleared.get(("arguments", index), 0)
        if now["arguments", index] > before:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            start = max(0, before - len(name) - context)
            calls.append({**call, "function": {"name": name, "arguments": arguments[start:]}})
    if calls:
        found["tool_calls"] = calls
    return found
