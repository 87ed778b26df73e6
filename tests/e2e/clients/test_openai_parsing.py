"""`.parse()` and the streaming helper of openai's client for Python: schemas, events, the final completion."""

from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, ConfigDict, Field

from tests.e2e.clients.ask import MODEL, NO_SPACES, PERSON, QUESTION, guidance, strictly

ASKED: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "seed": 3, "logit_bias": NO_SPACES}


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Literal["Ann", "Bob"]
    age: int = Field(ge=1, le=99)


def test_an_answer_is_parsed_into_a_class(client: OpenAI) -> None:
    answer = client.chat.completions.parse(**ASKED, response_format=Person)
    person = answer.choices[0].message.parsed
    assert isinstance(person, Person)
    assert answer.choices[0].finish_reason == "stop"
    assert guidance(answer)["scored"] == 8


async def test_the_async_client_parses_too(many: AsyncOpenAI) -> None:
    answer = await many.chat.completions.parse(**ASKED, response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)


@pytest.mark.parametrize(
    "asked_form",
    [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "person", "strict": True, "schema": PERSON},
            }
        },
        {"extra_body": {"structured_outputs": {"json": PERSON}}},
    ],
)
def test_a_schema_is_kept_whichever_field_asks_for_it(client: OpenAI, asked_form: dict[str, Any]) -> None:
    answer = strictly(client.chat.completions.create(**ASKED, **asked_form))
    assert Person.model_validate_json(answer.choices[0].message.content or "")


def test_the_streaming_helper_tells_each_step_and_ends_with_the_same_answer(client: OpenAI) -> None:
    whole = client.chat.completions.parse(**ASKED, response_format=Person)
    with client.chat.completions.stream(**ASKED, response_format=Person) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    kinds = [event.type for event in events]
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    [done] = [event for event in events if event.type == "content.done"]
    assert done.parsed == final.choices[0].message.parsed == whole.choices[0].message.parsed
    deltas = "".join(event.delta for event in events if event.type == "content.delta")
    assert deltas == done.content == whole.choices[0].message.content
    # The helper drops what it does not know from its final completion; the chunks have it.
    receipts = [event.chunk for event in events if event.type == "chunk" and "guidance" in event.chunk.to_dict()]
    assert [guidance(chunk)["chosen"] for chunk in receipts] == [guidance(whole)["chosen"]]
    assert final.choices[0].finish_reason == "stop"


def test_the_streaming_helper_gathers_logprobs(client: OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=QUESTION, seed=3, logprobs=True) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    logprobs = final.choices[0].logprobs
    assert logprobs is not None and logprobs.content
    assert "logprobs.content.done" in [event.type for event in events]
    said = b"".join(bytes(one.bytes or []) for one in logprobs.content).decode()
    assert said.removesuffix("<|im_end|>") == final.choices[0].message.content


def test_an_answer_that_was_cut_is_said_to_be(client: OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError) as caught:
        client.chat.completions.parse(**ASKED, max_tokens=2, response_format=Person)
    assert caught.value.completion.usage is not None
    assert caught.value.completion.usage.completion_tokens == 2
