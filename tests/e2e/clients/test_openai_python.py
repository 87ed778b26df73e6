"""openai's client for Python: answers, streams, headers, errors. It speaks to Bestow as it speaks to OpenAI."""

import time
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.e2e.clients.ask import MODEL, QUESTION, THOUGHT_THEN_ANSWER, guidance, strictly
from tests.e2e.gateways import second_gateway
from tests.e2e.stack import Stack
from training.demo.prompts import inviting_prompts

ASKED: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "seed": 5}


def joined(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == 0)


def test_an_answer_is_of_openais_type(client: OpenAI) -> None:
    answer = strictly(client.chat.completions.create(**ASKED))
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert abs(answer.created - time.time()) < 60
    [choice] = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.message.refusal is choice.message.tool_calls is None
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_the_async_client_gets_the_same_answer_and_stream(client: OpenAI, many: AsyncOpenAI) -> None:
    answer = client.chat.completions.create(**ASKED)
    other = strictly(await many.chat.completions.create(**ASKED))
    assert other.choices[0].message.content == answer.choices[0].message.content
    chunks = [chunk async for chunk in await many.chat.completions.create(**ASKED, stream=True)]
    assert joined(chunks) == answer.choices[0].message.content
    async with many.chat.completions.stream(**ASKED) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == answer.choices[0].message.content


def test_every_chunk_is_of_openais_type_and_the_receipt_rides_on_the_last_choice(client: OpenAI) -> None:
    stream = client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
    chunks = [strictly(chunk) for chunk in stream]
    answer = client.chat.completions.create(**ASKED)
    assert joined(chunks) == answer.choices[0].message.content
    assert {(chunk.id, chunk.model) for chunk in chunks} == {(chunks[0].id, MODEL)}
    assert chunks[0].choices[0].delta.role == "assistant"
    *_, finished, usage = chunks
    assert finished.choices[0].finish_reason == answer.choices[0].finish_reason
    assert guidance(finished)["chosen"] == guidance(answer)["chosen"]
    assert usage.choices == []
    assert usage.usage is not None and answer.usage is not None
    assert usage.usage.completion_tokens == answer.usage.completion_tokens


def test_logprobs_belong_to_the_delivered_choice(client: OpenAI) -> None:
    answer = strictly(client.chat.completions.create(**ASKED, logprobs=True, top_logprobs=2))
    [choice] = answer.choices
    assert choice.logprobs is not None and choice.logprobs.content is not None
    said = b"".join(bytes(one.bytes or []) for one in choice.logprobs.content).decode()
    assert said.removesuffix("<|im_end|>") == choice.message.content
    assert all(len(one.top_logprobs) >= 2 for one in choice.logprobs.content)


def test_n_choices_are_the_best_in_order(client: OpenAI) -> None:
    extra = {"guidance": {"n": 6, "return_candidates": True}}
    answer = strictly(client.chat.completions.create(**ASKED, n=3, extra_body=extra))
    receipt = guidance(answer)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert receipt["sampled"] == 6
    safe = sorted((one for one in receipt["candidates"] if one["safe"]), key=lambda one: -one["reward"])
    assert [choice.message.content for choice in answer.choices] == [one["message"]["content"] for one in safe[:3]]


def test_bestows_own_fields_go_in_extra_body(client: OpenAI) -> None:
    one = client.chat.completions.create(**ASKED, extra_body={"guidance": {"n": 2}})
    assert guidance(one)["sampled"] == 2
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**ASKED, extra_body={"guidance": {"n": 99}})
    assert refused.value.param == "guidance.n"


def test_reasoning_comes_apart_from_the_answer(client: OpenAI) -> None:
    message = strictly(client.chat.completions.create(**ASKED, extra_body=THOUGHT_THEN_ANSWER)).choices[0].message
    assert message.content is not None and message.content.startswith("It is ")
    fields = message.to_dict()
    assert str(fields["reasoning"]).startswith("It is ")
    with client.chat.completions.create(**ASKED, extra_body=THOUGHT_THEN_ANSWER, stream=True) as stream:
        deltas = [strictly(chunk).choices[0].delta.to_dict() for chunk in stream if chunk.choices]
    assert "".join(str(delta.get("reasoning") or "") for delta in deltas) == fields["reasoning"]
    assert "".join(str(delta.get("content") or "") for delta in deltas) == message.content
    assert "<think>" not in f"{fields}{deltas}"


