"""How often and when a request is tried again: a budget that keeps retries from feeding an outage, and pauses.

Where everything fails, retries multiply the load on what is left. So a gateway may retry a share of what it has lately
sent for the first time, and a little more, so that one with little traffic can retry at all:

    retries in a window <= share * first attempts in it + least_per_s * window_s

Time is kept in slots of a tenth of the window, and the window is the present slot and the ten before it: whatever
moment it is, at least window_s and at most 1.1 window_s. Share and window by default are Finagle's
(https://finagle.github.io/blog/2016/02/08/retry-budgets), its least is 10 a second: a worker's requests are larger.
"""

import random
from collections.abc import Callable

_SLOTS = 10

_FIRST_S = 0.05
_GROWTH = 2.0
_LONGEST_S = 2.0
# From here on the pause is the longest; without it, a large attempt would be too large a number.
_STEPS = 6


class RetryBudget:
    """clock: seconds that only grow. least_per_s * window_s is at least 1, or a quiet gateway would never retry."""

    def __init__(
        self, clock: Callable[[], float], *, share: float = 0.2, least_per_s: float = 5.0, window_s: float = 10.0
    ) -> None:
        self._clock = clock
        self._share = share
        self._least = least_per_s * window_s
        self._slot_s = window_s / _SLOTS
        self._requests = [0] * (_SLOTS + 1)
        self._retries = [0] * (_SLOTS + 1)
        self._newest = int(clock() / self._slot_s)

    def request(self) -> None:
        """A first attempt was made."""
        self._requests[self._slot()] += 1

    def take(self) -> bool:
        """Whether one more attempt may be made now; then it is counted."""
        slot = self._slot()
        if sum(self._retries) + 1 > self._share * sum(self._requests) + self._least:
            return False
        self._retries[slot] += 1
        return True

    def _slot(self) -> int:
        """The place of the present slot; those that the window has left are empty again."""
        places = _SLOTS + 1
        now = int(self._clock() / self._slot_s)
        for entered in range(max(self._newest, now - places) + 1, now + 1):
            self._requests[entered % places] = self._retries[entered % places] = 0
        self._newest = now
        return now % places


def backoff_s(attempt: int, rng: random.Random) -> float:
    """Seconds to wait before the `attempt`-th retry, from 1: up to 0.05, then twice as long each time, at most 2.

    Between half of that and all of it, so that the requests that a dead worker threw back do not all return at once.
    """
    longest = min(_FIRST_S * _GROWTH ** min(attempt - 1, _STEPS), _LONGEST_S)
    return longest * rng.uniform(0.5, 1.0)
