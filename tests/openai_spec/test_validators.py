"""The validators find what is wrong: held against good samples, and against what bare vLLM 0.32 answers."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent

from tests.openai_spec.validators import NAMES, _validator, strict_model, validate

RECORDED = Path(__file__).parent / "bare_vllm"
CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 5,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "Hi.", "refusal": None},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
CHUNK: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 5,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "Hi."}, "finish_reason": None, "logprobs": None}],
    "usage": None,
}
DELTA = {
    "type": "response.output_text.delta",
    "item_id": "msg_1",
    "output_index": 0,
    "content_index": 0,
    "delta": "Hi.",
    "sequence_number": 3,
    "logprobs": [],
}


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_bytes())


def changed(sample: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `sample` with the member at `path` set, or dropped where `value` is ... ."""
    made = copy.deepcopy(sample)
    at: Any = made
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in steps:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return made


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_schema_compiles(name: str) -> None:
    _validator(name)


def test_good_samples_pass() -> None:
    validate("CreateChatCompletionResponse", CHAT)
    validate("CreateChatCompletionStreamResponse", CHUNK)
    validate("ResponseStreamEvent", DELTA)
    validate("ErrorResponse", {"error": {"message": "m", "type": "t", "param": None, "code": None}})
    strict_model(ChatCompletion, CHAT)
    strict_model(ChatCompletionChunk, CHUNK)
    strict_model(ResponseStreamEvent, DELTA)  # type: ignore[arg-type]  # a union


def test_more_fields_than_openai_names_pass() -> None:
    more = changed(changed(CHAT, "guidance", {"n": 4}), "choices.0.message.reasoning", "Hm.")
    validate("CreateChatCompletionResponse", changed(more, "choices.0.token_ids", [1, 2]))
    strict_model(ChatCompletion, more)


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("created", ..., '"created" is a required property'),
        ("created", "5", ".created: "),
        ("object", "chat", ".object: "),
        ("choices.0.logprobs", ..., '.choices[0]: "logprobs" is a required property'),
        ("choices.0.finish_reason", "repetition", ".choices[0].finish_reason: "),
        ("choices.0.finish_reason", None, ".choices[0].finish_reason: null"),
        ("choices.0.message.refusal", ..., '.choices[0].message: "refusal" is a required property'),
        ("choices.0.message.annotations", None, ".choices[0].message.annotations: null"),
        ("choices.0.message.function_call", None, ".choices[0].message.function_call: null"),
        ("choices.0.message.role", "tool", ".choices[0].message.role: "),
        ("choices.0.logprobs", {"content": []}, '.choices[0].logprobs: "refusal" is a required property'),
        ("usage.completion_tokens_details", None, ".usage.completion_tokens_details: null"),
        (
            "choices.0.message.tool_calls",
            [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}],
            ".choices[0].message.tool_calls[0].function.arguments: ",
        ),
    ],
)
def test_what_breaks_the_description_is_named_with_its_place(path: str, value: Any, place: str) -> None:
    with pytest.raises(AssertionError) as caught:
        validate("CreateChatCompletionResponse", changed(CHAT, path, value))
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("created", ...),
        ("created", "5"),
        ("created", 5.5),
        ("object", "chat"),
        ("choices", None),
        ("choices.0.finish_reason", None),
        ("choices.0.index", "0"),
        ("choices.0.message.role", "tool"),
        ("choices.0.message.content", 3),
        ("usage.prompt_tokens", None),
        (
            "choices.0.message.tool_calls",
            [{"id": None, "type": "function", "function": {"name": "f", "arguments": ""}}],
        ),
    ],
)
def test_what_breaks_the_packages_types_fails(path: str, value: Any) -> None:
    with pytest.raises(AssertionError, match="ChatCompletion: "):
        strict_model(ChatCompletion, changed(CHAT, path, value))


def test_a_stream_event_is_held_against_its_own_type() -> None:
    with pytest.raises(AssertionError, match='ResponseStreamEvent: "delta" is a required property'):
        validate("ResponseStreamEvent", changed(DELTA, "delta", ...))
    with pytest.raises(AssertionError, match=r"ResponseStreamEvent\.sequence_number: "):
        validate("ResponseStreamEvent", changed(DELTA, "sequence_number", "3"))
    with pytest.raises(AssertionError, match="ResponseStreamEvent: "):
        validate("ResponseStreamEvent", changed(DELTA, "type", "response.unheard_of"))


def test_nullable_of_openapi_3_0_is_a_null_beside_the_schema() -> None:
    validate("CreateChatCompletionStreamResponse", CHUNK)
    with pytest.raises(AssertionError):
        validate("CreateChatCompletionStreamResponse", changed(CHUNK, "choices.0.finish_reason", "eos"))


@pytest.mark.parametrize(
    ("sample", "name", "place"),
    [
        ("chat", "CreateChatCompletionResponse", ".choices[0].message.annotations: null"),
        ("chat", "CreateChatCompletionResponse", ".choices[0].message.function_call: null"),
        ("chat", "CreateChatCompletionResponse", ".usage.completion_tokens_details: null"),
        ("chat", "CreateChatCompletionResponse", '.choices[0].logprobs: "refusal" is a required property'),
        ("completion", "CreateCompletionResponse", ".usage.completion_tokens_details: null"),
        ("error", "ErrorResponse", ".error.code: 404"),
        ("response", "Response", '"error" is a required property'),
        ("chat_stream", "CreateChatCompletionStreamResponse", '.logprobs: "refusal" is a required property'),
        ("response_stream", "ResponseStreamEvent", "part.logprobs: null"),
    ],
)
def test_bare_vllm_breaks_the_description(sample: str, name: str, place: str) -> None:
    found = recorded(sample)
    said = []
    for one in found if isinstance(found, list) else [found]:
        try:
            validate(name, one)
        except AssertionError as error:
            said.append(str(error))
    assert place in "; ".join(said)
