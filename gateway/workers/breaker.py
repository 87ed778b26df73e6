"""The circuit breaker of one worker: it stops sending to one that fails, and tries it again with care.

                `failures` in a row within window_s
      closed ----------------------------------------> open <-------+
         ^                                               |          |
         |                                        open_s |          | a failure
         |                                               v          |
         +----------------------------------------- half_open ------+
                 `successes` in a row              one trial at a time

It is passive: it knows only what requests report of it through their permits. A success while closed begins the count
of failures anew, so that a busy worker that fails now and then stays in use: retries deal with that. A permit belongs
to the phase in which it was taken. A straggler, whose phase is over when it reports, says nothing of the present one:
an answer that began before the worker broke does not close the breaker, a failure from before a restart does not open
it.

Numbers by default: those of the SGLang model gateway.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open"]
Outcome = Literal["success", "failure", "abandoned"]


class BreakerOpen(Exception):
    """The worker gets no request now."""


class CircuitBreaker:
    """clock: seconds that only grow. What `enter` gives out must come to an end: a trial holds the only place."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        failures: int = 5,
        window_s: float = 60.0,
        open_s: float = 30.0,
        successes: int = 2,
    ) -> None:
        self._clock = clock
        self._failures = failures
        self._window_s = window_s
        self._open_s = open_s
        self._successes = successes
        self._state: State = "closed"
        self._phase = 0
        self._failed_at: deque[float] = deque(maxlen=failures)
        self._opened_at = 0.0
        self._succeeded = 0
        self._on_trial = False

    @property
    def state(self) -> State:
        """Now: an open breaker turns half-open by time alone."""
        if self._state == "open" and self._clock() - self._opened_at >= self._open_s:
            self._change("half_open")
        return self._state

    def allows(self) -> bool:
        """Whether `enter` would give a permit now."""
        state = self.state
        return state == "closed" or (state == "half_open" and not self._on_trial)

    def enter(self) -> "Permit":
        """A permit for one request; half-open, the only one until it has ended. Raises BreakerOpen."""
        if not self.allows():
            raise BreakerOpen
        self._on_trial = self._state == "half_open"
        return Permit(self, self._phase)

    def reset(self) -> None:
        """The worker was started anew: nothing of before counts."""
        self._change("closed")

    def _settle(self, phase: int, outcome: Outcome) -> None:
        if phase != self._phase:
            return
        self._on_trial = False
        if outcome == "success":
            self._succeed()
        elif outcome == "failure":
            self._fail()

    def _succeed(self) -> None:
        self._failed_at.clear()
        self._succeeded += 1
        if self._state == "half_open" and self._succeeded >= self._successes:
            self._change("closed")

    def _fail(self) -> None:
        now = self._clock()
        self._failed_at.append(now)
        many = len(self._failed_at) == self._failures and now - self._failed_at[0] <= self._window_s
        if many or self._state == "half_open":
            self._change("open")

    def _change(self, state: State) -> None:
        self._state = state
        self._phase += 1
        self._failed_at.clear()
        self._succeeded = 0
        self._on_trial = False
        self._opened_at = self._clock()


class Permit:
    """Leave to send one request. The first outcome that it is told counts; later ones do nothing."""

    __slots__ = ("_breaker", "_ended", "_phase")

    def __init__(self, breaker: CircuitBreaker, phase: int) -> None:
        self._breaker = breaker
        self._phase = phase
        self._ended = False

    def success(self) -> None:
        """The worker did its part, if only to say that the request was wrong."""
        self._end("success")

    def failure(self) -> None:
        """The worker could not be reached, failed, or fell silent."""
        self._end("failure")

    def abandoned(self) -> None:
        """The client left, or the outcome says nothing of the worker: a trial's place is free again."""
        self._end("abandoned")

    def _end(self, outcome: Outcome) -> None:
        if not self._ended:
            self._ended = True
            self._breaker._settle(self._phase, outcome)
