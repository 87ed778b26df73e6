"""Log-probabilities in the log, on real vLLM: clients see no difference, and they are the policy's own."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI
from openai.types.chat import ChatCompletion
from redis.asyncio import Redis

from gateway.ids import interaction_id
from gateway.log import streams
from gateway.log.records import CandidateRecord, Interaction
from tests.e2e.gateways import second_gateway
from tests.e2e.stack import Stack
from tests.e2e.test_blockwise import BLOCKS, MODEL, PROMPTS, policy_says, profile

# The policy computes in bfloat16, and how many sequences it computes at once changes the last bits.
TOLERANCE = 0.1
SAMPLING: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 32}


@pytest.fixture(scope="module")
def logging(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    """A client of a gateway that logs them; the stack's own does not."""

    def on(config: Any) -> None:
        config["log"] = {**config.get("log", {}), "logprobs": True}

    with (
        second_gateway(stack, tmp_path_factory.mktemp("logging"), on) as url,
        OpenAI(base_url=f"{url}/v1", api_key="none needed", max_retries=0) as client,
    ):
        yield client


async def logged(redis: Redis, identifier: str) -> Interaction:
    name = interaction_id(identifier)
    assert name is not None
    for _ in range(200):
        if (found := await streams.interactions(redis, "0").find(name)) is not None:
            return found.record
        await asyncio.sleep(0.05)
    raise AssertionError(f"{identifier} is not in the log")


def asked(prompt: str, seed: int, guidance: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "model": "bestow-demo",
        "messages": [{"role": "user", "content": prompt}],
        "seed": seed,
        **SAMPLING,
        "extra_body": {"guidance": guidance, "return_token_ids": True},
        **fields,
    }


def teacher_forced(stack: Stack, prompt: str, candidate: CandidateRecord) -> list[float]:
    """What the policy gives for each of the candidate's tokens when it is made to say them."""
    with httpx.Client(base_url=stack.worker_url, timeout=60) as http:
        messages = [{"role": "user", "content": prompt}]
        ids = http.post("/tokenize", json={"model": MODEL, "messages": messages}).raise_for_status().json()["tokens"]
        whole = [*ids, *(candidate.token_ids or [])]
        body = {"model": MODEL, "prompt": whole, "max_tokens": 1, "prompt_logprobs": 0}
        [choice] = http.post("/v1/completions", json=body).raise_for_status().json()["choices"]
    places = zip(whole, choice["prompt_logprobs"], strict=True)
    return [found[str(token)]["logprob"] for token, found in list(places)[len(ids) :]]


@pytest.mark.parametrize(("prompt", "seed"), list(zip(PROMPTS, (3, 17, 40, 91), strict=True)))
async def test_what_is_logged_is_what_the_worker_says_of_the_same_seed(
    stack: Stack, client: OpenAI, logging: OpenAI, redis: Redis, prompt: str, seed: int, report: Callable[[str], None]
) -> None:
    plain = client.chat.completions.create(**asked(prompt, seed, {"n": 4}))
    found = logging.chat.completions.create(**asked(prompt, seed, {"n": 4}))
    assert without_its_own(found) == without_its_own(plain)
    assert found.choices[0].logprobs is None
    record = await logged(redis, found.id)
    [chosen] = [one for one in record.candidates if one.index == record.chosen]
    assert [one.index for one in record.candidates if one.logprobs] == [chosen.index]
    direct = policy_says(stack, prompt, logprobs=True, seed=seed + chosen.index, **SAMPLING)
    assert chosen.token_ids == direct["token_ids"]
    assert chosen.logprobs == pytest.approx([one["logprob"] for one in direct["logprobs"]["content"]], abs=TOLERANCE)
    # Before temperature and top_p: what the policy itself gives for these tokens.
    forced = teacher_forced(stack, prompt, chosen)
    assert chosen.logprobs == pytest.approx(forced, abs=TOLERANCE)
    apart = max(abs(one - other) for one, other in zip(chosen.logprobs or [], forced, strict=True))
    report(f"log-probabilities of {len(forced)} tokens, logged and teacher-forced: at most {apart:.4f} apart")
    assert all(one.logprobs is None for one in (await logged(redis, plain.id)).candidates)


def without_its_own(answer: ChatCompletion) -> dict[str, Any]:
    """The choices and what they cost: not ids, times and tokens for feedback."""
    said = answer.model_dump()
    return {"choices": said["choices"], "usage": said["usage"], "chosen": said["guidance"]["chosen"]}


@pytest.mark.parametrize("mode", ["hold", "first"])
async def test_a_stream_is_the_same_and_logged_with_them(
    stack: Stack, client: OpenAI, logging: OpenAI, redis: Redis, mode: str
) -> None:
    texts = []
    for one in (client, logging):
        stream = one.chat.completions.create(**asked(PROMPTS[1], 5, {"stream_mode": mode}), stream=True)
        chunks = list(stream)
        assert all(choice.logprobs is None for chunk in chunks for choice in chunk.choices)
        texts.append("".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices))
        identifier = chunks[0].id
    assert texts[0] == texts[1]
    record = await logged(redis, identifier)
    [chosen] = [one for one in record.candidates if one.index == record.chosen]
    assert chosen.logprobs == pytest.approx(teacher_forced(stack, PROMPTS[1], chosen), abs=TOLERANCE)


async def test_a_text_completion_is_the_same_and_logged_with_them(
    client: OpenAI, logging: OpenAI, redis: Redis
) -> None:
    fields: dict[str, Any] = {"model": "bestow-demo", "prompt": "A rainbow is", "seed": 8, "max_tokens": 24}
    plain, found = client.completions.create(**fields), logging.completions.create(**fields)
    assert [one.model_dump() for one in plain.choices] == [one.model_dump() for one in found.choices]
    record = await logged(redis, found.id)
    [chosen] = [one for one in record.candidates if one.index == record.chosen]
    assert chosen.token_ids and chosen.logprobs and len(chosen.logprobs) == len(chosen.token_ids)


async def until_known(client: OpenAI, guidance: dict[str, str]) -> None:
    """A gateway follows what another one has been told, within a second."""
    for _ in range(200):
        try:
            client.chat.completions.create(**asked("hi", 1, guidance))
        except BadRequestError:
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError(f"the gateway does not learn of {guidance}")


async def test_an_answer_of_blocks_has_those_of_all_its_blocks(stack: Stack, logging: OpenAI, redis: Redis) -> None:
    with profile(stack, "e2e-logprobs", {**BLOCKS, "stream_mode": "hold"}) as guidance:
        await until_known(logging, guidance)
        found = logging.chat.completions.create(**asked(PROMPTS[2], 21, guidance))
    record = await logged(redis, found.id)
    assert record.strategy == "blockwise" and len(record.rounds) > 1
    [chosen] = [one for one in record.candidates if one.index == record.chosen]
    assert chosen.logprobs == pytest.approx(teacher_forced(stack, PROMPTS[2], chosen), abs=TOLERANCE)
