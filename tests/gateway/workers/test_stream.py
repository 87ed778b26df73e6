from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import WorkerError
from gateway.workers.stream import Choice, ChoiceAssembler, Part, SampleStart, read_events


def part(index: int, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def finished(assembler: ChoiceAssembler, chunk: dict[str, Any]) -> list[Choice]:
    return [item for item in assembler.feed(chunk) if isinstance(item, Choice)]


def test_a_choice_is_whole_when_it_finishes_whatever_the_others_do() -> None:
    assembler = ChoiceAssembler()
    assert finished(assembler, part(0, role="assistant", content="")) == []
    assert finished(assembler, part(1, role="assistant", content="b")) == []
    assert finished(assembler, part(0, content="a")) == []
    [first] = finished(assembler, part(1, "stop", content="c"))
    assert (first.index, first.message["content"], first.finish_reason) == (1, "bc", "stop")
    [second] = finished(assembler, part(0, "length", content="d"))
    assert second.message["content"] == "ad"


def test_tool_calls_are_put_together_by_index() -> None:
    assembler = ChoiceAssembler()
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    assembler.feed(part(0, tool_calls=[call]))
    assembler.feed(part(0, tool_calls=[{"index": 0, "function": {"arguments": '{"a":'}}]))
    other = {"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{}"}}
    assembler.feed(part(0, tool_calls=[other]))
    [choice] = finished(assembler, part(0, "tool_calls", tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]))
    assert [c["function"] for c in choice.message["tool_calls"]] == [
        {"name": "f", "arguments": '{"a":1}'},
        {"name": "g", "arguments": "{}"},
    ]


def test_reasoning_token_ids_and_logprobs_add_up() -> None:
    assembler = ChoiceAssembler()
    first = part(0, reasoning="be")
    first["choices"][0] |= {"token_ids": [1], "logprobs": {"content": [{"token": "x"}]}}
    last = part(0, "stop", reasoning="cause")
    last["choices"][0] |= {"token_ids": [2, 3], "logprobs": {"content": [{"token": "y"}]}}
    assembler.feed(first)
    [choice] = finished(assembler, last)
    assert choice.message["reasoning"] == "because"
    assert choice.token_ids == [1, 2, 3]
    assert choice.logprobs == {"content": [{"token": "x"}, {"token": "y"}]}


def test_each_chunk_tells_what_it_adds_and_the_first_one_about_the_prompt() -> None:
    assembler = ChoiceAssembler()
    opening = part(0, role="assistant", content="") | {"prompt_token_ids": [7, 8, 9]}
    start, empty = assembler.feed(opening)
    assert start == SampleStart(3, {"prompt_token_ids": [7, 8, 9]})
    assert empty == Part(0, {"content": ""}, None, None, 0)
    assert assembler.feed(part(0, content="a", reasoning=None)) == [Part(0, {"content": "a"}, None, None, 0)]
    assembler.feed({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}, "system_fingerprint": "f"})
    assert (assembler.end.prompt_tokens, assembler.end.completion_tokens) == (3, 1)
    assert assembler.end.extras["system_fingerprint"] == "f"


def test_a_text_completion_reads_as_an_assistants_content() -> None:
    assembler = ChoiceAssembler()
    first = {"choices": [{"index": 0, "text": "to", "logprobs": {"tokens": ["to"], "text_offset": [0]}}]}
    last = {"choices": [{"index": 0, "text": "day", "logprobs": {"tokens": ["day"], "text_offset": [2]}}]}
    last["choices"][0]["finish_reason"] = "stop"
    assembler.feed(first)
    [choice] = finished(assembler, last)
    assert choice.message == {"role": "assistant", "content": "today"}
    assert choice.logprobs == {"tokens": ["to", "day"], "text_offset": [0, 2]}


def test_a_whole_answer_reads_like_a_stream() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "prompt_logprobs": [None]}
    assembler = ChoiceAssembler()
    [choice] = finished(assembler, whole)
    assert choice.message == {"role": "assistant", "content": None, "tool_calls": [call]}
    assert assembler.end.extras == {"prompt_logprobs": [None]}


def test_an_error_in_the_stream_is_raised() -> None:
    with pytest.raises(WorkerError, match="broke off"):
        ChoiceAssembler().feed({"error": {"message": "engine died"}})


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_choice_that_vllm_gave_up_is_no_candidate(reason: str) -> None:
    with pytest.raises(WorkerError, match="gave up"):
        ChoiceAssembler().feed(part(0, reason, content="half an ans"))


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield one


async def test_events_are_found_however_the_bytes_are_cut() -> None:
    whole = b': comment\n\ndata: {"a":1}\n\ndata: {"b":"' + b"x" * 300_000 + b'"}\r\n\r\ndata: [DONE]\n\n'
    for size in (1000, 7777, len(whole)):
        cut = [whole[i : i + size] for i in range(0, len(whole), size)]
        events = [event async for event in read_events(pieces(*cut))]
        assert events[0] == {"a": 1}
        assert len(events[1]["b"]) == 300_000


@pytest.mark.parametrize(
    ("data", "reason"), [(b'data: {"a":1}\n\n', "before its end"), (b"data: {oops\n\n", "not JSON")]
)
async def test_a_broken_stream_is_a_worker_error(data: bytes, reason: str) -> None:
    with pytest.raises(WorkerError, match=reason):
        async for _ in read_events(pieces(data)):
            pass
