from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import WorkerError
from gateway.workers.stream import ChoiceAssembler, read_events


def part(index: int, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def test_a_choice_is_whole_when_it_finishes_whatever_the_others_do() -> None:
    assembler = ChoiceAssembler()
    assert assembler.feed(part(0, role="assistant", content="")) == []
    assert assembler.feed(part(1, role="assistant", content="b")) == []
    assert assembler.feed(part(0, content="a")) == []
    [first] = assembler.feed(part(1, "stop", content="c"))
    assert (first.index, first.message["content"], first.finish_reason) == (1, "bc", "stop")
    [second] = assembler.feed(part(0, "length", content="d"))
    assert second.message["content"] == "ad"


def test_tool_calls_are_put_together_by_index() -> None:
    assembler = ChoiceAssembler()
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    assembler.feed(part(0, tool_calls=[call]))
    assembler.feed(part(0, tool_calls=[{"index": 0, "function": {"arguments": '{"a":'}}]))
    other = {"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{}"}}
    assembler.feed(part(0, tool_calls=[other]))
    [choice] = assembler.feed(part(0, "tool_calls", tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]))
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
    [choice] = assembler.feed(last)
    assert choice.message["reasoning"] == "because"
    assert choice.token_ids == [1, 2, 3]
    assert choice.logprobs == {"content": [{"token": "x"}, {"token": "y"}]}


def test_an_error_in_the_stream_is_raised() -> None:
    with pytest.raises(WorkerError, match="engine died"):
        ChoiceAssembler().feed({"error": {"message": "engine died"}})


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
