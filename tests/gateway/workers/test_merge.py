"""Several generators as one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from gateway.workers.merge import merged


class Source:
    """Gives its items when told to; notes that it was closed."""

    def __init__(self, *items: int, error: Exception | None = None) -> None:
        self.go = asyncio.Event()
        self.closed = False
        self._items = items
        self._error = error

    async def items(self) -> AsyncGenerator[int, None]:
        try:
            for item in self._items:
                await self.go.wait()
                yield item
            if self._error:
                raise self._error
        finally:
            self.closed = True


async def test_items_come_as_they_are_ready_and_all_of_them() -> None:
    slow, fast = Source(1, 2), Source(3, 4)
    fast.go.set()
    found = []
    async with aclosing(merged([slow.items(), fast.items()])) as items:
        async for item in items:
            found.append(item)
            if len(found) == 2:
                slow.go.set()
    assert found == [3, 4, 1, 2]


async def test_a_failure_ends_the_others_and_is_raised_as_itself() -> None:
    waiting, broken = Source(1), Source(2, error=ValueError("broken"))
    broken.go.set()
    found = []
    with pytest.raises(ValueError, match="broken"):
        async for item in merged([waiting.items(), broken.items()]):
            found.append(item)
    assert found == [2]
    assert waiting.closed


async def test_closing_it_closes_what_it_reads() -> None:
    one, other = Source(1, 2), Source(3)
    one.go.set()
    both = merged([one.items(), other.items()])
    assert await anext(both) == 1
    await both.aclose()
    assert one.closed
    assert other.closed


async def test_a_source_is_not_read_far_ahead_of_the_reader() -> None:
    given = 0

    async def eager() -> AsyncGenerator[int, None]:
        nonlocal given
        while True:
            given += 1
            yield given

    async def idle() -> AsyncGenerator[int, None]:
        await asyncio.Event().wait()
        yield 0

    both = merged([eager(), idle()])
    await anext(both)
    await asyncio.sleep(0.01)
    assert given < 10
    await both.aclose()
