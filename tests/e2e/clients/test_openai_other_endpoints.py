"""openai's client for Python on what is not chat: completions and responses."""

from typing import Any

from openai import AsyncOpenAI, OpenAI

from tests.e2e.clients.ask import MODEL, guidance, strictly

ASKED: dict[str, Any] = {"model": MODEL, "prompt": "You should water", "max_tokens": 40, "seed": 2}


def test_a_text_is_completed_by_the_best_of_n(client: OpenAI) -> None:
    answer = strictly(client.completions.create(**ASKED, n=2, extra_body={"guidance": {"return_candidates": True}}))
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].text
    receipt = guidance(answer)
    rewards = sorted((one["reward"] for one in receipt["candidates"] if one["safe"]), reverse=True)
    assert receipt["reward"] == rewards[0]


async def test_a_streamed_completion_is_the_unary_one(client: OpenAI, many: AsyncOpenAI) -> None:
    answer = client.completions.create(**ASKED)
    chunks = [strictly(chunk) for chunk in client.completions.create(**ASKED, stream=True)]
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == answer.choices[0].text
    others = [chunk async for chunk in await many.completions.create(**ASKED, stream=True)]
    assert "".join(choice.text for chunk in others for choice in chunk.choices) == answer.choices[0].text


def test_the_responses_api_answers_and_streams(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "input": "How do I keep a houseplant healthy?", "extra_body": {"seed": 2}}
    response = strictly(client.responses.create(**asked))
    assert response.output_text
    with client.responses.stream(**asked) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert text == response.output_text
