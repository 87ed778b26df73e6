"""openai's client for Node, as scripts of `node/`: the same in the other language that apps are written in."""

from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion

from tests.e2e.clients.ask import ANSWER, MODEL, NO_SPACES, QUESTION, WEATHER, guidance, strictly
from tests.e2e.clients.conftest import Script

ASKED: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "seed": 5}


def test_answers_streams_and_models(node: Script, client: OpenAI) -> None:
    said = node("answers", request=ASKED, chatWith={"guidance": {"n": 2}})
    ours = client.chat.completions.create(**ASKED)
    answer = strictly(ChatCompletion.construct(**said["answer"]))
    text = answer.choices[0].message.content
    assert text == ours.choices[0].message.content
    assert said["streamed"] == said["snapshot"] == text
    assert said["kinds"] == ["chat.completion.chunk"]
    assert said["final"]["choices"][0]["message"]["content"] == text
    assert said["final"]["usage"]["completion_tokens"] == said["answer"]["usage"]["completion_tokens"]
    assert said["requestId"] == answer.id == said["headers"]["x-request-id"]
    assert said["headers"]["x-bestow-candidates"] == "8"
    assert guidance(answer)["chosen"] == guidance(ours)["chosen"]
    assert said["guidance"]["sampled"] == 2
    assert MODEL in said["models"]
    assert said["retrieved"]["owned_by"] == "bestow"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_tools_are_called_streamed_and_run(node: Script, choice: Any) -> None:
    forced = {"tools": [WEATHER], "tool_choice": choice, "logit_bias": NO_SPACES}
    said = node("tools", request=ASKED, forced=forced, regexAfterTheResult=ANSWER, noSpaces=NO_SPACES)
    answer = strictly(ChatCompletion.construct(**said["answer"]))
    [call] = said["answer"]["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    [streamed] = said["streamed"]["choices"][0]["message"]["tool_calls"]
    assert streamed["function"]["arguments"] == call["function"]["arguments"]
    assert said["ended"] == [{"name": "weather", "arguments": call["function"]["arguments"]}]
    assert said["streamed"]["choices"][0]["finish_reason"] == answer.choices[0].finish_reason
    for run in (said["run"], said["runStreamed"]):
        [arguments] = run["calls"]
        assert arguments["city"] in ("Oslo", "Rome")
        assert run["content"].startswith("It is ")
        assert run["roles"] == ["user", "assistant", "tool", "assistant"]


def test_a_zod_schema_is_kept_and_parsed(node: Script) -> None:
    said = node("parsing", request={**ASKED, "logit_bias": NO_SPACES})
    assert said["parsed"]["name"] in ("Ann", "Bob")
    assert 1 <= said["parsed"]["age"] <= 99
    assert said["streamed"] == said["parsed"]


def test_mistakes_are_the_clients_error_classes_and_an_abort_leaves_the_gateway_well(node: Script) -> None:
    mistakes = {
        "model": {"model": "nobody"},
        "messages": {"messages": []},
        "streamed": {"messages": [], "stream": True},
    }
    said = node("errors", request=ASKED, mistakes=mistakes)
    classes = {name: (one["class"], one["status"], one["param"], one["sent"]) for name, one in said["caught"].items()}
    assert classes == {
        "model": ("NotFoundError", 404, "model", 1),
        "messages": ("BadRequestError", 400, "messages", 1),
        "streamed": ("BadRequestError", 400, "messages", 1),
    }
    assert all(one["requestID"] and one["type"] == "invalid_request_error" for one in said["caught"].values())
    assert said["chunks"] == 1
    assert said["aborted"] == "aborted"
    assert said["after"]
