"""The LiteLLM SDK as a client, in an environment of its own, with Bestow as an `openai/` provider."""

import json

from openai import OpenAI

from tests.e2e.clients.ask import MODEL, NO_SPACES, QUESTION, WEATHER, guidance
from tests.e2e.clients.conftest import Script


def test_litellm_answers_streams_calls_tools_and_passes_guidance_on(outside: Script, client: OpenAI) -> None:
    said = outside("use_litellm", model=MODEL, messages=QUESTION, tools=[WEATHER], no_spaces=NO_SPACES)
    ours = client.chat.completions.create(model=MODEL, messages=QUESTION, seed=5)
    assert said["content"] == said["streamed"] == said["rebuilt"] == ours.choices[0].message.content
    assert said["guidance"]["chosen"] == guidance(ours)["chosen"]
    assert ours.usage is not None
    for usage in (said["usage"], said["rebuilt_usage"]):
        assert usage["total_tokens"] == ours.usage.total_tokens
    [call] = said["tool_calls"]
    assert call["name"] == "weather"
    assert json.loads(call["arguments"])["city"] in ("Oslo", "Rome")
    assert said["streamed_tool_calls"] == [call]
    assert said["finish_reason"] == "tool_calls"
    assert said["other"]["sampled"] == 2
    assert said["error"] == {"class": "NotFoundError", "status": 404}
