"""Text completions with the official client, on the real stack."""

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI
from openai.types import Completion
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.records import Interaction
from gateway.profile_settings import ProfileConfig
from tests.e2e.gateways import second_gateway
from tests.e2e.stack import Stack
from tests.openai_spec.validators import strict_model, validate
from training.demo.prompts import inviting_prompts

MODEL = "bestow-demo"
PROMPT = "To keep a houseplant healthy, "
PROMPTS = [PROMPT, "The best time to water a garden is ", "A good way to learn cooking is "]


def ask(client: OpenAI, prompt: Any = PROMPT, **fields: Any) -> Completion:
    answer: Completion = client.completions.create(model=MODEL, prompt=prompt, max_tokens=24, **fields)
    validate("CreateCompletionResponse", answer.to_dict(mode="json"))
    strict_model(Completion, answer.to_dict(mode="json"))
    return answer


def receipt(answer: Completion) -> dict[str, Any]:
    found: dict[str, Any] = answer.to_dict()["guidance"]  # type: ignore[assignment]
    return found


async def post(url: str, body: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(timeout=120) as http:
        return await http.post(url, json=body)


async def logged(redis: Redis, identifier: str) -> Interaction:
    """The record of an answer, waiting until it lands."""
    wanted = "chatcmpl-" + identifier.removeprefix("cmpl-")
    for _ in range(100):
        async for one in streams.interactions(redis, "0").after():
            if one.record.id == wanted:
                return one.record
        await asyncio.sleep(0.1)
    raise AssertionError(f"{wanted} never reached the log")


@pytest.fixture(scope="module")
def plain(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway with one model, `plain`, of one sample and no guard: what the worker says is what the client gets."""

    def change(config: dict[str, Any]) -> None:
        profile = ProfileConfig(n=1, reward=None, safety=None, max_tokens=24, max_tokens_limit=256)
        config["profiles"]["plain"] = profile.model_dump(mode="json")
        config["models"]["plain"] = {"policy": "demo-policy", "profile": "plain"}

    with second_gateway(stack, tmp_path_factory.mktemp("plain"), change) as url:
        yield url


async def test_a_completion_is_the_best_of_n_is_logged_and_takes_feedback(
    client: OpenAI, stack: Stack, redis: Redis
) -> None:
    answer = ask(client, n=2, seed=3, logprobs=2, user="ann")
    assert answer.id.startswith("cmpl-")
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert receipt(answer)["sampled"] == receipt(answer)["scored"] == 8
    record = await logged(redis, answer.id)
    assert (record.endpoint, record.outcome) == ("completions", "delivered")
    assert record.messages == [{"role": "user", "content": PROMPT}]
    said = [str(record.candidates[position].message["content"]) for position in record.delivered]
    assert said == [choice.text for choice in answer.choices]
    for choice in answer.choices:
        # Log-probabilities are the delivered choice's own.
        assert choice.logprobs is not None
        assert choice.logprobs.tokens is not None
        assert "".join(choice.logprobs.tokens).startswith(choice.text)
    vote = {"id": answer.id, "kind": "thumbs", "value": True}
    assert (await post(f"{stack.url}/v1/feedback", vote)).status_code == 202


def test_a_stream_is_the_unary_answer_of_the_same_seed(client: OpenAI) -> None:
    unary = ask(client, n=2, seed=7, logprobs=1)
    with client.completions.create(
        model=MODEL,
        prompt=PROMPT,
        max_tokens=24,
        n=2,
        seed=7,
        logprobs=1,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    for chunk in chunks:
        validate("CreateCompletionResponse", chunk.to_dict(mode="json"))
    assert [choice for chunk in chunks for choice in chunk.choices] == unary.choices
    assert chunks[-1].usage == unary.usage
    [carrier] = [chunk for chunk in chunks if "guidance" in chunk.to_dict()]
    assert receipt(carrier)["chosen"] == receipt(unary)["chosen"]


async def test_several_prompts_are_answered_each_in_its_place(client: OpenAI, redis: Redis) -> None:
    answer = ask(client, PROMPTS, n=2)
    receipts = receipt(answer)["prompts"]
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert receipts[0]["id"] == answer.id
    for number, prompt in enumerate(PROMPTS):
        record = await logged(redis, receipts[number]["id"])
        assert record.messages == [{"role": "user", "content": prompt}]
        said = [record.candidates[position].message["content"] for position in record.delivered]
        assert said == [choice.text for choice in answer.choices[2 * number : 2 * number + 2]]


async def test_token_ids_are_answered_as_their_text_is_and_logged_as_text(
    client: OpenAI, stack: Stack, redis: Redis
) -> None:
    asked = {"model": MODEL, "prompt": PROMPT}
    tokens = (await post(f"{stack.url}/tokenize", asked)).json()["tokens"]
    as_text = ask(client, temperature=0, extra_body={"return_token_ids": True})
    as_ids = ask(client, [tokens, tokens], temperature=0)
    assert {choice.text for choice in as_ids.choices} == {as_text.choices[0].text}
    assert as_text.choices[0].to_dict()["prompt_token_ids"] == tokens
    assert (await logged(redis, as_ids.id)).messages == [{"role": "user", "content": PROMPT}]


def test_an_unsafe_prompt_is_refused_and_its_neighbour_answered(client: OpenAI) -> None:
    refused = 0
    for messages in inviting_prompts(10, seed=5):
        answer = ask(client, [str(messages[-1]["content"]), PROMPT])
        mine, other = receipt(answer)["prompts"]
        if mine["refused"] == "prompt":
            refused += 1
            assert mine["sampled"] == 0
            assert answer.choices[0].finish_reason == "content_filter"
            assert other["sampled"] >= 8
    assert refused >= 3


def test_an_unknown_token_id_is_the_clients_mistake(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="out of vocabulary"):
        ask(client, [5, 99_999_999])


def test_an_echo_needs_an_unguarded_profile(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="echo"):
        ask(client, echo=True)


ECHOES: dict[str, dict[str, Any]] = {
    "echo": {"echo": True},
    "echo of ids": {"echo": True, "prompt": [261, 285, 81, 1247]},
    "echo with logprobs": {"echo": True, "logprobs": 2},
    "only the prompt": {"echo": True, "logprobs": 1, "max_tokens": 0},
    "token ids": {"return_token_ids": True, "logprobs": 0},
    "logprobs of the prompt": {"prompt_logprobs": 1},
    "stop": {"stop": ["e"], "max_tokens": 40},
}


@pytest.mark.parametrize("name", ECHOES)
async def test_one_unguarded_sample_is_what_the_bare_worker_says(plain: str, stack: Stack, name: str) -> None:
    body = {"model": "demo-policy", "prompt": PROMPT, "max_tokens": 12, "temperature": 0} | ECHOES[name]
    bare = (await post(f"{stack.worker_url}/v1/completions", body)).json()
    ours = (await post(f"{plain}/v1/completions", body | {"model": "plain"})).json()
    streamed = []
    for mode in ("hold", "first"):
        asked = {"model": "plain", "stream": True, "guidance": {"stream_mode": mode}}
        streamed.append(together((await post(f"{plain}/v1/completions", body | asked)).text))
    assert ours["choices"] == [without_nulls(choice, body) for choice in bare["choices"]]
    assert ours["usage"]["prompt_tokens"] == bare["usage"]["prompt_tokens"]
    for stream in streamed:
        assert stream == ours["choices"][0]


def without_nulls(choice: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """A choice of vLLM's, which also says the prompt's log-probabilities when only an echo was asked for."""
    kept = copy.deepcopy(choice)
    if "prompt_logprobs" not in asked:
        kept.pop("prompt_logprobs")
    return {key: value for key, value in kept.items() if value is not None or key == "logprobs"}


def together(text: str) -> dict[str, Any]:
    """The one choice of a stream, put together."""
    found: dict[str, Any] = {"index": 0, "text": "", "logprobs": None, "finish_reason": None}
    for line in text.splitlines():
        if not line.startswith("data: {"):
            continue
        for choice in httpx.Response(200, text=line[6:]).json()["choices"]:
            for key, value in choice.items():
                if key in ("text", "token_ids"):
                    found[key] = found.get(key, type(value)()) + value
                elif key == "logprobs" and value and found["logprobs"]:
                    for field, more in value.items():
                        found["logprobs"][field] += more
                elif value is not None:
                    found[key] = value
    return found


def test_nothing_else_of_the_workers_is_reachable(stack: Stack) -> None:
    served = {"/v1/chat/completions", "/v1/completions", "/v1/models", "/tokenize", "/detokenize", "/metrics"}
    paths = httpx.get(f"{stack.worker_url}/openapi.json").json()["paths"]
    others = [path for path in paths if path not in served and not path.startswith("/v1/responses")]
    assert len(others) >= 8
    for path in others:
        for method in paths[path]:
            reply = httpx.request(method, stack.url + path, json={})
            assert reply.status_code == 404, (method, path)
            assert reply.json()["error"]["code"] == "not_found"
