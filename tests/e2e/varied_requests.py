"""200 chat requests, the same ones each time, that use what vLLM 0.32 offers; and some that it refuses.

All are greedy or have a seed, and say how many tokens they want, so that the worker has no choice.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

COUNT = 200

Fields = dict[str, Any]


@dataclass(frozen=True)
class Varied:
    """name: what is particular about it. refused: vLLM answers an error."""

    name: str
    body: Fields
    refused: bool = False


_QUESTIONS = (
    "How do I keep a houseplant healthy?",
    "Hello there!",
    "What is 2 + 2?",
    "Écris-moi un poème, s'il te plaît.",
    "日本語で答えてください 🙏🏽",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \u202eright to left\u202c, zero\u200bwidth, e\u0301",
    "What does <|im_end|> mean?",
    'line one\nline two\ttabbed "quoted" \\ back',
    "👩‍👩‍👧‍👦 family",
    "Tell me about the weather in Oslo.",
)
_ANSWERS = ("Sure.", "It is sunny, 21 °C.", "Hello! What would you like to know?")
_CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
_CALL = (
    r'<tool_call>\n\{"name": "(get_weather|get_time)", "arguments": \{"city": "(Oslo|Rome|Zürich 🏔)"\}\}\n</tool_call>'
)
_PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Bob"]}, "adult": {"type": "boolean"}},
    "required": ["name", "adult"],
    "additionalProperties": False,
}


def _tool(name: str, parameters: Fields, **more: Any) -> Fields:
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": parameters, **more}}


_TOOLS = [_tool("get_weather", _CITY), _tool("get_time", _CITY)]
_USED_TOOL: list[Fields] = [
    {"role": "user", "content": "Is it warm in Oslo?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": '{"celsius": 4}'},
]


def requests() -> list[Varied]:
    """All of them."""
    found = [*_plain(), *_extras(), *_formed(), *_reasoned(), *_tools(), *_refused()]
    found += list(_mixed(COUNT - len(found)))
    assert len(found) == COUNT
    return found


def _ask(name: str, messages: str | Sequence[Fields] = "How do I keep a houseplant healthy?", **fields: Any) -> Varied:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    tokens: Fields = {} if "max_completion_tokens" in fields else {"max_tokens": 12}
    return Varied(name, {"messages": list(messages), "temperature": 0, **tokens, **fields})


def _plain() -> Iterator[Varied]:
    for number, question in enumerate(_QUESTIONS):
        yield _ask(f"question {number}", question)
        yield _ask(
            f"question {number} with system prompt and history",
            [
                {"role": "system" if number % 2 else "developer", "content": "Be brief. 简短"},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": _ANSWERS[number % len(_ANSWERS)]},
                {"role": "user", "content": question},
            ],
            max_tokens=20,
        )
    yield _ask("until it ends", max_tokens=400)
    yield _ask("a long prompt", "All work and no play. " * 60, max_tokens=30)
    yield _ask("content parts", [{"role": "user", "content": [{"type": "text", "text": part} for part in "ab"]}])
    yield _ask("a named user", [{"role": "user", "name": "Ada", "content": "Hi"}])
    yield _ask("an empty message", "")
    yield _ask("the assistant last", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well"}])
    yield _ask(
        "reasoning in history",
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yes.", "reasoning": "Hm.", "reasoning_content": "Hm."},
            {"role": "user", "content": "And?"},
        ],
    )
    yield _ask("tool results in history", _USED_TOOL)
    yield _ask("tool results in history, tools offered", _USED_TOOL, tools=_TOOLS)
    yield _ask("one token", max_tokens=1)


def _extras() -> Iterator[Varied]:
    """What a client can ask for beside the messages."""
    last: list[Fields] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello! What"}]
    single: dict[str, Fields] = {
        "max_completion_tokens": {"max_completion_tokens": 9},
        "both limits": {"max_completion_tokens": 5, "max_tokens": 9},
        "stop": {"stop": ["a", "zz"], "max_tokens": 60},
        "stop as text": {"stop": " would", "max_tokens": 60},
        "stop included": {"stop": ["o"], "include_stop_str_in_output": True, "max_tokens": 60},
        "stop_token_ids": {"stop_token_ids": [3, 201, 396], "max_tokens": 60},
        "logprobs": {"logprobs": True},
        "top_logprobs": {"logprobs": True, "top_logprobs": 5},
        "top_logprobs 0": {"logprobs": True, "top_logprobs": 0},
        "logprobs off": {"logprobs": False},
        "logit_bias": {"logit_bias": {"74": 20, "75": -100}},
        "allowed_token_ids": {"allowed_token_ids": [74, 75, 76]},
        "bad_words": {"bad_words": ["Hello", " What"]},
        "min_tokens": {"min_tokens": 30, "max_tokens": 40},
        "ignore_eos": {"ignore_eos": True, "max_tokens": 80},
        "special tokens": {"skip_special_tokens": False, "max_tokens": 80},
        "spaces_between_special_tokens": {"spaces_between_special_tokens": False, "skip_special_tokens": False},
        "return_token_ids": {"return_token_ids": True},
        "return_token_ids and logprobs": {"return_token_ids": True, "logprobs": True, "top_logprobs": 2},
        "tokens as token ids": {"return_tokens_as_token_ids": True, "logprobs": True, "top_logprobs": 1},
        "return_prompt_text": {"return_prompt_text": True},
        "prompt_logprobs": {"prompt_logprobs": 1},
        "prompt_logprobs and logprobs": {"prompt_logprobs": 0, "logprobs": True, "return_token_ids": True},
        "penalties": {"frequency_penalty": 1.5, "presence_penalty": 0.5, "repetition_penalty": 1.2, "max_tokens": 40},
        "top_p, top_k, min_p": {"top_p": 0.5, "top_k": 3, "min_p": 0.1},
        "seed": {"seed": 7},
        "reasoning_effort": {"reasoning_effort": "low"},
        "include_reasoning": {"include_reasoning": False},
        "chat_template_kwargs": {"chat_template_kwargs": {"enable_thinking": False, "whatever": 1}},
        "truncate_prompt_tokens": {"truncate_prompt_tokens": 5},
        "add_special_tokens": {"add_special_tokens": True},
        "no generation prompt": {"add_generation_prompt": False},
        "unknown fields": {"nobody_knows": {"a": [1, None]}, "store": False},
        "metadata": {"metadata": {"a": "b"}, "user": "someone", "service_tier": "auto"},
        "nulls": {"stop": None, "logprobs": None, "tools": None, "seed": None, "response_format": None},
        "documents": {"documents": [{"title": "t", "text": "x"}]},
        "n of one": {"n": 1},
        "echo": {"echo": True},
        "prediction": {"prediction": {"type": "content", "content": "Hello"}},
        "modalities": {"modalities": ["text"]},
        "verbosity": {"verbosity": "low"},
    }
    for name, fields in single.items():
        yield _ask(name, **fields)
    yield _ask("echo of the last message", last, echo=True, add_generation_prompt=False)
    yield _ask("continue_final_message", last, continue_final_message=True, add_generation_prompt=False)
    yield _ask(
        "continue_final_message with echo", last, continue_final_message=True, add_generation_prompt=False, echo=True
    )


def _formed() -> Iterator[Varied]:
    """Structured outputs."""
    for name, outputs in {
        "json": {"json": _PERSON},
        "json as text": {"json": '{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}'},
        "json without whitespace": {"json": _PERSON, "disable_any_whitespace": True},
        "regex": {"regex": "(yes|no), [0-9]{3}"},
        "regex of unicode": {"regex": "(née|naïve) 🙂{2}"},
        "choice": {"choice": ["positive", "negative"]},
        "grammar": {"grammar": 'root ::= "a" | "b"'},
        "json_object": {"json_object": True},
    }.items():
        yield _ask(f"structured {name}", structured_outputs=outputs, max_tokens=60)
        yield _ask(f"structured {name}, cut off", structured_outputs=outputs, max_tokens=4, logprobs=True)
    schema = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": _PERSON}}
    yield _ask("response_format json_schema", response_format=schema, max_tokens=60)
    yield _ask("response_format json_schema, cut off", response_format=schema, max_tokens=5)
    yield _ask("response_format json_object", response_format={"type": "json_object"}, max_tokens=20)
    yield _ask("response_format text", response_format={"type": "text"})


def _reasoned() -> Iterator[Varied]:
    """Reasoning, forced (tests/e2e/stack.py says how), and sampling with a seed."""
    thinks: Fields = {
        "chat_template_kwargs": {"enable_thinking": True},
        "structured_outputs": {"regex": r"<think>\n(Hm|Well|So), let me see\.\n</think>\n\n(Yes|No|Perhaps), 🙂\."},
    }
    for question in _QUESTIONS[:3]:
        yield _ask("reasoning", question, **thinks, max_tokens=80)
    yield _ask("reasoning with logprobs", **thinks, max_tokens=80, logprobs=True, return_token_ids=True)
    yield _ask("reasoning cut off", **thinks, max_tokens=8)
    yield _ask("reasoning not wanted", **thinks, max_tokens=80, include_reasoning=False)
    for seed in (0, 5, 2**40):
        yield _ask(f"sampled with seed {seed}", temperature=0.9, top_p=0.9, seed=seed, max_tokens=30)


def _tools() -> Iterator[Varied]:
    strict = [_tool("get_weather", _CITY, strict=True)]
    named = {"type": "function", "function": {"name": "get_weather"}}
    twice = {"regex": f"{_CALL}\\n{_CALL}"}
    yield _ask("tools offered", tools=_TOOLS, max_tokens=20)
    yield _ask("tools, none to be called", tools=_TOOLS, tool_choice="none")
    for question in _QUESTIONS[:4]:
        yield _ask("a call", question, tools=_TOOLS, structured_outputs={"regex": _CALL}, max_tokens=150)
    yield _ask("a call with logprobs", tools=_TOOLS, structured_outputs={"regex": _CALL}, max_tokens=150, logprobs=True)
    yield _ask(
        "a call with token ids",
        tools=_TOOLS,
        structured_outputs={"regex": _CALL},
        max_tokens=150,
        return_token_ids=True,
    )
    for tokens in (3, 20, 40, 60):
        yield _ask(f"a call cut off at {tokens}", tools=_TOOLS, structured_outputs={"regex": _CALL}, max_tokens=tokens)
    yield _ask("text before a call", tools=_TOOLS, structured_outputs={"regex": f"Let me see. {_CALL}"}, max_tokens=200)
    for parallel in (True, False):
        yield _ask(
            f"two calls, parallel {parallel}",
            tools=_TOOLS,
            structured_outputs=twice,
            max_tokens=300,
            parallel_tool_calls=parallel,
        )
    yield _ask("a named strict tool", tools=strict, tool_choice=named, max_tokens=150)
    yield _ask("a named strict tool, cut off", tools=strict, tool_choice=named, max_tokens=25)
    yield _ask("a required strict tool", tools=strict, tool_choice="required", max_tokens=150)
    yield _ask("a call after a call", _USED_TOOL, tools=_TOOLS, structured_outputs={"regex": _CALL}, max_tokens=150)


def _refused() -> Iterator[Varied]:
    wrong: dict[str, Fields] = {
        "temperature out of range": {"temperature": -1},
        "temperature no number": {"temperature": "warm"},
        "top_p out of range": {"top_p": 2},
        "n at temperature 0": {"n": 2},
        "n of zero": {"n": 0},
        "max_tokens of zero": {"max_tokens": 0},
        "too many top_logprobs": {"logprobs": True, "top_logprobs": 100},
        "top_logprobs without logprobs": {"top_logprobs": 3},
        "penalty out of range": {"frequency_penalty": 9},
        "empty tools": {"tools": []},
        "tool_choice without tools": {"tool_choice": "auto"},
        "tool_choice of no tool": {"tools": _TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
        "two structures": {"structured_outputs": {"regex": "a", "choice": ["b"]}},
        "json_schema without schema": {"response_format": {"type": "json_schema"}},
        "a regex that is none": {"structured_outputs": {"regex": "(("}},
        "logit_bias of no token": {"logit_bias": {"99999999": 1}},
        "min_tokens over max_tokens": {"min_tokens": 50},
        "response_format unknown": {"response_format": {"type": "yaml"}},
        "messages no list": {"messages": "Hi"},
        "a prompt too long": {"messages": [{"role": "user", "content": "word " * 6000}]},
        "stop no text": {"stop": [1]},
        "stop_token_ids no ids": {"stop_token_ids": ["a"]},
        "an image for a text model": {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}],
                }
            ]
        },
    }
    for name, fields in wrong.items():
        yield Varied(name, {**_ask(name).body, **fields}, refused=True)


def _mixed(count: int) -> Iterator[Varied]:
    """Several of the extras at once, drawn with a fixed seed."""
    rng = random.Random(20261121)
    parts: list[Fields] = [
        {"logprobs": True, "top_logprobs": 3},
        {"return_token_ids": True},
        {"return_tokens_as_token_ids": True},
        {"stop": ["e", "?"]},
        {"include_stop_str_in_output": True},
        {"skip_special_tokens": False},
        {"logit_bias": {"76": 5}},
        {"min_tokens": 6},
        {"bad_words": ["Hello"]},
        {"presence_penalty": 1.0},
        {"repetition_penalty": 1.3},
        {"return_prompt_text": True},
        {"prompt_logprobs": 0},
        {"seed": 3},
        {"structured_outputs": {"regex": "[a-z ]{5,30}"}},
        {"tools": _TOOLS},
        {"reasoning_effort": "high"},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"metadata": {"trace": "x"}},
        {"ignore_eos": True},
    ]
    for number in range(count):
        fields: Fields = {}
        for part in rng.sample(parts, rng.randint(2, 5)):
            fields |= part
        history = [{"role": "user", "content": rng.choice(_QUESTIONS)}, {"role": "assistant", "content": "Yes."}]
        messages = history * rng.randint(0, 2) + [{"role": "user", "content": rng.choice(_QUESTIONS)}]
        yield _ask(f"mixed {number}: {', '.join(fields)}", messages, max_tokens=rng.randint(6, 40), **fields)
