"""Blocks and steps on real vLLM: exact continuation by token ids, its parsers on what was sampled so, real streams."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from openai import AsyncOpenAI, OpenAI

from gateway.workers.client import CHAT_PATH, COMPLETIONS_PATH, WorkerClient
from gateway.workers.reading import Reading
from gateway.workers.stream import Accumulator, Part
from tests.e2e.stack import Stack
from tests.scorers.models import STEP_TOKEN, make_step_model

MODEL = "demo-policy"
BLOCKS: dict[str, Any] = {
    "strategy": "blockwise",
    "options": {"block_tokens": 6},
    "stream_mode": "block",
    "reward": "reward",
    "safety": "safety",
    "temperature": 1.0,
    "n": 4,
    "max_n": 16,
    "max_tokens": 96,
    "max_tokens_limit": 256,
}
PROMPTS = [
    "How do I keep a houseplant healthy?",
    "What should I pack for a week by the sea?",
    "Explain what a rainbow is.",
    "Wie koche ich Reis?",
]
# At temperature 0 there would be no blocks to choose from. The first prompt's two likeliest first tokens have one logit
# between them in bfloat16, so that which is greedy is up to the kernel.
GREEDY = {"top_k": 1, "seed": 3}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@contextmanager
def profile(stack: Stack, name: str, settings: dict[str, Any]) -> Iterator[dict[str, str]]:
    """`guidance` for requests that use it; it is taken back to nothing afterwards."""
    with httpx.Client(base_url=stack.url, timeout=30) as http:
        there = http.get(f"/admin/v1/profiles/{name}")
        version = there.json()["version"] if there.status_code == 200 else 0
        body = {"version": version, "settings": settings, "reason": "e2e"}
        assert http.put(f"/admin/v1/profiles/{name}", json=body).raise_for_status()
        try:
            yield {"profile": name}
        finally:
            empty: dict[str, Any] = {"version": version + 1, "settings": {}, "reason": "e2e is over"}
            assert http.put(f"/admin/v1/profiles/{name}", json=empty).raise_for_status()


@pytest.fixture
def blocks(stack: Stack) -> Iterator[dict[str, str]]:
    with profile(stack, "e2e-blocks", BLOCKS) as guidance:
        yield guidance


def asked(prompt: str, guidance: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "model": "bestow-demo",
        "messages": [{"role": "user", "content": prompt}],
        "extra_body": {"guidance": guidance, **fields.pop("extra", {})},
        **fields,
    }


def detokenized(stack: Stack, ids: list[int]) -> str:
    reply = httpx.post(f"{stack.worker_url}/detokenize", json={"model": MODEL, "tokens": ids}, timeout=30)
    return str(reply.raise_for_status().json()["prompt"])


def policy_says(stack: Stack, prompt: str, **fields: Any) -> dict[str, Any]:
    """The worker's own answer."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "return_token_ids": True, **fields}
    reply = httpx.post(f"{stack.worker_url}/v1/chat/completions", json=body, timeout=60)
    found: dict[str, Any] = reply.raise_for_status().json()["choices"][0]
    return found


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_the_openai_client_gets_blocks_as_they_are_chosen(
    stack: Stack, many: AsyncOpenAI, blocks: dict[str, str], prompt: str, report: Callable[[str], None]
) -> None:
    begun, times, texts, ids, last = time.perf_counter(), [], [], list[int](), None
    request = asked(prompt, blocks, seed=11, stream=True, extra={"return_token_ids": True})
    async for chunk in await many.chat.completions.create(**request):
        [choice] = chunk.choices
        ids += getattr(choice, "token_ids", None) or []
        if choice.delta.content:
            times.append(time.perf_counter() - begun)
            texts.append(choice.delta.content)
        last = chunk
    assert last is not None and last.choices[0].finish_reason in ("stop", "length")
    receipt = last.model_extra["guidance"]
    assert (receipt["strategy"], receipt["sampled"], receipt["safe"]) == ("blockwise", 1, 1)
    assert "".join(texts) == detokenized(stack, ids).removesuffix("<|im_end|>")
    if len(ids) > 2 * BLOCKS["options"]["block_tokens"]:
        assert len(texts) >= 3
    report(
        f"blockwise, 4 x 6 tokens a block: first text after {times[0]:.2f} s, {len(ids)} tokens in {times[-1]:.2f} s"
    )
    held = await many.chat.completions.create(**asked(prompt, blocks, seed=11))
    assert held.choices[0].message.content == "".join(texts)


