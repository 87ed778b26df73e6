"""LangChain's ChatOpenAI, in an environment of its own: many applications reach a model through it and nothing else."""

from openai import OpenAI

from tests.e2e.clients.ask import MODEL, NO_SPACES, QUESTION
from tests.e2e.clients.conftest import Script


def test_langchain_invokes_streams_calls_tools_and_keeps_schemas(outside: Script, client: OpenAI) -> None:
    said = outside("use_langchain", model=MODEL, question=QUESTION[0]["content"], no_spaces=NO_SPACES)
    ours = client.chat.completions.create(model=MODEL, messages=QUESTION, seed=5, extra_body={"guidance": {"n": 4}})
    assert said["content"] == said["streamed"] == ours.choices[0].message.content
    assert ours.usage is not None
    assert said["usage"]["total_tokens"] == said["streamed_usage"]["total_tokens"] == ours.usage.total_tokens
    assert said["metadata"]["model_name"] == MODEL
    assert said["metadata"]["finish_reason"] == ours.choices[0].finish_reason
    for calls in (said["tool_calls"], said["streamed_tool_calls"]):
        [call] = calls
        assert call["name"] == "weather"
        assert call["args"]["city"] in ("Oslo", "Rome")
    assert said["tool_calls"][0]["args"] == said["streamed_tool_calls"][0]["args"]
    for person in said["parsed"].values():
        assert person["name"] in ("Ann", "Bob")
        assert 1 <= person["age"] <= 99
