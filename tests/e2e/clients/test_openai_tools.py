"""Tool calls with openai's client for Python, read by vLLM's own parser: unary, streamed, in parallel, in a loop."""

import json
from typing import Any

import pytest
from openai import OpenAI, pydantic_function_tool
from openai.lib.responses_tool_runner import RegisteredFunction, ResponsesToolRunner
from openai.types.chat import ChatCompletion, ChatCompletionMessageFunctionToolCall
from pydantic import BaseModel, ConfigDict, Field

from tests.e2e.clients.ask import (
    ANSWER,
    LOOSE_WEATHER,
    MODEL,
    NO_SPACES,
    ONE_CALL,
    QUESTION,
    THOUGHT_THEN_CALL,
    TWO_CALLS,
    WEATHER,
    guidance,
    strictly,
)
from tests.e2e.stack import Stack

NAMED = {"type": "function", "function": {"name": "weather"}}
AUTO: dict[str, Any] = {"tools": [LOOSE_WEATHER], "extra_body": ONE_CALL}
FORCED: dict[str, Any] = {"tools": [WEATHER], "logit_bias": NO_SPACES}
# How a request comes to a tool call -> its fields.
WAYS: dict[str, dict[str, Any]] = {
    "auto": AUTO,
    "auto in parallel": {**AUTO, "extra_body": TWO_CALLS},
    "auto after a thought": {**AUTO, "extra_body": THOUGHT_THEN_CALL},
    "required": {**FORCED, "tool_choice": "required"},
    "named": {**FORCED, "tool_choice": NAMED},
}
ASKED: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "seed": 3, "max_tokens": 200}


class weather(BaseModel):  # the tool takes the class's name
    """The weather of a city."""

    model_config = ConfigDict(extra="forbid")
    city: str = Field(json_schema_extra={"enum": ["Oslo", "Rome"]})
    days: int = Field(ge=1, le=9)


def calls_of(answer: ChatCompletion) -> list[ChatCompletionMessageFunctionToolCall]:
    found = answer.choices[0].message.tool_calls or []
    assert all(isinstance(call, ChatCompletionMessageFunctionToolCall) for call in found)
    return [call for call in found if call.type == "function"]


def fits(call: ChatCompletionMessageFunctionToolCall) -> bool:
    arguments = json.loads(call.function.arguments)
    return call.function.name == "weather" and arguments["city"] in ("Oslo", "Rome") and 1 <= arguments["days"] <= 9


@pytest.mark.parametrize("way", WAYS)
def test_a_tool_call_is_chosen_and_delivered(client: OpenAI, way: str) -> None:
    answer = strictly(client.chat.completions.create(**ASKED, **WAYS[way]))
    calls = calls_of(answer)
    assert len(calls) == (2 if "parallel" in way else 1)
    assert all(fits(call) and call.id for call in calls)
    assert len({call.id for call in calls}) == len(calls)
    # OpenAI and vLLM say "stop" where the tool was named.
    assert answer.choices[0].finish_reason == ("stop" if way == "named" else "tool_calls")
    assert not answer.choices[0].message.content
    assert ("reasoning" in answer.choices[0].message.to_dict()) == ("thought" in way)
    assert guidance(answer)["scored"] == 8
    assert guidance(answer)["degraded"] is None


@pytest.mark.parametrize("way", WAYS)
def test_a_streamed_tool_call_is_the_unary_one(client: OpenAI, way: str) -> None:
    answer = client.chat.completions.create(**ASKED, **WAYS[way])
    with client.chat.completions.stream(**ASKED, **WAYS[way]) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    for event in events:
        if event.type == "chunk":
            strictly(event.chunk)
    streamed = [call.function for call in final.choices[0].message.tool_calls or []]
    assert [(one.name, one.arguments) for one in streamed] == [
        (call.function.name, call.function.arguments) for call in calls_of(answer)
    ]
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [event.arguments for event in done] == [one.arguments for one in streamed]
    assert final.choices[0].finish_reason == answer.choices[0].finish_reason


