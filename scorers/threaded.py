"""Work on a request in a thread of its own, which stops soon after nobody waits for it any more."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from scorers.contract import ScoreRequest

T = TypeVar("T")


async def in_thread(
    thread: ThreadPoolExecutor, work: Callable[[ScoreRequest, threading.Event], T], request: ScoreRequest
) -> T:
    """What `work` returns. The event is set once this is cancelled; the work looks at it between candidates."""
    given_up = threading.Event()
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work, request, given_up)
    finally:
        given_up.set()
