"""LangChain's ChatOpenAI: invoke, stream, tools, structured output. Runs in `.venv/clients`; prints JSON."""

import json
import sys
from typing import Any, Literal

from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

asked = json.loads(sys.argv[1])


class Person(BaseModel):
    """A person."""

    name: Literal["Ann", "Bob"]
    age: int = Field(ge=1, le=99)


class weather(BaseModel):  # the tool takes the class's name
    """The weather of a city."""

    city: Literal["Oslo", "Rome"]


model = ChatOpenAI(model=asked["model"], seed=5, max_retries=0, extra_body={"guidance": {"n": 4}})
answer = model.invoke(asked["question"])
chunks = list(model.stream(asked["question"], stream_usage=True))
whole = chunks[0]
for chunk in chunks[1:]:
    whole += chunk

tools: Any = model.bind_tools([weather], tool_choice="any", strict=True).bind(logit_bias=asked["no_spaces"])
called = tools.invoke(asked["question"])
called_in_a_stream = None
for chunk in tools.stream(asked["question"]):
    called_in_a_stream = chunk if called_in_a_stream is None else called_in_a_stream + chunk

with_schema = ChatOpenAI(model=asked["model"], seed=5, max_retries=0, logit_bias=asked["no_spaces"])
parsed = {
    method: with_schema.with_structured_output(Person, method=method, strict=True)
    .invoke(asked["question"])
    .model_dump()
    for method in ("json_schema", "function_calling")
}

print(
    json.dumps(
        {
            "content": answer.content,
            "usage": answer.usage_metadata,
            "metadata": answer.response_metadata,
            "streamed": whole.content,
            "streamed_usage": whole.usage_metadata,
            "tool_calls": called.tool_calls,
            "streamed_tool_calls": called_in_a_stream.tool_calls if called_in_a_stream else None,
            "parsed": parsed,
        }
    )
)
