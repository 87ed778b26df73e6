"""Waiting for what happens by itself, in tests."""

import asyncio
import inspect
from collections.abc import Callable

WITHIN_S = 60.0


async def until(condition: Callable[[], object], timeout_s: float = WITHIN_S) -> None:
    """Returns once the condition holds, which may be asked for by awaiting it; fails where it does not in time."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                met = condition()
                if await met if inspect.isawaitable(met) else met:
                    return
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError("it did not happen in time") from None
