"""Tasks that stand or fall together."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def together(tasks: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Runs them beside each other. The first that fails ends the others, and its exception is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in tasks:
                group.create_task(one)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
