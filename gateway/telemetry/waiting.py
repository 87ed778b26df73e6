"""Time spent waiting on others, so that the rest of a request's wall time can be called our own."""

import time
from collections.abc import Callable
from types import TracebackType


class WaitClock:
    """A context manager that adds up the time during which at least one of its blocks is open.

    Overlapping waits (a worker that samples while a scorer scores) count once.
    """

    __slots__ = ("_clock", "_open", "_since", "seconds")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._open = 0
        self._since = 0.0
        self.seconds = 0.0

    def __enter__(self) -> None:
        if self._open == 0:
            self._since = self._clock()
        self._open += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open -= 1
        if self._open == 0:
            self.seconds += self._clock() - self._since
