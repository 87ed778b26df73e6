"""How late the event loop is: the time that everybody's callbacks wait before they run."""

import asyncio
from collections.abc import Callable

from gateway.tasks import end

_EVERY_S = 0.1
# The mean of about this long: one callback that takes a while is no overload.
_OVER_S = 1.0


class LoopLag:
    """Sets a timer ten times a second and sees how late it comes. told: gets every new value, for a metric."""

    def __init__(self, told: Callable[[float], None]) -> None:
        self.seconds = 0.0
        self._told = told
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="event loop lag")

    async def close(self) -> None:
        await end(self._task)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await asyncio.sleep(_EVERY_S)
            took_s = loop.time() - begun
            self.seconds += min(1.0, took_s / _OVER_S) * (max(0.0, took_s - _EVERY_S) - self.seconds)
            self._told(self.seconds)