@pytest.mark.parametrize("prompt", PROMPTS[1:])
def test_one_block_at_a_time_is_the_policys_own_greedy_answer(
    stack: Stack, client: OpenAI, blocks: dict[str, str], prompt: str
) -> None:
    expected = policy_says(stack, prompt, temperature=0, max_tokens=60)
    found = client.chat.completions.create(
        **asked(prompt, {**blocks, "n": 1}, max_tokens=60, extra={**GREEDY, "return_token_ids": True})
    ).choices[0]
    assert found.message.content == expected["message"]["content"]
    assert found.model_extra["token_ids"] == expected["token_ids"]
    assert found.finish_reason == expected["finish_reason"]


def test_text_completions_and_responses_stream_blocks(stack: Stack, client: OpenAI, blocks: dict[str, str]) -> None:
    text = {"model": "bestow-demo", "prompt": "To keep a houseplant healthy, ", "seed": 5, "max_tokens": 40}
    parts = [
        chunk.choices[0].text
        for chunk in client.completions.create(**text, stream=True, extra_body={"guidance": blocks})  # type: ignore[call-overload]
    ]
    whole = client.completions.create(**text, extra_body={"guidance": blocks})  # type: ignore[call-overload]
    assert "".join(parts) == whole.choices[0].text and sum(map(bool, parts)) > 2
    events = list(
        client.responses.create(
            model="bestow-demo", input=PROMPTS[0], stream=True, store=False, extra_body={"guidance": blocks}
        )
    )
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert events[-1].type == "response.completed"
    assert len(deltas) > 2 and "".join(deltas) == events[-1].response.output_text


def test_a_request_with_tools_is_answered_in_blocks_and_one_with_a_grammar_is_not(
    stack: Stack, client: OpenAI, blocks: dict[str, str]
) -> None:
    with client.chat.completions.with_streaming_response.create(
        **asked(PROMPTS[0], blocks, tools=[TOOL], stream=True, seed=2)
    ) as reply:
        frames = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: {")]
    texts = [choice["delta"].get("content") for frame in frames for choice in frame["choices"]]
    assert sum(map(bool, texts)) >= 2
    form = {"type": "json_schema", "json_schema": {"name": "yes", "schema": {"const": "yes"}}}
    answer = client.chat.completions.create(**asked(PROMPTS[0], blocks, response_format=form))
    assert answer.choices[0].message.content == '"yes"'
    assert answer.model_extra["guidance"]["sampled"] == 4


def test_a_stop_string_ends_the_answer_wherever_blocks_begin(
    stack: Stack, client: OpenAI, blocks: dict[str, str]
) -> None:
    greedy, prompt = {**blocks, "n": 1}, PROMPTS[1]
    whole = client.chat.completions.create(**asked(prompt, greedy, extra=GREEDY)).choices[0].message.content
    assert whole is not None and len(whole) > 20
    for start in range(4, len(whole) - 6, 5):
        stop = whole[start : start + 6]
        found = client.chat.completions.create(**asked(prompt, greedy, extra=GREEDY, stop=[stop])).choices[0]
        assert found.message.content == whole[: whole.index(stop)]
        assert found.finish_reason == "stop"
        expected = policy_says(stack, prompt, temperature=0, stop=[stop], max_tokens=96)
        assert expected["message"]["content"] == found.message.content


@asynccontextmanager
async def reading(stack: Stack, path: str, **fields: Any) -> AsyncIterator[Callable[..., Reading]]:
    async with aiohttp.ClientSession() as session:
        worker = WorkerClient(stack.worker_url, session)
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **fields}
        if path == COMPLETIONS_PATH:
            body = {"model": MODEL, "prompt": "hi"}
        ids = await worker.prompt_ids(body)

        def reads(*, plain: bool = False) -> Reading:
            return Reading(
                body,
                path,
                ids,
                lambda path, question: worker.derender(path, {**question, "model": MODEL}),
                lambda tokens: worker.detokenize(MODEL, tokens),
                plain,
            )

        yield reads


def ids_of(stack: Stack, text: str) -> list[int]:
    body = {"model": MODEL, "prompt": text, "add_special_tokens": False}
    found: list[int] = httpx.post(f"{stack.worker_url}/tokenize", json=body, timeout=30).json()["tokens"]
    return found


