"""A worker's event stream, put back together: server-sent events -> chunks -> parts and finished choices.

vLLM streams every choice of a request over one connection. With a large `stream_interval` each choice arrives in few
chunks, so that a judge can start on it while the others still decode; with the default one it arrives token by token.
Chat completions and text completions are read alike: the text of the latter is an assistant's content.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.errors import WorkerError

logger = logging.getLogger(__name__)

_decode = msgspec.json.Decoder().decode

# What a worker says beside the choices and their usage, where a client asked for it.
_TOP_EXTRAS = ("system_fingerprint", "prompt_token_ids", "prompt_text", "prompt_logprobs", "metrics")
# How vLLM ends what it will not finish, since it is stopping or its engine failed: no answer.
_GIVEN_UP = ("abort", "error")
_CHOICE_EXTRAS = ("prompt_logprobs", "prompt_token_ids", "routed_experts")


class WorkerLost(WorkerError):
    """The connection broke, or the worker fell silent, while it sampled."""


@dataclass(frozen=True, slots=True)
class SampleStart:
    """The first sign of a sampling request: what is known of its prompt. prompt_tokens: 0 where it was not said."""

    prompt_tokens: int
    extras: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """What one chunk adds to one choice. `delta` is OpenAI's, without role and without nulls.

    tokens: how many were sampled for it; vLLM does not always tell which. token_logprobs: of each that it tells, where
    they were asked for, by the client (`logprobs`) or by us.
    """

    index: int
    delta: dict[str, Any]
    logprobs: dict[str, Any] | None
    token_ids: list[int] | None
    tokens: int
    token_logprobs: list[float] | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A finished choice as the worker sent it; `index` counts within its request.

    tokens: how many were sampled. extras: prompt_logprobs, ... token_logprobs: see `Part`.
    """

    index: int
    message: dict[str, Any]
    finish_reason: str
    stop_reason: int | str | None
    logprobs: dict[str, Any] | None
    token_ids: list[int] | None
    tokens: int
    extras: dict[str, Any] = field(default_factory=dict)
    token_logprobs: list[float] | None = None


@dataclass(frozen=True, slots=True)
class SampleEnd:
    """The end of a sampling request.

    prompt_tokens: of its prompt, once. completion_tokens: of all its choices. usage_details: OpenAI's two details
    objects where the worker gave them. extras: system_fingerprint, prompt_token_ids, prompt_text, ...
    """

    prompt_tokens: int
    completion_tokens: int
    usage_details: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)


Item = SampleStart | Part | Choice | SampleEnd


class Accumulator:
    """One message growing by deltas, and what belongs to it."""

    def __init__(self) -> None:
        self.message: dict[str, Any] = {"role": "assistant", "content": None}
        self.logprobs: dict[str, Any] | None = None
        self.token_ids: list[int] | None = None
        self.token_logprobs: list[float] | None = None
        self.tokens = 0
        self.extras: dict[str, Any] = {}

    def add(self, part: Part) -> None:
        _merge_delta(self.message, part.delta)
        if part.logprobs:
            self.logprobs = _merged_logprobs(self.logprobs, part.logprobs)
        if part.token_ids:
            self.token_ids = (self.token_ids or []) + part.token_ids
        if part.token_logprobs:
            self.token_logprobs = (self.token_logprobs or []) + part.token_logprobs
        self.tokens += part.tokens


class ChoiceAssembler:
    """Feeds on chunks of one completion; returns what each adds, and each choice as it finishes.

    own_logprobs: the client did not ask for log-probabilities, we did: what is given has no `logprobs`.
    """

    def __init__(self, *, own_logprobs: bool = False) -> None:
        self._own_logprobs = own_logprobs
        self._partial: dict[int, Accumulator] = {}
        self._usage: dict[str, Any] = {}
        self._begun = False
        self.extras: dict[str, Any] = {}

    @property
    def end(self) -> SampleEnd:
        """What the request has used, once all chunks were fed."""
        details = {key: value for key, value in self._usage.items() if key.endswith("_details") and value is not None}
        prompt_tokens = int(self._usage.get("prompt_tokens") or 0)
        return SampleEnd(prompt_tokens, int(self._usage.get("completion_tokens") or 0), details, self.extras)

    def feed(self, chunk: dict[str, Any]) -> list[SampleStart | Part | Choice]:
        """Raises WorkerError where the chunk is an error or no chunk at all."""
        if "error" in chunk:
            logger.warning("a worker broke off: %.1000s", _error_text(chunk["error"]))
            raise WorkerError("the worker broke off while sampling; the gateway's log has the reason")
        self._usage = chunk.get("usage") or self._usage
        for key in _TOP_EXTRAS:
            if chunk.get(key) is not None:
                self.extras[key] = chunk[key]
        found: list[SampleStart | Part | Choice] = []
        choices = chunk.get("choices", ())
        if not self._begun:
            self._begun = True
            ids = self.extras.get("prompt_token_ids") or next((c.get("prompt_token_ids") for c in choices), None)
            extras = {**self.extras, "prompt_token_ids": ids} if ids else dict(self.extras)
            found.append(SampleStart(len(ids or ()), extras))
        for choice in choices:
            index = choice["index"]
            if choice.get("finish_reason") in _GIVEN_UP:
                raise WorkerError("the worker gave up while sampling")
            partial = self._partial.setdefault(index, Accumulator())
            ids = choice.get("token_ids")
            # The usage of a chunk is its choice's so far (vLLM's continuous_usage_stats).
            so_far = self._usage.get("completion_tokens") if len(choices) == 1 and chunk.get("usage") else None
            tokens = len(ids or ()) if so_far is None else so_far - partial.tokens
            logprobs = choice.get("logprobs")
            shown = None if self._own_logprobs else logprobs
            part = Part(index, delta_of(choice), shown, ids, tokens, token_logprobs_of(logprobs))
            partial.add(part)
            for key in _CHOICE_EXTRAS:
                if choice.get(key) is not None:
                    partial.extras[key] = choice[key]
            if part.delta or part.logprobs or part.tokens:
                found.append(part)
            if choice.get("finish_reason"):
                del self._partial[index]
                found.append(
                    Choice(
                        index,
                        partial.message,
                        choice["finish_reason"],
                        choice.get("stop_reason"),
                        partial.logprobs,
                        partial.token_ids,
                        partial.tokens,
                        partial.extras,
                        partial.token_logprobs,
                    )
                )
        return found


def delta_of(choice: dict[str, Any]) -> dict[str, Any]:
    """The delta of a streamed choice, the message of a whole one, or the text of either kind of text completion."""
    delta = choice.get("delta") or choice.get("message")
    if delta is None:
        return {"content": choice["text"]} if "text" in choice else {}
    found = {key: value for key, value in delta.items() if value is not None and value != [] and key != "role"}
    if "message" in choice and "tool_calls" in found:
        found["tool_calls"] = [{"index": index, **call} for index, call in enumerate(found["tool_calls"])]
    return found


def token_logprobs_of(logprobs: dict[str, Any] | None) -> list[float] | None:
    """Of the sampled tokens themselves: from chat's form, or a text completion's."""
    if not logprobs:
        return None
    if content := logprobs.get("content"):
        return [token.get("logprob") for token in content]
    return logprobs.get("token_logprobs")


def _merge_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for key, value in delta.items():
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
    """Lists are joined: `content` of chat, `tokens`, `token_logprobs`, ... of text completions."""
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
    longer. Raises WorkerLost where the stream ends early, WorkerError where it holds no JSON.
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
    raise WorkerLost("the worker closed the stream before its end")
