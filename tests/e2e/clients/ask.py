"""What the clients ask here, and how the demo policy is brought to answer it.

The policy has a million weights and knows neither tools nor JSON. vLLM's own parsers and grammars run on it all the
same: a regex in the parser's format makes a tool call or a thought of "auto", and a tool that is named or required
keeps to its schema with `strict`. White space, which JSON allows anywhere, it would write without end, so a request
forbids the tokens of it with OpenAI's own logit_bias.
"""

import json
from typing import Any, TypeVar

from openai import BaseModel
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam
from openai.types.responses import Response

from tests.e2e.stack import PROJECT
from tests.openai_spec.validators import strict_model, validate

MODEL = "bestow-demo"
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How do I keep a houseplant healthy?"}]

_VOCABULARY = json.loads((PROJECT / "training/demo/models/policy/tokenizer.json").read_text())["model"]["vocab"]
NO_SPACES: dict[str, int] = {str(number): -100 for token, number in _VOCABULARY.items() if set(token) <= set("ĠĊĉč")}

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Oslo", "Rome"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
# With `strict`, vLLM's own grammar of the tool would replace the regex.
LOOSE_WEATHER: dict[str, Any] = {
    **WEATHER,
    "function": {key: value for key, value in WEATHER["function"].items() if key != "strict"},
}

CALL = r'<tool_call>\n\{"name": "weather", "arguments": \{"city": "(Oslo|Rome)", "days": [1-9]\}\}\n</tool_call>'
ANSWER = r"It is [a-z]{2,8} in (Oslo|Rome)\."
ONE_CALL: dict[str, Any] = {"structured_outputs": {"regex": CALL}}
TWO_CALLS: dict[str, Any] = {"structured_outputs": {"regex": rf"{CALL}\n{CALL}"}}
THINKING: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": True}}
THOUGHT = r"<think>It is [a-z]{2,8}\.</think>"
THOUGHT_THEN_ANSWER: dict[str, Any] = {**THINKING, "structured_outputs": {"regex": f"{THOUGHT}{ANSWER}"}}
THOUGHT_THEN_CALL: dict[str, Any] = {**THINKING, "structured_outputs": {"regex": f"{THOUGHT}{CALL}"}}

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "enum": ["Ann", "Bob"]},
        "age": {"type": "integer", "minimum": 1, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}

M = TypeVar("M", bound=BaseModel)


# What the client calls it -> what OpenAI's description does.
_SCHEMAS: dict[type[BaseModel], str] = {
    ChatCompletion: "CreateChatCompletionResponse",
    ChatCompletionChunk: "CreateChatCompletionStreamResponse",
    Completion: "CreateCompletionResponse",
    CreateEmbeddingResponse: "CreateEmbeddingResponse",
    Model: "Model",
    Response: "Response",
}


def strictly(answer: M) -> M:
    """The same answer, once it has been found to be what its type says and what OpenAI's published description says."""
    sent = answer.to_dict()
    validate(_SCHEMAS[type(answer)], sent)
    strict_model(type(answer), sent)
    return answer


def guidance(answer: BaseModel) -> dict[str, Any]:
    """The receipt."""
    receipt = (answer.model_extra or {})["guidance"]
    assert isinstance(receipt, dict)
    return receipt