async def grown(reading: Reading, ids: list[int], size: int) -> dict[str, Any]:
    """The message that a stream of blocks of that size adds up to."""
    growth, out = reading.growth(), Accumulator()
    for start in range(0, len(ids), size):
        ended = "stop" if start + size >= len(ids) else None
        out.add(Part(0, await growth.add(ids[start : start + size], ended), None, None, 0))
    return out.message


@pytest.mark.parametrize("plain", [False, True], ids=["derender", "detokenize"])
@pytest.mark.parametrize("path", [CHAT_PATH, COMPLETIONS_PATH])
@pytest.mark.parametrize("size", [1, 3])
async def test_characters_of_several_tokens_are_whole_in_every_delta(
    stack: Stack, path: str, size: int, plain: bool
) -> None:
    text = "It is 日本 \U0001f600\U0001f680 today"
    ids = ids_of(stack, text)
    assert len(ids) > 15
    async with reading(stack, path) as reads:
        reader = reads(plain=plain)
        [whole] = await reader.messages([ids])
        assert whole["content"] == text
        assert (await grown(reader, ids, size))["content"] == text
        for end in range(1, len(ids)):
            [part] = await reader.messages([ids[:end]])
            assert text.startswith(part["content"])


@pytest.mark.parametrize("size", [1, 4, 7, 100])
async def test_a_tool_call_in_blocks_is_read_by_the_workers_parser(stack: Stack, size: int) -> None:
    said = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "rome"}}\n</tool_call>'
    ids = ids_of(stack, said)
    async with reading(stack, CHAT_PATH, tools=[TOOL]) as reads:
        [message] = await reads().messages([ids])
        for found in (message, await grown(reads(), ids, size)):
            [call] = found["tool_calls"]
            assert call["function"]["name"] == "get_weather"
            assert json.loads(call["function"]["arguments"]) == {"city": "rome"}
            assert not (found.get("content") or "").strip()


@pytest.mark.parametrize("size", [1, 4, 7, 100])
async def test_reasoning_in_blocks_is_read_by_the_workers_parser(stack: Stack, size: int) -> None:
    ids = ids_of(stack, "<think>\nlet me see what it is\n</think>\n\nIt is sunny.")
    async with reading(stack, CHAT_PATH, chat_template_kwargs={"enable_thinking": True}) as reads:
        [message] = await reads().messages([ids])
        for found in (message, await grown(reads(), ids, size)):
            assert found["reasoning"].strip() == "let me see what it is"
            assert found["content"].strip() == "It is sunny."


def test_steps_are_searched_by_a_process_reward_model(
    stack: Stack, client: OpenAI, tmp_path: Path, report: Callable[[str], None]
) -> None:
    folder = make_step_model(tmp_path / "steps")
    scorer = {"kind": "process", "model": str(folder), "separator": ". ", "step_token": STEP_TOKEN}
    search = {
        **{key: value for key, value in BLOCKS.items() if key != "stream_mode"},
        "strategy": "step_search",
        "options": {"separator": ". ", "beams": 2, "aggregate": "min"},
        "reward": "e2e-steps",
    }
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        http.put("/admin/v1/scorers/e2e-steps", json={"settings": scorer, "reason": "e2e"}).raise_for_status()
        try:
            with profile(stack, "e2e-search", search) as guidance:
                for prompt in PROMPTS:
                    answer = client.chat.completions.create(
                        **asked(prompt, {**guidance, "return_candidates": True}, seed=1)
                    )
                    receipt = answer.model_extra["guidance"]
                    assert (receipt["strategy"], receipt["reward_model"]) == ("step_search", "e2e-steps@1")
                    assert receipt["degraded"] is None
                    rewards = {one["index"]: one["reward"] for one in receipt["candidates"]}
                    assert receipt["reward"] == max(rewards.values())
                    for one in receipt["candidates"]:
                        [score] = one["scores"].values()
                        assert one["reward"] == pytest.approx(min(score["steps"]), abs=1e-4)
                    report(
                        f"step search, 2 beams of 2: {len(rewards)} answers, "
                        f"{receipt['usage']['completion_tokens']} tokens for {answer.usage.completion_tokens}"
                    )
        finally:
            http.delete("/admin/v1/scorers/e2e-steps").raise_for_status()
