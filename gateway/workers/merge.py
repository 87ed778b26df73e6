"""Several async generators as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

from gateway.tasks import end

T = TypeVar("T")

_END = object()


async def merged(generators: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """What the generators give, as it comes. The first failure ends all and is raised; closing it closes all."""
    if len(generators) == 1:
        async with aclosing(generators[0]) as items:
            async for item in items:
                yield item
        return
    # Two items may wait for each, so that a slow reader slows the generators down.
    arrived: asyncio.Queue[object] = asyncio.Queue(2 * len(generators))

    async def pump(generator: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(generator) as items:
                async for item in items:
                    await arrived.put(item)
        except Exception as error:
            await arrived.put(_Failure(error))
        else:
            await arrived.put(_END)

    tasks = [asyncio.create_task(pump(generator)) for generator in generators]
    running = len(tasks)
    try:
        while running:
            got = await arrived.get()
            if got is _END:
                running -= 1
            elif isinstance(got, _Failure):
                raise got.error
            else:
                yield got  # type: ignore[misc]
    finally:
        await end(*tasks)


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error
