"""Streams are true: each concatenates to exactly what the unary call returns, and nothing leaves before its verdict."""

import asyncio
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.profile_settings import ProfileConfig
from tests.e2e.gateways import second_gateway
from tests.e2e.stack import Stack
from training.demo.gold import judge
from training.demo.prompts import held_out_prompts

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 5}},
            "required": ["city", "days"],
        },
    },
}
CALL = (
    '<tool_call>\\n\\{"name": "get_weather", "arguments": \\{"city": "[a-z]{1,6}", "days": [1-9]\\}\\}\\n</tool_call>'
)
PLAIN: dict[str, Any] = {
    "model": "bestow-demo",
    "messages": [{"role": "user", "content": "How do I keep a houseplant healthy?"}],
    "max_tokens": 48,
}
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "logprobs": PLAIN | {"logprobs": True, "top_logprobs": 3, "return_token_ids": True},
    "two choices": PLAIN | {"n": 2, "logprobs": True},
    "stop": PLAIN | {"stop": ["water", "light", "."]},
    "tool call": PLAIN
    | {"tools": [WEATHER], "tool_choice": "auto", "structured_outputs": {"regex": CALL}, "max_tokens": 120},
    "cut tool call": PLAIN
    | {"tools": [WEATHER], "tool_choice": "auto", "structured_outputs": {"regex": CALL}, "max_tokens": 40},
    "schema": PLAIN
    | {
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "schema": {"type": "object", "properties": {"ok": {"enum": [True, False]}}, "required": ["ok"]},
            },
        }
    },
}


def unary(url: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def streamed(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer that a stream's chunks add up to, in the shape of the unary one."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body | options, timeout=120)
    assert reply.status_code == 200, reply.text
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    choices: dict[int, dict[str, Any]] = {}
    whole: dict[str, Any] = {"choices": []}
    for chunk in map(json.loads, lines):
        whole["usage"] = chunk.get("usage") or whole.get("usage")
        whole["guidance"] = chunk.get("guidance") or whole.get("guidance")
        for part in chunk["choices"]:
            choice = choices.setdefault(part["index"], {"index": part["index"], "message": {}, "logprobs": None})
            add_delta(choice["message"], part["delta"])
            if part["logprobs"]:
                choice["logprobs"] = choice["logprobs"] or {"content": [], "refusal": None}
                choice["logprobs"]["content"] += part["logprobs"]["content"]
            if "token_ids" in part:
                choice["token_ids"] = choice.get("token_ids", []) + part["token_ids"]
            choice |= {key: part[key] for key in ("finish_reason", "stop_reason") if part.get(key) is not None}
    whole["choices"] = [choices[index] for index in sorted(choices)]
    return whole


def add_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for key, value in delta.items():
        if key == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for part in value:
                if part["index"] == len(calls):
                    calls.append(copy.deepcopy({**part, "function": {"name": "", "arguments": ""}}))
                for name, text in part["function"].items():
                    calls[part["index"]]["function"][name] += text
        elif key == "role":
            message[key] = value
        else:
            message[key] = (message.get(key) or "") + value


def comparable(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Its choices without what differs by nature: ids of tool calls, and the nulls that a stream has no place for."""
    choices: list[dict[str, Any]] = copy.deepcopy(answer["choices"])
    for choice in choices:
        message = choice["message"]
        choice["message"] = {key: value for key, value in message.items() if value}
        for call in choice["message"].get("tool_calls", []):
            call.pop("id")
            call.pop("index", None)
    return choices


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_held_stream_is_the_unary_answer(stack: Stack, name: str, seed: int) -> None:
    body = REQUESTS[name] | {"seed": seed}
    first, again, stream = unary(stack.url, body), unary(stack.url, body), streamed(stack.url, body)
    # A seed makes the whole answer reproducible, the choice included.
    assert comparable(first) == comparable(again) == comparable(stream)
    assert first["guidance"]["chosen"] == again["guidance"]["chosen"] == stream["guidance"]["chosen"]
    assert first["usage"] == again["usage"] == stream["usage"]


def test_logprobs_and_token_ids_are_those_of_the_delivered_choice(stack: Stack) -> None:
    [choice] = unary(stack.url, REQUESTS["logprobs"] | {"guidance": {"n": 8}, "seed": 5})["choices"]
    tokens = [one["token"] for one in choice["logprobs"]["content"]]
    assert "".join(tokens).removesuffix("<|im_end|>") == choice["message"]["content"]
    assert len(tokens) == len(choice["token_ids"])


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "two choices"])
def test_a_live_stream_is_the_unary_answer_of_one_sample(stack: Stack, name: str) -> None:
    body = REQUESTS[name] | {"seed": 3}
    one = unary(stack.url, body | {"guidance": {"n": 1}})
    live = streamed(stack.url, body | {"guidance": {"stream_mode": "first"}})
    if one["guidance"]["refused"] or live["guidance"]["refused"]:
        assert live["guidance"]["refused"]
        return
    assert comparable(one) == comparable(live)
    assert one["usage"] == live["usage"]
    assert live["guidance"]["reward"] == pytest.approx(one["guidance"]["reward"], abs=1e-4)


@pytest.mark.parametrize("mode", ["hold-back", "window"])
def test_what_leaves_a_live_stream_was_cleared(
    stack: Stack, tmp_path: Path, mode: str, report: Callable[[str], None]
) -> None:
    """Nothing flagged leaves. In hold-back mode the guard, asked again about all that left, clears it."""

    def change(config: Any) -> None:
        config["profiles"]["default"] |= {"stream_mode": "first", "stream_guard": mode, "stream_window": 24}

    prompts = [list(prompt) for prompt in held_out_prompts(120, seed=4)]
    with second_gateway(stack, tmp_path, change) as url:

        async def all_of_them() -> list[dict[str, Any]]:
            gate = asyncio.Semaphore(6)

            async def one(index: int, messages: list[dict[str, str]]) -> dict[str, Any]:
                body = PLAIN | {"messages": messages, "seed": index}
                async with gate:
                    return await asyncio.to_thread(streamed, url, body)

            return list(await asyncio.gather(*(one(index, prompt) for index, prompt in enumerate(prompts))))

        answers = asyncio.run(all_of_them())
    cut = missed = 0
    for prompt, answer in zip(prompts, answers, strict=True):
        [choice] = answer["choices"]
        text = choice["message"].get("content", "")
        refused = answer["guidance"]["refused"]
        assert (choice["finish_reason"] == "content_filter") == (refused is not None)
        cut += refused == "candidates"
        missed += refused is None and bool(judge(prompt, text).unsafe)
        if refused is None:
            assert answer["guidance"]["flagged"] == []
            assert answer["guidance"]["safe"] == 1
        if mode == "hold-back" and refused != "prompt" and text != REFUSAL:
            assert probability_of_unsafe(stack, prompt, text) < 0.5, text
    report(f"live streams ({mode}): {cut} of {len(prompts)} cut off, {missed} unsafe by the gold judge got through")
    assert cut > 0, "nothing was flagged: this test showed nothing"


REFUSAL = ProfileConfig().refusal


def probability_of_unsafe(stack: Stack, prompt: list[dict[str, str]], text: str) -> float:
    """The classifier's largest probability for an answer, asked of the scorer server itself."""
    candidate = {"role": "assistant", "content": text}
    body = {"model": "safety", "messages": prompt, "candidates": [candidate]}
    [score] = httpx.post(f"{stack.scorer_url}/v1/score", json=body, timeout=60).json()["scores"]
    return float(max(score["categories"].values()))
