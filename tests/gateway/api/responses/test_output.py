"""The builder: events in order, the same items however the answer is cut, log-probabilities of the text alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.responses.output import Event, Output, said
from gateway.errors import WorkerError
from tests.gateway.api.responses.shapes import check_event

UUID = "0199d0a1-7c3e-7abc-8def-0123456789ab"
MESSAGE: dict[str, Any] = {
    "role": "assistant",
    "reasoning": "Think first.",
    "content": "Grüße, 世界!",
    "tool_calls": [
        {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ],
}


def built(*deltas: dict[str, Any], incomplete: bool = False) -> tuple[list[Any], list[Event]]:
    output = Output(UUID)
    events = [event for delta in deltas for event in output.add(delta, None)]
    return output.items, events + output.finish(incomplete=incomplete)


def tokens(*texts: str) -> list[dict[str, Any]]:
    return [{"token": text, "logprob": -1.0, "bytes": list(text.encode()), "top_logprobs": []} for text in texts]


def test_the_events_come_in_openais_order() -> None:
    _, events = built(MESSAGE)
    text = ["response.output_item.added", "response.content_part.added"]
    assert [event["type"] for event in events] == [
        *text,
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
        *text,
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        *["response.output_item.added", "response.function_call_arguments.delta"],
        *["response.function_call_arguments.done", "response.output_item.done"],
        *["response.output_item.added", "response.function_call_arguments.delta"],
        *["response.function_call_arguments.done", "response.output_item.done"],
    ]
    assert [event["output_index"] for event in events] == [0] * 6 + [1] * 6 + [2] * 4 + [3] * 4


def test_every_event_is_of_openais_type() -> None:
    _, events = built(MESSAGE)
    for number, event in enumerate(events):
        check_event({"sequence_number": number, **event})
    logprobs = [{**token, "top_logprobs": tokens("b")} for token in tokens("a")]
    output = Output(UUID)
    for event in [*output.add({"content": "a"}, {"content": logprobs}), *output.finish(incomplete=True)]:
        check_event({"sequence_number": 0, **event})


def test_an_item_is_empty_and_in_progress_when_it_is_added_and_whole_when_it_is_done() -> None:
    items, events = built(MESSAGE)
    added = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [item["status"] for item in added] == ["in_progress"] * 4
    assert [item.get("content", item.get("arguments")) for item in added] == [[], [], "", ""]
    assert done == items
    assert {item["status"] for item in items} == {"completed"}


@given(st.lists(st.integers(1, 5), min_size=1))
def test_however_it_is_cut_the_items_are_the_same(sizes: list[int]) -> None:
    whole, _ = built(MESSAGE)
    cut, events = built(*_cut(sizes))
    assert cut == whole
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == MESSAGE["content"]


def _cut(sizes: list[int]) -> list[dict[str, Any]]:
    """The message as a live stream has it; the sizes of the parts repeat."""
    deltas: list[dict[str, Any]] = []
    turn = iter(sizes * 100)

    def pieces(text: str) -> list[str]:
        found = []
        while text:
            size = next(turn)
            found.append(text[:size])
            text = text[size:]
        return found

    deltas += [{"reasoning": part} for part in pieces(MESSAGE["reasoning"])]
    deltas += [{"content": part} for part in pieces(MESSAGE["content"])]
    for index, call in enumerate(MESSAGE["tool_calls"]):
        function = {"name": call["function"]["name"], "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": function}]})
        for part in pieces(call["function"]["arguments"]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    return deltas


def test_a_cut_off_answer_ends_with_an_incomplete_item() -> None:
    items, _ = built({"reasoning": "a"}, {"content": "b"}, incomplete=True)
    assert [item["status"] for item in items] == ["completed", "incomplete"]


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    [item], events = built({"content": ""})
    assert item["content"][0]["text"] == ""
    assert [event["type"] for event in events][-1] == "response.output_item.done"


def test_text_after_a_call_is_a_message_of_its_own() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    items, _ = built({"content": "a"}, {"tool_calls": [call]}, {"content": "b"})
    assert [item["type"] for item in items] == ["message", "function_call", "message"]


def test_a_call_that_goes_on_after_another_began_is_the_workers_mistake() -> None:
    calls = [{"index": i, "id": str(i), "function": {"name": "f", "arguments": "{"}} for i in (0, 1)]
    with pytest.raises(WorkerError):
        built({"tool_calls": calls}, {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]})


def test_log_probabilities_are_those_of_the_text_not_of_markers_reasoning_or_calls() -> None:
    all_tokens = tokens("<think>", "a", "b", "</think>", "\n", "a", "b", "!", "<|im_end|>")
    assert [one["token"] for one in said(all_tokens, "ab!", after="ab")] == ["a", "b", "!"]
    assert said(tokens("token_id:5"), "x") == tokens("token_id:5")


def test_half_a_characters_token_belongs_to_the_text_that_follows() -> None:
    first, second = tokens("x", "y")
    first["bytes"], second["bytes"] = [0xC3], [0xA9]
    output = Output(UUID)
    output.add({"content": ""}, {"content": [first]})
    [_, _, delta] = output.add({"content": "é"}, {"content": [second]})
    assert len(delta["logprobs"]) == 2
    output.add({}, {"content": tokens("<|im_end|>")})
    output.finish(incomplete=False)
    assert output.items[0]["content"][0]["logprobs"] == [first, second]
