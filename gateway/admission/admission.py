"""Admission to one pool: a request gets places for its sequences before it is sampled, or waits for them, or a 429.

    room for it, nobody waits    it goes on at once, with as many candidates as `shrink.share` finds
    no room for its least        it waits in `line.Line`; `release`, `finished` and `changed` see whose turn has come
    waited too long              429 with Retry-After: from how many wait before it and how fast places come free
    too many wait                the one whom `Line.last` names gets that 429, the arriving one or another

Places are taken when they are granted: a burst sees its own first requests before the pool has sent them. More than
there are places run in these cases alone:

- Who holds nothing may begin one request, whatever others do: so a request for more than the whole pool has is served
  when it is idle, and a gateway is not locked out by others or by an old report.
- A further wave of those that were granted or promised (`Place.again`), and what ran when a worker was lost.
- No worker is up: requests go on at once, for the pool knows why and says its 503. Nobody knows how long that lasts,
  and who waited here would only hear the same later.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from gateway.admission.capacity import Capacity
from gateway.admission.line import Line, Waiter
from gateway.admission.metrics import AdmissionMetrics, Reason
from gateway.admission.rate import Rate
from gateway.admission.shrink import room, saturation, share
from gateway.admission.tiers import Tier
from gateway.errors import RateLimited, Unavailable

_RATE_OVER_S = 10.0
_LEAST_RETRY_S, _MOST_RETRY_S = 1.0, 60.0


class Place:
    """What a request was granted: n candidates a wave, further waves where `resample`.

    It holds n places at first, then those of the wave that runs, which may be smaller.
    waited_s: how long it waited. shrunk: n is less than was wanted. Leaving it as a context manager releases it.
    """

    def __init__(self, admission: "Admission", n: int, *, resample: bool, shrunk: bool, waited_s: float) -> None:
        self.n = n
        self.resample = resample
        self.shrunk = shrunk
        self.waited_s = waited_s
        self._admission = admission
        self._held = n
        self._released = False

    def finished(self, count: int = 1) -> None:
        """So many of its sequences are done: their places are free, while the others go on."""
        self._hold(max(0, self._held - count))

    def again(self, n: int) -> None:
        """A wave of n begins, the one before, if any, having ended. It is counted; it does not wait."""
        if not self._released:
            self._hold(n)

    def release(self) -> None:
        """The request has ended. Any number of calls does it once."""
        self._released = True
        self._hold(0)

    def __enter__(self) -> "Place":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _hold(self, count: int) -> None:
        given_back, self._held = self._held - count, count
        self._admission._give_back(given_back)


@dataclass(slots=True, eq=False)
class _Waiting(Waiter):
    since: float
    place: asyncio.Future[Place]


class Admission:
    """capacity: how much there is of the pool now. lag_s: of the event loop. Used within one event loop."""

    def __init__(
        self,
        policy: str,
        capacity: Callable[[], Capacity],
        lag_s: Callable[[], float],
        metrics: AdmissionMetrics,
        *,
        max_waiting: int,
        max_wait_s: float,
    ) -> None:
        self._policy = policy
        self._capacity = capacity
        self._lag_s = lag_s
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._line: Line[_Waiting] = Line()
        self._held = 0
        self._loop = asyncio.get_running_loop()
        self._freed = Rate(_RATE_OVER_S, self._loop.time())
        metrics.watch(policy, waiting=self._line.count, saturation=self._saturation)

    async def admit(self, tier: Tier, tenant: str, n: int, least: int, deadline: float) -> Place:
        """Places for `least` to n sequences. deadline: on the event loop's clock. Raises RateLimited, Unavailable.

        Who is cancelled leaves no trace.
        """
        now = self._loop.time()
        waiting = _Waiting(tier, tenant, n, least, now, self._loop.create_future())
        self._line.join(waiting)
        self._serve()
        while len(self._line) > self._max_waiting:
            self._reject(self._line.last(), "queue_full")
        until = min(deadline, now + self._max_wait_s)
        expiry = self._loop.call_at(until, self._expired, waiting, "deadline" if until == deadline else "waited")
        try:
            return await waiting.place
        except asyncio.CancelledError:
            self._forget(waiting)
            raise
        finally:
            expiry.cancel()

    def changed(self) -> None:
        """The capacity may be another now: workers came or went, or reported."""
        self._serve()

    def close(self) -> None:
        """The gateway stops: who still waits is told so."""
        while len(self._line):
            self._turn_away(self._line.last(), Unavailable("the gateway is stopping; try again", retry_after=1.0))

    def _serve(self) -> None:
        """Grant places to those whose turn it is, while there is room."""
        while (first := self._line.first()) is not None:
            if first.place.cancelled():
                # Its task has not run since.
                self._line.leave(first)
                continue
            capacity = self._capacity()
            if not self._fits(first.least, capacity):
                return
            self._line.served(first)
            first.place.set_result(self._grant(first, capacity))

    def _fits(self, least: int, capacity: Capacity) -> bool:
        return not capacity.places or not self._held or least <= room(capacity, self._own(capacity))

    def _own(self, capacity: Capacity) -> int:
        """Our sequences: those that were granted, sent or not; or all that run, where some needed no grant."""
        return max(self._held, capacity.running)

    def _grant(self, waiting: _Waiting, capacity: Capacity) -> Place:
        others_wait = len(self._line) > 0
        found = share(waiting.n, waiting.least, capacity, self._own(capacity), self._lag_s(), others_wait=others_wait)
        self._held += found.n
        waited_s, shrunk = self._loop.time() - waiting.since, found.n < waiting.n
        self._metrics.admitted(self._policy, waiting.tier, waited_s, shrunk=shrunk)
        return Place(self, found.n, resample=found.resample, shrunk=shrunk, waited_s=waited_s)

    def _give_back(self, count: int) -> None:
        """count: places that are free again; below 0: taken."""
        self._held -= count
        if count > 0:
            self._freed.add(count, self._loop.time())
            self._serve()

    def _forget(self, waiting: _Waiting) -> None:
        """Its client has left."""
        if waiting.place.cancelled():
            self._line.leave(waiting)
            self._serve()
        elif waiting.place.exception() is None:
            waiting.place.result().release()

    def _expired(self, waiting: _Waiting, reason: Reason) -> None:
        if not waiting.place.done():
            self._reject(waiting, reason)

    def _reject(self, waiting: _Waiting, reason: Reason) -> None:
        if not waiting.place.cancelled():
            self._metrics.rejected(self._policy, waiting.tier, reason)
        seconds = self._retry_after_s(waiting)
        why = {
            "waited": f"no place came free within {self._max_wait_s:g} s",
            "deadline": "no place came free within the time that the request gave itself",
            "queue_full": f"more than {self._max_waiting} requests wait, and of the lowest class not all can",
        }[reason]
        message = f"The workers of this model are full: {why}. Try again in about {seconds:.0f} s."
        self._turn_away(waiting, RateLimited(message, retry_after=seconds))

    def _turn_away(self, waiting: _Waiting, error: RateLimited | Unavailable) -> None:
        self._line.leave(waiting)
        if not waiting.place.cancelled():
            waiting.place.set_exception(error)
        # It may have been the one for whose many candidates there was no room.
        self._serve()

    def _retry_after_s(self, waiting: _Waiting) -> float:
        """When its turn would have come, at the rate at which places came free of late."""
        rate = self._freed.per_s(self._loop.time())
        ahead = self._line.before(waiting.tier)
        seconds = ahead / rate if rate else self._max_wait_s
        return float(round(min(_MOST_RETRY_S, max(_LEAST_RETRY_S, seconds))))

    def _saturation(self) -> float:
        capacity = self._capacity()
        return saturation(capacity, self._own(capacity))
