"""What a newcomer does first, with the official client."""

from typing import Any, cast

import httpx
import pytest
from openai import APIStatusError, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from tests.e2e.stack import Stack
from training.demo.prompts import inviting_prompts

MODEL = "bestow-demo"
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How do I keep a houseplant healthy?"}]


def ask(client: OpenAI, **fields: Any) -> ChatCompletion:
    answer: ChatCompletion = client.chat.completions.create(model=MODEL, messages=QUESTION, **fields)
    return answer


def test_models_lists_the_public_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "bestow"


def test_an_answer_comes_with_its_receipt(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    receipt = answer.model_dump()["guidance"]
    assert receipt["sampled"] == receipt["scored"] == int(raw.headers["x-bestow-candidates"]) == 8
    assert receipt["usage"]["completion_tokens"] >= answer.usage.completion_tokens > 0
    assert raw.headers["x-request-id"] == answer.id
    assert raw.headers["x-bestow-policy"] == receipt["policy"] == "demo-policy@1"
    assert raw.headers["x-bestow-reward-model"] == receipt["reward_model"] == "reward@1"
    assert float(raw.headers["x-bestow-reward"]) == pytest.approx(receipt["reward"], rel=1e-4)
    assert receipt["degraded"] is None


def test_the_choice_is_the_safe_candidate_of_the_highest_reward(client: OpenAI) -> None:
    answer = ask(client, extra_body={"guidance": {"return_candidates": True}})
    receipt = answer.model_dump()["guidance"]
    safe = [one for one in receipt["candidates"] if one["safe"]]
    best = max(safe, key=lambda one: one["reward"])
    assert answer.choices[0].message.content == best["message"]["content"]
    assert receipt["chosen"] == best["index"]
    assert len({one["message"]["content"] for one in safe}) > 1


def test_a_stream_is_the_same_as_the_unary_answer_of_the_same_seed(client: OpenAI) -> None:
    whole = ask(client, seed=7, n=2)
    contents = {0: "", 1: ""}
    guidance = None
    usage = None
    with client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        seed=7,
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                contents[choice.index] += choice.delta.content or ""
            guidance = chunk.model_dump().get("guidance") or guidance
    assert [contents[0], contents[1]] == [choice.message.content for choice in whole.choices]
    assert guidance is not None
    assert guidance["chosen"] == whole.model_dump()["guidance"]["chosen"]
    assert usage == whole.usage


def test_a_seed_gives_candidate_i_the_seed_plus_i(client: OpenAI) -> None:
    together = ask(client, seed=100, extra_body={"guidance": {"n": 4, "return_candidates": True}})
    texts = [one["message"] and one["message"]["content"] for one in together.model_dump()["guidance"]["candidates"]]
    alone = [ask(client, seed=100 + i, extra_body={"guidance": {"n": 1}}).choices[0].message.content for i in range(4)]
    assert [text for text in texts if text] == [one for text, one in zip(texts, alone, strict=True) if text]


def test_temperature_zero_samples_one_candidate(client: OpenAI) -> None:
    answer = ask(client, temperature=0)
    receipt = answer.model_dump()["guidance"]
    assert (receipt["strategy"], receipt["sampled"], receipt["degraded"]) == ("greedy", 1, None)
    assert ask(client, temperature=0).choices[0].message.content == answer.choices[0].message.content


def test_an_unsafe_prompt_is_refused_without_sampling(client: OpenAI) -> None:
    refusals = 0
    for messages in inviting_prompts(20, seed=5):
        asked = cast(list[ChatCompletionMessageParam], messages)
        answer = client.chat.completions.create(model=MODEL, messages=asked)
        receipt = answer.model_dump()["guidance"]
        if receipt["refused"] == "prompt":
            refusals += 1
            assert receipt["sampled"] == 0
            assert answer.choices[0].finish_reason == "content_filter"
            assert answer.choices[0].message.content
    assert refusals >= 10


BAD = [
    ({"model": "no-such-model"}, 404, "model"),
    ({"messages": []}, 400, "messages"),
    ({"messages": "hi"}, 400, "messages"),
    ({"n": 0}, 400, "n"),
    ({"n": 1000}, 400, "n"),
    ({"guidance": {"n": 0}}, 400, "guidance.n"),
    ({"guidance": {"n": 17}}, 400, "guidance.n"),
    ({"temperature": "hot"}, 400, "temperature"),
    ({"temperature": 9}, 400, "temperature"),
    ({"top_p": -1}, 400, "top_p"),
    ({"max_tokens": 100_000}, 400, "max_tokens"),
    ({"messages": [{"role": "user", "content": "many words " * 4000}]}, 400, "messages"),
]


@pytest.mark.parametrize(("change", "status", "param"), BAD)
def test_bad_input_is_a_clear_error_and_the_connection_lives(
    stack: Stack, change: dict[str, object], status: int, param: str
) -> None:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        reply = http.post("/v1/chat/completions", json={"model": MODEL, "messages": QUESTION, **change})
        error = reply.json()["error"]
        assert (reply.status_code, error["param"]) == (status, param)
        assert error["message"]
        assert reply.headers["x-request-id"]
        assert http.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b'{"model":', 400),
        (b"\xff\xfe\x00", 400),
        (b"[" * 100_000, 400),
        (b'{"a":"' + b"x" * 20_000_000, 413),
    ],
)
def test_bytes_that_are_no_request_harm_nothing(stack: Stack, raw: bytes, status: int) -> None:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        reply = http.post("/v1/chat/completions", content=raw)
        assert reply.status_code == status
        assert reply.json()["error"]["type"] == "invalid_request_error"
        assert http.get("/healthz").status_code == 200


def test_the_official_client_raises_its_own_errors(client: OpenAI) -> None:
    with pytest.raises(APIStatusError) as caught:
        client.chat.completions.create(model="no-such-model", messages=QUESTION)
    assert caught.value.status_code == 404
    assert "bestow-demo" in str(caught.value)
