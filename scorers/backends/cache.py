"""A cache of rows in front of a backend: the same token ids give the same row, so they run once.

Each loaded scorer has its own, so the model's version is implied. Errors, and rows with a number that is not finite,
are never kept. An input that is running already is waited for, not run again.
"""

import asyncio
import math
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from scorers.backend import Backend, Row
from scorers.errors import ScorerError
from scorers.loading import Cached


@dataclass(slots=True, eq=False)
class _Flight:
    """A run of the backend. places: the key of each of its inputs. waiting: the calls that wait for it."""

    task: asyncio.Task[list[Row | ScorerError]]
    places: dict[bytes, int]
    waiting: int = 0


class CachedBackend:
    """Implements `scorers.backend.Backend`: another one, with the rows used last at hand, at most `entries`."""

    def __init__(self, backend: Backend, entries: int, count: Cached | None = None) -> None:
        self._backend = backend
        self._entries = entries
        self._count = count
        self._rows: OrderedDict[bytes, Row] = OrderedDict()
        self._running: dict[bytes, _Flight] = {}

    @property
    def depth(self) -> int:
        """Inputs that wait."""
        return self._backend.depth

    async def run(self, inputs: Sequence[list[int]]) -> list[Row | ScorerError]:
        """See `scorers.backend.Backend`. What befalls an input that another call runs befalls this one's too.

        Cancelling it drops what no other call waits for.
        """
        keys = [_key(ids) for ids in inputs]
        known: dict[bytes, Row | ScorerError] = {}
        flights: dict[bytes, _Flight] = {}
        new: dict[bytes, list[int]] = {}
        for key, ids in zip(keys, inputs, strict=True):
            if (row := self._rows.get(key)) is not None:
                self._rows.move_to_end(key)
                known[key] = row
            elif (flight := self._running.get(key)) is not None:
                flights[key] = flight
            else:
                new[key] = ids
        if self._count is not None:
            self._count(len(inputs) - len(new), len(new))
        if new:
            flights |= dict.fromkeys(new, self._start(new))
        await self._landed(set(flights.values()))
        known |= {key: flight.task.result()[flight.places[key]] for key, flight in flights.items()}
        return [known[key] for key in keys]

    def _start(self, inputs: dict[bytes, list[int]]) -> _Flight:
        task = asyncio.get_running_loop().create_task(self._fly(inputs))
        flight = _Flight(task, {key: place for place, key in enumerate(inputs)})
        self._running |= dict.fromkeys(inputs, flight)
        task.add_done_callback(lambda _: self._forget(flight))
        return flight

    async def _fly(self, inputs: dict[bytes, list[int]]) -> list[Row | ScorerError]:
        rows = await self._backend.run(list(inputs.values()))
        for key, row in zip(inputs, rows, strict=True):
            if not isinstance(row, ScorerError) and all(map(math.isfinite, row)):
                self._rows[key] = row
        while len(self._rows) > self._entries:
            self._rows.popitem(last=False)
        return rows

    async def _landed(self, flights: set[_Flight]) -> None:
        """Wait for all of them. Those that nobody waits for any more are cancelled."""
        for flight in flights:
            flight.waiting += 1
        try:
            if flights:
                await asyncio.wait({flight.task for flight in flights})
        finally:
            for flight in flights:
                flight.waiting -= 1
                if not flight.waiting and not flight.task.done():
                    flight.task.cancel()
                    self._forget(flight)  # at once: who comes now must not wait for it

    def _forget(self, flight: _Flight) -> None:
        for key in flight.places:
            if self._running.get(key) is flight:
                del self._running[key]

    async def close(self) -> None:
        """Take no more, finish what waits."""
        await self._backend.close()


def _key(ids: Sequence[int]) -> bytes:
    return blake2b(array("q", ids).tobytes(), digest_size=16).digest()