def test_the_raw_response_has_the_receipt_in_its_headers(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**ASKED)
    answer = raw.parse()
    assert raw.request_id == answer.id == raw.headers["x-request-id"]
    assert answer._request_id == answer.id
    assert raw.headers["x-bestow-profile"] == guidance(answer)["profile"]
    assert raw.headers["x-bestow-candidates"] == "8"
    assert float(raw.headers["x-bestow-overhead-ms"]) >= 0


def test_a_streaming_response_can_be_read_line_by_line(client: OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(**ASKED, stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-bestow-policy"] == "demo-policy@1"
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    with client.chat.completions.with_streaming_response.create(**ASKED) as response:
        whole = ChatCompletion.model_validate(response.json())
    assert whole.choices[0].message.content


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    listed = client.models.list()
    assert MODEL in [strictly(model).id for model in listed]
    assert strictly(client.models.retrieve(MODEL)).owned_by == "bestow"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


@pytest.mark.parametrize(
    ("fields", "error", "code", "param"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found", "model"),
        ({"messages": []}, openai.BadRequestError, "invalid_request", "messages"),
        ({"temperature": 9}, openai.BadRequestError, None, "temperature"),
        ({"max_tokens": 100_000}, openai.BadRequestError, None, "max_tokens"),
        (
            {"messages": [{"role": "user", "content": "water " * 4000}]},
            openai.BadRequestError,
            "context_length_exceeded",
            "messages",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_mistake_is_the_clients_own_error_class_at_once(
    stack: Stack, fields: dict[str, Any], error: type[openai.APIStatusError], code: str | None, param: str, stream: bool
) -> None:
    sent: list[object] = []
    with OpenAI(base_url=f"{stack.url}/v1", api_key="none needed", max_retries=3) as retrying:
        retrying._client.event_hooks["request"].append(sent.append)
        with pytest.raises(error) as caught:
            retrying.chat.completions.create(**{**ASKED, **fields}, stream=stream)
    assert len(sent) == 1, "it was asked again although that is no use"
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert isinstance(caught.value.code, str)
    assert code in (None, caught.value.code)
    assert caught.value.request_id
    assert param.split(".")[0] in caught.value.message


def test_the_client_asks_again_where_that_can_help(stack: Stack, tmp_path: Path) -> None:
    def without_a_worker(config: Any) -> None:
        config["policies"]["demo-policy"]["workers"] = [{"url": "http://127.0.0.1:9"}]

    sent: list[object] = []
    with (
        second_gateway(stack, tmp_path, without_a_worker) as url,
        OpenAI(base_url=f"{url}/v1", api_key="none needed", max_retries=1) as retrying,
    ):
        retrying._client.event_hooks["request"].append(sent.append)
        with pytest.raises(openai.InternalServerError) as caught:
            retrying.chat.completions.create(**ASKED)
    assert (caught.value.status_code, caught.value.code) == (503, "unavailable")
    assert caught.value.response.headers["retry-after"]
    assert len(sent) == 2


def test_an_unknown_path_is_a_not_found_error(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.moderations.create(input="hello")
    assert isinstance(caught.value.body, dict)
    assert set(caught.value.body) == {"message", "type", "param", "code"}


def test_a_client_that_gives_up_says_so_and_leaves_the_gateway_well(client: OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.02).chat.completions.create(**ASKED)
    assert client.chat.completions.create(**ASKED).choices[0].message.content


def test_a_refusal_is_what_the_clients_helpers_take_for_one(client: OpenAI) -> None:
    for messages in inviting_prompts(20, seed=5):
        asked: dict[str, Any] = {**ASKED, "messages": list(messages)}
        answer = strictly(client.chat.completions.create(**asked))
        if answer.choices[0].finish_reason == "content_filter":
            break
    else:
        raise AssertionError("no prompt was refused")
    with pytest.raises(openai.ContentFilterFinishReasonError):
        client.chat.completions.parse(**asked)