@pytest.mark.parametrize("way", WAYS)
def test_a_tool_call_that_is_streamed_live_comes_together(client: OpenAI, way: str) -> None:
    """One sample, each delta as vLLM's parser made it, cleared by the guard."""
    fields = WAYS[way]
    extra = {**fields.get("extra_body", {}), "guidance": {"stream_mode": "first"}}
    with client.chat.completions.stream(**ASKED, **{**fields, "extra_body": extra}) as stream:
        for event in stream:
            if event.type == "chunk":
                strictly(event.chunk)
        final = stream.get_final_completion()
    calls = calls_of(final)
    assert len(calls) == (2 if "parallel" in way else 1)
    assert all(fits(call) and call.id for call in calls)
    assert final.choices[0].finish_reason == ("stop" if way == "named" else "tool_calls")


def test_candidates_that_call_tools_compete_by_their_rewards(client: OpenAI) -> None:
    """A call is scored as what it calls: other arguments, another reward; and the highest is delivered."""
    asked = {**ASKED, **AUTO, "extra_body": {**ONE_CALL, "guidance": {"return_candidates": True}}}
    answer = client.chat.completions.create(**asked)
    candidates = guidance(answer)["candidates"]
    rewards = {
        one["message"]["tool_calls"][0]["function"]["arguments"]: one["reward"]
        for one in candidates
        if one["reward_error"] is None and one["safe"]
    }
    assert len(rewards) > 1
    assert len(set(rewards.values())) == len(rewards)
    best = max((one for one in candidates if one["safe"]), key=lambda one: one["reward"])
    assert guidance(answer)["chosen"] == best["index"]
    assert calls_of(answer)[0].function.arguments == best["message"]["tool_calls"][0]["function"]["arguments"]


def test_a_conversation_goes_on_after_the_tool_has_answered(client: OpenAI) -> None:
    answer = client.chat.completions.create(**ASKED, **AUTO)
    [call] = calls_of(answer)
    messages: list[Any] = [
        *QUESTION,
        answer.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "It is warm."},
    ]
    asked: dict[str, Any] = {**ASKED, "messages": messages, "tools": [LOOSE_WEATHER]}
    after = strictly(client.chat.completions.create(**asked, extra_body={"structured_outputs": {"regex": ANSWER}}))
    assert (after.choices[0].message.content or "").startswith("It is ")
    assert after.choices[0].finish_reason == "stop"
    assert after.usage is not None and answer.usage is not None
    assert after.usage.prompt_tokens > answer.usage.prompt_tokens, "the call and its result were not read"


def test_tool_choice_none_calls_nothing(client: OpenAI) -> None:
    answer = strictly(client.chat.completions.create(**{**ASKED, "tools": [WEATHER], "tool_choice": "none"}))
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None


def test_arguments_are_parsed_into_the_tools_own_class(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        **ASKED, tools=[pydantic_function_tool(weather)], tool_choice="required", logit_bias=NO_SPACES
    )
    [call] = answer.choices[0].message.tool_calls or []
    parsed = call.function.parsed_arguments
    assert isinstance(parsed, weather)
    assert parsed.city in ("Oslo", "Rome")


class OneCallThenAnAnswer(OpenAI):
    """The client as an application extends it: the tool must be called first, and not again after its result.

    A model that knows tools needs no telling; this one would be forced to call for ever.
    """

    def _prepare_options(self, options: Any) -> Any:
        body = options.json_data
        has_result = any(item.get("type") == "function_call_output" for item in body["input"] if isinstance(item, dict))
        extra = {"structured_outputs": {"regex": ANSWER}} if has_result else {"logit_bias": NO_SPACES}
        choice = "none" if has_result else "required"
        return super()._prepare_options(
            options.model_copy(update={"json_data": {**body, "tool_choice": choice, **extra}})
        )


@pytest.mark.parametrize("stream", [False, True])
def test_the_tool_runner_calls_the_tool_and_ends_with_an_answer(stack: Stack, stream: bool) -> None:
    asked_for: list[dict[str, object]] = []

    def forecast(arguments: dict[str, object]) -> str:
        asked_for.append(arguments)
        return "It is warm."

    tool = {"type": "function", **WEATHER["function"]}
    runner = ResponsesToolRunner(functions=[RegisteredFunction(tool, forecast)])  # type: ignore[arg-type]
    with OneCallThenAnAnswer(base_url=f"{stack.url}/v1", api_key="none needed", max_retries=0) as client:
        final = runner.run(client, {"model": MODEL, "input": "Is it warm?"}, max_steps=3, stream=stream)
    assert len(asked_for) == 1
    assert asked_for[0]["city"] in ("Oslo", "Rome")
    assert final.output_text.startswith("It is ")
