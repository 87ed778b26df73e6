"""The wire types of a Responses request, and checking a decoded one.

Only the fields that Bestow acts on are declared; the others pass to the worker as they came. What is not served and
would change the answer if it were dropped is a `BadRequest` that names the field.
"""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from gateway.admission.tiers import ServiceTier
from gateway.api.protocol import convert
from gateway.errors import BadRequest

INCLUDE_LOGPROBS = "message.output_text.logprobs"

_METADATA_PAIRS = 16
_METADATA_KEY = 64
_METADATA_VALUE = 512

# Not served: each would change the answer if it were ignored.
REFUSED = {
    "background": "responses are made while the client waits; leave it out, or use stream",
    "context_management": "conversations are not compacted; send what the model shall read",
    "conversation": "use previous_response_id, which continues a stored response",
    "moderation": "the profile's guard judges prompts and answers; its receipt is under guidance",
    "prompt": "prompt templates are not kept here; send instructions and input",
}

# Chat completions' names, and n, which a response cannot have.
MOVED = {
    "messages": "use input",
    "max_tokens": "use max_output_tokens",
    "max_completion_tokens": "use max_output_tokens",
    "response_format": "use text.format",
    "reasoning_effort": "use reasoning.effort",
    "logprobs": f"use include with {INCLUDE_LOGPROBS!r}, and top_logprobs",
    "n": "a response is one answer; guidance.n says how many candidates it is chosen from",
}


class TextOptions(msgspec.Struct, frozen=True):
    """format: the shape of the answer. verbosity: passed on; most models that vLLM serves do not know it."""

    format: dict[str, Any] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(msgspec.Struct, frozen=True):
    """effort: passed on as reasoning_effort. Summaries are not written: reasoning comes as it is."""

    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class ResponsesBody(msgspec.Struct, frozen=True):
    """The fields that Bestow acts on, in the order of OpenAI's documentation; all others pass to the worker."""

    model: str
    input: str | list[dict[str, Any]] = []
    include: list[str] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    reasoning: ReasoningOptions | None = None
    safety_identifier: str | None = None
    service_tier: ServiceTier | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    temperature: float | None = None
    text: TextOptions | None = None
    tool_choice: str | dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    top_logprobs: int | None = None
    top_p: float | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    guidance: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A checked request. others: the fields that are not ours, for the worker."""

    body: ResponsesBody
    others: dict[str, Any]

    @property
    def wants_logprobs(self) -> bool:
        return INCLUDE_LOGPROBS in (self.body.include or [])

    @property
    def store(self) -> bool:
        return self.body.store is not False


def responses_request(body: dict[str, Any]) -> ResponsesRequest:
    """A Responses request from its decoded body. Raises BadRequest naming the field."""
    for name, reason in REFUSED.items():
        _refuse(body, name, reason)
    for name, reason in MOVED.items():
        _refuse(body, name, reason)
    fields = convert(body, ResponsesBody)
    if fields.truncation == "auto":
        raise BadRequest(
            "truncation: 'auto' is not served: a conversation is not shortened behind your back. Use 'disabled', and "
            "send less where the context is too short",
            param="truncation",
            code="unsupported_value",
        )
    _check_metadata(fields.metadata or {})
    if fields.top_logprobs is not None and not 0 <= fields.top_logprobs <= 20:
        raise BadRequest(f"top_logprobs: {fields.top_logprobs} is not within 0 to 20", param="top_logprobs")
    known = {*ResponsesBody.__struct_fields__, *REFUSED, *MOVED}
    return ResponsesRequest(fields, {key: value for key, value in body.items() if key not in known})


def _check_metadata(metadata: dict[str, Any]) -> None:
    if len(metadata) > _METADATA_PAIRS:
        raise BadRequest(f"metadata: {len(metadata)} pairs; at most {_METADATA_PAIRS}", param="metadata")
    for key, value in metadata.items():
        if len(key) > _METADATA_KEY:
            raise BadRequest(f"metadata: a key is longer than {_METADATA_KEY} characters", param="metadata")
        if not isinstance(value, str) or len(value) > _METADATA_VALUE:
            raise BadRequest(
                f"metadata.{key}: a value is a text of at most {_METADATA_VALUE} characters", param=f"metadata.{key}"
            )


def _refuse(body: dict[str, Any], name: str, reason: str) -> None:
    """What is null or false asks for nothing."""
    value = body.get(name)
    if value is not None and value is not False:
        raise BadRequest(f"{name} is not supported here: {reason}", param=name, code="unsupported_parameter")
