"""From a Responses request to the chat request that is made of it, and its errors back."""

from typing import Any

import pytest

from gateway.api.protocol import chat_request
from gateway.api.responses.items import Item, normalised
from gateway.api.responses.protocol import responses_request
from gateway.api.responses.request import ChatForm, chat_form, in_our_words
from gateway.errors import BadRequest

UUID = "0199d0a1-7c3e-7abc-8def-0123456789ab"
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True, "description": None}
CHAT_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}


def form(history: list[Item] | None = None, **fields: Any) -> ChatForm:
    request = responses_request({"model": "m", "input": "hi", **fields})
    return chat_form(request, history or [], normalised(request.body.input, UUID, {}))


def messages(*items: Any) -> Any:
    return form(input=list(items)).body["messages"]


def test_a_plain_request_is_a_plain_chat_request() -> None:
    assert form().body == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_each_setting_becomes_chats() -> None:
    schema = {"type": "object", "properties": {}}
    body = form(
        instructions="be brief",
        max_output_tokens=20,
        temperature=0.5,
        top_p=0.9,
        stream=True,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "s", "schema": schema, "strict": True}, "verbosity": "low"},
        include=["message.output_text.logprobs"],
        top_logprobs=3,
        metadata={"a": "b"},
        safety_identifier="u",
        user="v",
        guidance={"n": 2},
        seed=7,
        top_k=5,
        service_tier="auto",
        prompt_cache_key="k",
        store=False,
        truncation="disabled",
        background=False,
        stream_options={"include_obfuscation": False},
    ).body
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "max_completion_tokens": 20,
        "temperature": 0.5,
        "top_p": 0.9,
        "stream": True,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}},
        "verbosity": "low",
        "logprobs": True,
        "top_logprobs": 3,
        "metadata": {"a": "b"},
        "safety_identifier": "u",
        "user": "v",
        "guidance": {"n": 2},
        "store": False,
        "seed": 7,
        "top_k": 5,
        "service_tier": "auto",
    }


def test_a_turn_of_the_model_is_one_message() -> None:
    assert messages(
        {"role": "user", "content": "2+2, 3+3?"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "add"}]},
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "4"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "6"}]},
        {"role": "assistant", "content": "4 and 6."},
        {"role": "assistant", "content": "Anything else?"},
    ) == [
        {"role": "user", "content": "2+2, 3+3?"},
        {
            "role": "assistant",
            "reasoning": "add",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "4"},
        {"role": "tool", "tool_call_id": "b", "content": "6"},
        {"role": "assistant", "content": "4 and 6."},
        {"role": "assistant", "content": "Anything else?"},
    ]


def test_reasoning_that_led_to_no_word_still_makes_a_message() -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "content": []}
    assert messages(thought, {"role": "user", "content": "go on"}) == [
        {"role": "assistant", "reasoning": "hm", "content": ""},
        {"role": "user", "content": "go on"},
    ]


def test_images_pass_on() -> None:
    image = {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"}
    [message] = messages({"role": "user", "content": [{"type": "input_text", "text": "what?"}, image]})
    assert message["content"] == [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
    ]


def test_history_comes_first_and_instructions_before_it() -> None:
    history = normalised([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], UUID, {})
    found = form(history, instructions="i")
    assert [message["content"] for message in found.body["messages"]] == ["i", "a", "b", "hi"]
    assert found.origins == ("instructions", "previous_response_id", "previous_response_id", "input[0]")


def test_an_output_without_its_call_is_told_apart_from_one_whose_call_is_stored() -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": "4"}
    with pytest.raises(BadRequest) as caught:
        messages({"role": "user", "content": "x"}, output)
    assert caught.value.param == "input[1].call_id"
    call = normalised([{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}], UUID, {})
    assert form(call, input=[output]).body["messages"][1]["role"] == "tool"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_tools_and_choices_become_chats(choice: Any, expected: Any) -> None:
    body = form(tools=[TOOL], tool_choice=choice, parallel_tool_calls=False).body
    assert body["tools"] == [CHAT_TOOL]
    assert body.get("tool_choice") == expected
    assert body["parallel_tool_calls"] is False


def test_allowed_tools_are_the_only_ones_the_worker_sees() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
    body = form(tools=[{**TOOL, "name": "g"}, TOOL], tool_choice=choice).body
    assert body["tools"] == [CHAT_TOOL]
    assert body["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "any", "tools": [TOOL]}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "g"}, "tools": [TOOL]}, "tool_choice.name"),
        ({"tool_choice": {"type": "mcp"}, "tools": [TOOL]}, "tool_choice.type"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "none"}, "tools": [TOOL]}, "tool_choice.mode"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto"}, "tools": [TOOL]}, "tool_choice.tools"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "s"}}}, "text.format.schema"),
        ({"text": {"verbosity": "loud"}}, "text.verbosity"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"truncation": "auto"}, "truncation"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"messages": []}, "messages"),
        ({"response_format": {"type": "text"}}, "response_format"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "x"}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata.k"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"model": None}, "model"),
    ],
)
def test_what_is_not_served_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        form(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("chat_param", "param"),
    [
        ("messages[0].content", "instructions"),
        ("messages[1].content[2]", "input[0].content[2]"),
        ("messages", "input"),
        ("max_completion_tokens", "max_output_tokens"),
        ("max_tokens", "max_output_tokens"),
        ("tools[1].function.name", "tools[1].name"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("guidance.n", "guidance.n"),
    ],
)
def test_chats_errors_name_the_clients_own_field(chat_param: str, param: str) -> None:
    error = in_our_words(BadRequest(f"{chat_param}: it is wrong", param=chat_param), ("instructions", "input[0]"))
    assert error.param == param
    assert error.message == f"{param}: it is wrong"


def test_a_limit_that_chat_checks_is_told_in_our_words() -> None:
    made = form(max_output_tokens=0)
    with pytest.raises(BadRequest) as caught:
        chat_request(made.body, 10)
    assert in_our_words(caught.value, made.origins).param == "max_output_tokens"
