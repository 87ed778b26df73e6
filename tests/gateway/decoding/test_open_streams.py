"""Candidates that grow side by side, from streams that do as a test says."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from gateway.decoding.candidate import Candidate
from gateway.decoding.open_streams import Growth, Lost, OpenStreams, Source
from gateway.errors import WorkerError
from gateway.workers.stream import Accumulator, Part, SampleStart
from tests.gateway.decoding.judged import candidate

START = SampleStart(3, {})


def part(text: str, tokens: int = 1, **delta: Any) -> Part:
    return Part(0, {"content": text, **delta}, None, list(range(tokens)), tokens)


class Script:
    """What a stream brings; None: nothing more until it is closed."""

    def __init__(self, *items: SampleStart | Part | Candidate | Exception | None) -> None:
        self.items = items
        self.closed = False

    async def source(self) -> Source:
        try:
            for item in self.items:
                await asyncio.sleep(0)
                if item is None:
                    await asyncio.Event().wait()
                elif isinstance(item, Exception):
                    raise item
                else:
                    yield item
        finally:
            self.closed = True


def cut_off(index: int, so_far: Accumulator) -> Candidate:
    return candidate(index, so_far.message["content"] or "")


def opened(*scripts: Script) -> OpenStreams:
    return OpenStreams({index: script.source() for index, script in enumerate(scripts)}, cut_off)


async def test_all_grow_side_by_side_and_each_ends_when_it_does() -> None:
    long = Script(START, part("a"), part("b"), part("c"), candidate(0, "abc"))
    short = Script(START, part("x", 2), candidate(1, "x"))
    async with opened(long, short) as streams:
        found = [item async for item in streams]
    of_long = [item for item in found if isinstance(item, Growth) and item.index == 0]
    assert [(item.message["content"], item.tokens) for item in of_long] == [("a", 1), ("ab", 2), ("abc", 3)]
    assert [item.index for item in found if isinstance(item, Candidate)] == [1, 0]
    assert found.index(candidate(1, "x")) < found.index(of_long[-1])


async def test_a_dropped_stream_is_closed_at_once_and_what_there_was_of_it_comes_back() -> None:
    stuck, well = Script(START, part("a"), part("b"), None), Script(START, part("x"), None)
    async with opened(stuck, well) as streams:
        async with asyncio.timeout(5):
            async for item in streams:
                if isinstance(item, Growth) and item.tokens == 2:
                    cut = streams.drop(0)
                    assert cut is not None and cut.message["content"] == "ab"
                    assert streams.drop(0) is None
                    break
            for _ in range(5):
                await asyncio.sleep(0)
        assert stuck.closed and not well.closed
    assert well.closed


async def test_when_the_last_ones_are_dropped_whoever_waits_for_more_is_told() -> None:
    """A drop comes from elsewhere, when a score arrives: the reader waits for an item that will not come."""
    async with opened(Script(START, part("a"), None), Script(START, part("x"), candidate(1))) as streams:
        seen: list[Growth | Candidate | Lost] = []

        async def read() -> None:
            seen.extend([item async for item in streams])

        reading = asyncio.create_task(read())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not reading.done()
        streams.drop(0)
        await asyncio.wait_for(reading, 5)
    assert sum(isinstance(item, Candidate) for item in seen) == 1


async def test_nothing_more_is_heard_of_a_dropped_one_even_if_it_had_arrived() -> None:
    talkative = Script(START, part("a"), part("b"), part("c"), None)
    async with opened(talkative, Script(None)) as streams:
        for _ in range(10):
            await asyncio.sleep(0)
        streams.drop(0)
        streams.drop(1)
        assert [item async for item in streams] == []


async def test_one_that_has_ended_cannot_be_dropped_any_more() -> None:
    async with opened(Script(START, part("a"), candidate(0))) as streams:
        for _ in range(10):
            await asyncio.sleep(0)
        assert streams.drop(0) is None
        assert [type(item) for item in [item async for item in streams]] == [Candidate]


async def test_one_that_begins_anew_loses_what_it_was() -> None:
    lost = Script(START, part("a"), part("b"), START, part("c", 2), None)
    async with opened(lost) as streams:
        found = []
        async with aclosing(aiter(streams)) as items:  # type: ignore[type-var]
            async for item in items:
                assert isinstance(item, Growth)
                found.append((item.message["content"], item.tokens))
                if len(found) == 4:
                    break
        cut = streams.drop(0)
    assert found == [("a", 1), ("ab", 2), (None, 0), ("c", 2)]
    assert cut is not None and cut.message["content"] == "c"


async def test_one_that_is_lost_does_not_end_the_others() -> None:
    error = WorkerError("gone")
    async with opened(Script(START, error), Script(START, part("x"), part("y"), candidate(1))) as streams:
        found = [item async for item in streams]
    assert [item for item in found if isinstance(item, Lost)] == [Lost(0, error)]
    assert isinstance(found[-1], Candidate)


async def test_a_bug_in_one_ends_all() -> None:
    other = Script(START, None)
    with pytest.raises(ZeroDivisionError):
        async with opened(Script(START, ZeroDivisionError()), other) as streams:
            async for _ in streams:
                pass
    assert other.closed


async def test_what_was_heard_does_not_change_when_the_stream_goes_on() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}
    more = {"index": 0, "function": {"arguments": "}"}}
    async with opened(
        Script(START, part("a", tool_calls=[call]), part("b", tool_calls=[more]), candidate(0))
    ) as all_of:
        first, second, _ = [item async for item in all_of]
    assert isinstance(first, Growth) and isinstance(second, Growth)
    assert [one.message["tool_calls"][0]["function"]["arguments"] for one in (first, second)] == ["{", "{}"]
