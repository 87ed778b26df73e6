"""Ending background tasks."""

import asyncio
from typing import Any

# Longer than what a task that ends may have to tidy up (`api.idempotency`: a second).
_ASK_AGAIN_S = 2.0


async def end(*tasks: "asyncio.Task[Any] | None", ask_again_s: float = _ASK_AGAIN_S) -> None:
    """Cancel tasks and wait until they have ended; what they raise is not raised here.

    Asks again until they have: redis-py 8.1 now and then swallows a cancellation that arrives while it checks a
    connection, and a loop around it would go on for ever.
    """
    given = [task for task in tasks if task is not None]
    while running := {task for task in given if not task.done()}:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=ask_again_s)
    for task in given:
        if not task.cancelled():
            task.exception()  # Looked at, so that asyncio does not complain that nobody did.


def being_cancelled() -> bool:
    """Whether somebody wants the running task to end: for loops around redis-py, see `end`."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
