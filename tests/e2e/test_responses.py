"""The Responses API with the official client, on the real stack."""

import json
from typing import Any

import httpx
import pytest
from openai import APIStatusError, NotFoundError, OpenAI
from openai.types.responses import Response, ResponseFunctionToolCall
from pydantic import BaseModel

from tests.e2e.stack import PROJECT, Stack
from tests.gateway.api.responses.shapes import check_event, check_response

MODEL = "bestow-demo"
QUESTION = "How do I keep a houseplant healthy?"
# The demo model knows no tools: a named one with `strict` makes vLLM hold it to the schema. There it would write white
# space for ever, which JSON allows, so the tokens of white space are forbidden.
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "water",
    "description": "Waters a plant.",
    "parameters": {
        "type": "object",
        "properties": {"plant": {"type": "string", "enum": ["fern", "ficus"]}},
        "required": ["plant"],
        "additionalProperties": False,
    },
    "strict": True,
}
NAMED = {"type": "function", "name": "water"}
_VOCABULARY = json.loads((PROJECT / "training/demo/models/policy/tokenizer.json").read_text())["model"]["vocab"]
COMPACT = {"logit_bias": {str(number): -100 for token, number in _VOCABULARY.items() if set(token) <= set("ĠĊĉč")}}


class Plant(BaseModel):
    thirsty: bool


def ask(client: OpenAI, **fields: Any) -> Response:
    fields = {"input": QUESTION, **fields}
    response: Response = client.responses.create(model=MODEL, **fields)
    check_response(response.to_dict())
    return response


def test_a_response_comes_with_its_receipt(client: OpenAI) -> None:
    response = ask(client, instructions="Be kind.", temperature=0.9, metadata={"app": "garden"})
    assert response.id.startswith("resp_")
    assert response.output_text
    assert response.status in ("completed", "incomplete")
    assert (response.instructions, response.temperature, response.metadata) == ("Be kind.", 0.9, {"app": "garden"})
    assert response.usage is not None
    assert response.usage.output_tokens > 0
    receipt = response.to_dict()["guidance"]
    assert isinstance(receipt, dict)
    assert receipt["sampled"] == receipt["scored"] == 8


def test_a_stream_is_the_unary_answer_of_the_same_seed(client: OpenAI) -> None:
    seeded = {"seed": 7}
    unary = ask(client, extra_body=seeded)
    with client.responses.stream(model=MODEL, input=QUESTION, extra_body=seeded) as stream:
        events = list(stream)
        final = stream.get_final_response() if events[-1].type == "response.completed" else None
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == unary.output_text
    if final is not None:
        assert final.output_text == unary.output_text
    last: Any = events[-1].to_dict()["response"]
    receipt: Any = unary.to_dict()["guidance"]
    assert last["guidance"]["chosen"] == receipt["chosen"]


def test_every_event_is_of_openais_type_and_in_order(client: OpenAI) -> None:
    with client.responses.create(model=MODEL, input=QUESTION, stream=True, max_output_tokens=20) as stream:
        events = list(stream)
    for number, event in enumerate(events):
        assert event.sequence_number == number
        check_event(event.to_dict())
    assert [event.type for event in events[:3]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
    ]
    assert events[-1].type in ("response.completed", "response.incomplete")


@pytest.mark.parametrize("mode", ["hold", "first"])
@pytest.mark.parametrize("asked", ["text", "logprobs", "tool"])
def test_a_stream_adds_up_to_the_unary_answer_of_one_candidate(client: OpenAI, mode: str, asked: str) -> None:
    fields: Any = {
        "text": {},
        "logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 1},
        "tool": {"tools": [TOOL], "tool_choice": NAMED},
    }[asked]
    extra = {"seed": 5, **(COMPACT if asked == "tool" else {})}
    unary = ask(client, **fields, extra_body={**extra, "guidance": {"n": 1}})
    extra["guidance"] = {"n": 1, "stream_mode": mode}
    with client.responses.create(model=MODEL, input=QUESTION, stream=True, extra_body=extra, **fields) as stream:
        events = list(stream)
    last = events[-1]
    assert last.type == f"response.{unary.status}"
    assert _without_ids(last.response) == _without_ids(unary)
    deltas = [event.delta for event in events if event.type.endswith(".delta")]
    assert "".join(deltas) == (last.response.output_text or last.response.output[0].arguments)
    assert len(deltas) == 1 if mode == "hold" else len(deltas) > 3


