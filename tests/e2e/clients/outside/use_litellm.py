"""The LiteLLM SDK: answers, streams, tools, errors. Runs in `.venv/clients`; prints JSON."""

import asyncio
import json
import os
import sys
from typing import Any

import litellm

# Otherwise it prints hints for people between the JSON.
litellm.suppress_debug_info = True
asked = json.loads(sys.argv[1])
request: dict[str, Any] = {
    "model": f"openai/{asked['model']}",
    "api_base": os.environ["OPENAI_BASE_URL"],
    "messages": asked["messages"],
    "seed": 5,
    "num_retries": 0,
}
forced = {"tools": asked["tools"], "tool_choice": "required", "logit_bias": asked["no_spaces"]}

answer = litellm.completion(**request)
chunks = list(litellm.completion(**request, stream=True, stream_options={"include_usage": True}))
rebuilt: Any = litellm.stream_chunk_builder(chunks)
called = litellm.completion(**request, **forced)
called_in_a_stream: Any = litellm.stream_chunk_builder(list(litellm.completion(**request, **forced, stream=True)))
other = asyncio.run(litellm.acompletion(**request, guidance={"n": 2}))
try:
    litellm.completion(**{**request, "model": "openai/nobody"})
    error = None
except litellm.exceptions.NotFoundError as caught:
    error = {"class": type(caught).__name__, "status": caught.status_code}


def calls_of(one: Any) -> list[dict[str, Any]]:
    return [
        {"name": call.function.name, "arguments": call.function.arguments}
        for call in one.choices[0].message.tool_calls or []
    ]


print(
    json.dumps(
        {
            "content": answer.choices[0].message.content,
            "usage": answer.usage.model_dump(),
            "guidance": answer.model_dump()["guidance"],
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
            "rebuilt": rebuilt.choices[0].message.content,
            "rebuilt_usage": rebuilt.usage.model_dump(),
            "tool_calls": calls_of(called),
            "streamed_tool_calls": calls_of(called_in_a_stream),
            "finish_reason": called.choices[0].finish_reason,
            "other": other.model_dump()["guidance"],
            "error": error,
        },
        default=str,
    )
)
