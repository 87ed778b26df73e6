"""Background tasks end when they are told to, whatever swallows the telling."""

import asyncio
import contextlib

import pytest

from gateway.tasks import being_cancelled, end


async def test_a_task_that_swallows_cancellations_ends_all_the_same() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(60)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end(task, ask_again_s=0.001)
    assert task.cancelled()
    assert swallowed == 3


async def test_a_loop_that_asks_ends_at_the_first_telling() -> None:
    turns = 0

    async def loop() -> None:
        nonlocal turns
        while not being_cancelled():
            turns += 1
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    await end(task, ask_again_s=60)
    assert task.done()
    assert turns == 1


async def test_a_task_has_tidied_up_when_it_has_ended() -> None:
    tidy = False

    async def work() -> None:
        nonlocal tidy
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            tidy = True

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await end(task)
    assert tidy


async def test_what_a_task_raised_is_not_raised_again_nor_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise ValueError("no")

    await end(asyncio.create_task(broken()), None)
    task = asyncio.create_task(broken())
    await asyncio.sleep(0)
    await end(task)
    del task
    assert not caplog.records
