"""What we answer keeps OpenAI's published description, strictly: whole answers, chunks and errors.

The candidates are streams of a real vLLM as it sent them (tests/openai_spec/bare_vllm), which break the description.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.access.caller import Caller
from gateway.answers import Answer, Piece
from gateway.api.answer import completion, pieces
from gateway.api.chat_stream import ChatWriter
from gateway.api.protocol import ChatRequest, parse_chat
from gateway.decoding.candidate import Candidate, Judged
from gateway.ids import new_completion_id
from gateway.log.records import Verdict
from gateway.serving import Exchange
from gateway.workers.stream import Choice, ChoiceAssembler, Part, SampleEnd
from scorers.contract import Score
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, running_gateway
from tests.openai_spec.test_validators import recorded
from tests.openai_spec.validators import strict_model, validate

STREAMS = ("chat_stream", "tool_call_stream", "two_choices_stream")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Harness]:
    async with running_gateway(tmp_path, FakeWorker(), FakeScorers(rewards=len, unsafe=frozenset({"bad"}))) as running:
        yield running


def sampled(stream: str) -> tuple[list[Choice], SampleEnd]:
    """The choices of a recorded stream, as the gateway reads them."""
    assembler = ChoiceAssembler()
    found = [item for chunk in recorded(stream) for item in assembler.feed(chunk)]
    return [item for item in found if isinstance(item, Choice)], assembler.end


def judged(choice: Choice, **message: Any) -> Judged:
    candidate = Candidate(
        index=choice.index,
        wave=0,
        seed=None,
        message={**choice.message, **message},
        finish_reason=choice.finish_reason,
        stop_reason=choice.stop_reason,
        logprobs=choice.logprobs,
        token_ids=choice.token_ids,
        completion_tokens=3,
        finished_s=0.0,
        extras=choice.extras,
    )
    scores = {"reward@1": Score(value=1.5, parts={"helpful": 1.5})}
    return Judged(candidate, 1.5, None, Verdict(categories={"insult": 0.1}), 0.0, scores=scores)


def begun(gateway: Harness, **fields: Any) -> tuple[Exchange, ChatRequest]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    request = parse_chat(json.dumps(body).encode())
    caller = Caller("default", None, frozenset({"chat"}))
    return gateway.service.begin(request, new_completion_id(), caller), request


def answer_of(exchange: Exchange, candidates: list[Judged], end: SampleEnd, **changes: Any) -> Answer:
    answer = Answer(
        id=exchange.id,
        created=int(exchange.created),
        plan=exchange.plan,
        strategy="best_of_n",
        judged=tuple(candidates),
        delivered=tuple(candidates),
        refused=None,
        begun=False,
        degraded=None,
        prompt_tokens=end.prompt_tokens,
        completion_tokens=end.completion_tokens,
        sampled_tokens=end.completion_tokens,
        usage_details=end.usage_details,
        extras=end.extras,
        reward_model="reward@1",
        safety_model="safety@1",
        second_check=None,
        noted=(),
        unjudged_passes=False,
        overhead_ms=1.0,
        feedback_token="token",
    )
    return replace(answer, **changes)


def written(exchange: Exchange, request: ChatRequest, answer: Answer, parts: list[Piece]) -> list[dict[str, Any]]:
    """The chunks of an answer streamed in `parts`."""
    writer = ChatWriter(exchange, request)
    raw = writer.begin() + b"".join(writer.piece(part) for part in parts) + writer.end(answer)
    assert raw.endswith(b"data: [DONE]\n\n")
    return [json.loads(line[6:]) for line in raw.splitlines() if line.startswith(b"data: {")]


def keeps(completion: dict[str, Any]) -> None:
    validate("CreateChatCompletionResponse", completion)
    strict_model(ChatCompletion, completion)


def chunks_keep(chunks: list[dict[str, Any]]) -> None:
    assert chunks
    for chunk in chunks:
        validate("CreateChatCompletionStreamResponse", chunk)
        strict_model(ChatCompletionChunk, chunk)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("message", [{}, {"reasoning": "Hm."}, {"content": None, "refusal": "I will not."}])
@pytest.mark.parametrize(
    "fields",
    [{}, {"return_token_ids": True, "guidance": {"return_candidates": True}}],
    ids=["plain", "all that can be asked for"],
)
async def test_a_whole_answer_keeps_the_schema(
    gateway: Harness, stream: str, message: dict[str, Any], fields: dict[str, Any]
) -> None:
    exchange, request = begun(gateway, **fields)
    choices, end = sampled(stream)
    answer = answer_of(exchange, [judged(choice, **message) for choice in choices], end)
    whole = completion(answer, request)
    keeps(whole)
    assert len(whole["choices"]) == len(choices)
    assert whole["system_fingerprint"].startswith("vllm")


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("message", [{}, {"reasoning": "Hm."}])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stream_options": {"include_usage": True}, "return_token_ids": True},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ],
    ids=["plain", "usage", "continuous usage"],
)
async def test_each_chunk_of_a_held_answer_keeps_the_schema(
    gateway: Harness, stream: str, message: dict[str, Any], fields: dict[str, Any]
) -> None:
    exchange, request = begun(gateway, stream=True, **fields)
    choices, end = sampled(stream)
    answer = answer_of(exchange, [judged(choice, **message) for choice in choices], end)
    chunks_keep(written(exchange, request, answer, list(pieces(answer))))


@pytest.mark.parametrize("stream", ["chat_stream", "tool_call_stream"])
async def test_each_chunk_of_a_live_answer_keeps_the_schema(gateway: Harness, stream: str) -> None:
    exchange, request = begun(gateway, stream=True, stream_options={"include_usage": True})
    assembler = ChoiceAssembler()
    items = [item for chunk in recorded(stream) for item in assembler.feed(chunk)]
    parts = [
        Piece(0, item.delta, item.logprobs, item.token_ids, item.tokens) for item in items if isinstance(item, Part)
    ]
    [choice] = [item for item in items if isinstance(item, Choice)]
    answer = answer_of(exchange, [judged(choice)], assembler.end)
    chunks_keep(written(exchange, request, answer, parts))


async def test_a_refusal_by_the_guard_keeps_the_schema(gateway: Harness) -> None:
    status, _, whole = await gateway.chat("bad")
    assert (status, whole["choices"][0]["finish_reason"]) == (200, "content_filter")
    keeps(whole)
    body = {"model": "m", "messages": [{"role": "user", "content": "bad"}], "stream": True}
    async with gateway.session.post("/v1/chat/completions", json=body) as reply:
        lines = (await reply.text()).splitlines()
    chunks_keep([json.loads(line[6:]) for line in lines if line.startswith("data: {")])


async def test_a_finish_reason_that_openai_does_not_know_becomes_one_that_it_does(gateway: Harness) -> None:
    exchange, request = begun(gateway)
    [choice], end = sampled("chat_stream")
    answer = answer_of(exchange, [judged(replace(choice, finish_reason="repetition"))], end)
    keeps(completion(answer, request))
    chunks_keep(written(exchange, request, answer, list(pieces(answer))))


async def test_answers_of_the_whole_gateway_keep_the_schema(gateway: Harness) -> None:
    keeps((await gateway.chat())[2])
    keeps((await gateway.chat(n=3, guidance={"return_candidates": True}))[2])
    async with gateway.session.get("/v1/models") as reply:
        validate("ListModelsResponse", await reply.json())
    async with gateway.session.get("/v1/models/m") as reply:
        validate("Model", await reply.json())


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (400, {"n": 0}),
        (400, {"temperature": "warm"}),
        (400, {"guidance": {"n": 10_000}}),
        (400, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "dict"}}}]}),
        (404, {"model": "another"}),
    ],
)
async def test_refusals_keep_the_error_schema(gateway: Harness, status: int, fields: dict[str, Any]) -> None:
    found, headers, body = await gateway.chat(**fields)
    assert found == status
    validate("ErrorResponse", body)
    assert headers["x-request-id"]


async def test_errors_of_the_transport_and_of_the_worker_keep_the_error_schema(tmp_path: Path) -> None:
    error = {"message": "no", "type": "BadRequestError", "param": None, "code": 400}
    async with running_gateway(tmp_path, FakeWorker(error=(400, error))) as gateway:
        status, _, body = await gateway.chat()
        assert status == 400
        validate("ErrorResponse", body)
        for method, path, data in (
            ("GET", "/v1/nothing", b""),
            ("DELETE", "/v1/chat/completions", b""),
            ("POST", "/v1/chat/completions", b"{"),
            ("POST", "/v1/chat/completions", b""),
        ):
            async with gateway.session.request(method, path, data=data) as reply:
                assert reply.status >= 400
                validate("ErrorResponse", await reply.json())