def _without_ids(response: Response) -> list[dict[str, Any]]:
    items: Any = response.to_dict(mode="python")["output"]
    return [{key: value for key, value in item.items() if key not in ("id", "call_id")} for item in items]


def test_a_limit_makes_it_incomplete(client: OpenAI) -> None:
    response = ask(client, max_output_tokens=1)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert response.usage.output_tokens == 1


def test_parse_gives_the_clients_own_type(client: OpenAI) -> None:
    response = client.responses.parse(model=MODEL, input=QUESTION, text_format=Plant, extra_body=COMPACT)
    assert isinstance(response.output_parsed, Plant)
    with client.responses.stream(model=MODEL, input=QUESTION, text_format=Plant, extra_body=COMPACT) as stream:
        assert isinstance(stream.get_final_response().output_parsed, Plant)


def test_log_probabilities_are_of_the_text(client: OpenAI) -> None:
    response = ask(client, include=["message.output_text.logprobs"], top_logprobs=2)
    part: Any = response.output[0].content[0]  # type: ignore[union-attr, index]
    assert part.type == "output_text"
    assert part.logprobs
    assert b"".join(bytes(one.bytes) for one in part.logprobs).decode() == part.text
    assert {len(one.top_logprobs) for one in part.logprobs} <= {2, 3}


def test_a_tool_round_trip(client: OpenAI) -> None:
    first = ask(client, tools=[TOOL], tool_choice=NAMED, extra_body=COMPACT)
    [call] = [item for item in first.output if isinstance(item, ResponseFunctionToolCall)]
    assert call.name == "water"
    assert json.loads(call.arguments)["plant"] in ("fern", "ficus")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "It is watered."}
    stored = ask(client, tools=[TOOL], tool_choice="none", previous_response_id=first.id, input=[output])
    by_hand = ask(
        client,
        tools=[TOOL],
        tool_choice="none",
        store=False,
        input=[{"role": "user", "content": QUESTION}, *[item.to_dict() for item in first.output], output],
    )
    for response in (stored, by_hand):
        assert response.output_text
    assert stored.usage is not None
    assert by_hand.usage is not None
    assert stored.usage.input_tokens == by_hand.usage.input_tokens


def test_a_streamed_tool_call_adds_up(client: OpenAI) -> None:
    forced: Any = {"tools": [TOOL], "tool_choice": NAMED, "extra_body": COMPACT}
    with client.responses.stream(model=MODEL, input=QUESTION, **forced) as stream:
        events = list(stream)
        final = stream.get_final_response()
    arguments = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    [call] = [item for item in final.output if item.type == "function_call"]
    assert call.arguments == arguments
    assert json.loads(arguments)["plant"] in ("fern", "ficus")


def test_a_conversation_is_stored_read_and_deleted(client: OpenAI) -> None:
    first = ask(client, input="My fern is called Fred.", instructions="Be kind.")
    second = ask(client, input="What is its name?", previous_response_id=first.id)
    assert client.responses.retrieve(second.id).to_dict() == second.to_dict()
    items = client.responses.input_items.list(second.id, order="asc").data
    assert [getattr(item, "role", None) for item in items] == ["user", "assistant", "user"]
    client.responses.delete(first.id)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(NotFoundError) as caught:
        ask(client, previous_response_id=first.id)
    assert caught.value.code == "response_not_found"
    third = ask(client, input="And now?", previous_response_id=second.id)
    assert third.usage is not None
    assert second.usage is not None
    assert third.usage.input_tokens > second.usage.input_tokens


def test_feedback_takes_a_responses_id(client: OpenAI, stack: Stack) -> None:
    response = ask(client)
    client.post("/feedback", body={"id": response.id, "kind": "thumbs", "value": True}, cast_to=object)
    stored = httpx.get(f"{stack.url}/v1/feedback/{response.id}").json()["data"]
    assert [(vote["id"], vote["kind"], vote["value"]) for vote in stored] == [(response.id, "thumbs", True)]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"background": True}, "background"),
        ({"max_output_tokens": 10_000_000}, "max_output_tokens"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input[0].content[0].type",
        ),
    ],
)
def test_what_is_not_served_is_a_clear_400(client: OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(APIStatusError) as caught:
        ask(client, **fields)
    assert caught.value.status_code == 400
    assert caught.value.param == param
