"""A worker's event stream, put back together: server-sent events -> chunks -> finished choices.

vLLM streams every choice of a request over one connection. With a large `stream_interval` each choice arrives in a
few chunks when it finishes, so that a judge can start on it while the others still decode.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.errors import WorkerError

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Choice:
    """A finished choice as the worker sent it; `index` counts within its request."""

    index: int
    message: dict[str, Any]
    finish_reason: str
    stop_reason: int | str | None
    logprobs: dict[str, Any] | None
    token_ids: list[int] | None


@dataclass(slots=True)
class _Partial:
    message: dict[str, Any] = field(default_factory=lambda: {"role": "assistant", "content": None})
    logprobs: dict[str, Any] | None = None
    token_ids: list[int] | None = None


class ChoiceAssembler:
    """Feeds on chunks of one chat completion and returns each choice as it finishes."""

    def __init__(self) -> None:
        self._partial: dict[int, _Partial] = {}
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def feed(self, chunk: dict[str, Any]) -> list[Choice]:
        """The choices that this chunk finishes. Raises WorkerError where the chunk is an error or no chunk at all."""
        if "error" in chunk:
            raise WorkerError(f"the worker broke off: {_error_text(chunk['error'])}")
        usage = chunk.get("usage")
        if usage:
            self.prompt_tokens = int(usage.get("prompt_tokens") or 0)
            self.completion_tokens = int(usage.get("completion_tokens") or 0)
        finished = []
        for part in chunk.get("choices", ()):
            partial = self._partial.setdefault(part["index"], _Partial())
            _merge_delta(partial.message, part.get("delta") or {})
            if part.get("logprobs"):
                partial.logprobs = _merged_logprobs(partial.logprobs, part["logprobs"])
            if part.get("token_ids"):
                partial.token_ids = (partial.token_ids or []) + part["token_ids"]
            if part.get("finish_reason"):
                del self._partial[part["index"]]
                finished.append(
                    Choice(
                        part["index"],
                        partial.message,
                        part["finish_reason"],
                        part.get("stop_reason"),
                        partial.logprobs,
                        partial.token_ids,
                    )
                )
        return finished


def _merge_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for key, value in delta.items():
        if value is None or key == "role":
            continue
        if key == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for part in value:
                _merge_tool_call(calls, part)
        elif isinstance(value, str) and isinstance(message.get(key), str):
            message[key] += value
        else:
            message[key] = value


def _merge_tool_call(calls: list[dict[str, Any]], part: dict[str, Any]) -> None:
    """A tool call arrives as a first part with id and name, then pieces of its arguments, by index."""
    while len(calls) <= part["index"]:
        calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call = calls[part["index"]]
    call["id"] = part.get("id") or call["id"]
    function = part.get("function") or {}
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


def _merged_logprobs(known: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
    if known is None:
        return {key: list(value) if isinstance(value, list) else value for key, value in more.items()}
    for key, value in more.items():
        if isinstance(value, list) and isinstance(known.get(key), list):
            known[key].extend(value)
        elif value is not None:
            known[key] = value
    return known


def _error_text(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


async def read_events(content: AsyncIterator[bytes]) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON objects of an event stream, until `[DONE]`.

    Splits by itself: aiohttp's line reader refuses lines over 128 KiB, and a whole choice with log-probabilities is
    longer. Raises WorkerError where the stream ends early or holds no JSON.
    """
    pending = b""
    async for piece in content:
        *lines, pending = (pending + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            try:
                yield _decode(data)
            except msgspec.DecodeError:
                raise WorkerError("the worker sent an event that is not JSON") from None
    raise WorkerError("the worker closed the stream before its end")
