"""How many candidates a request gets: all of them while there is room, fewer as the workers fill. Pure.

Four signals say how full it is, each with a ramp: up to `calm` nothing changes; above it there is no second wave for
requests without a safe candidate (speculative work goes first); from `begin` to `full` n shrinks in a straight line to
the least that the request can do with.

    fill      share of the places that are taken           calm 0.5   begin 0.6   full 1
    queue     sequences in the workers' queues a place     calm 0     begin 0     full 0.1
    kv        the fullest KV cache                         calm 0.8   begin 0.85  full 0.97
    lag       lateness of this gateway's event loop, s     calm 0.1   begin 0.2   full 1

The highest counts. While others wait for a place, everyone gets the least: more answers are worth more than better
ones. Fewer candidates are less to parse and to judge too, so the event loop's lag shrinks n; it turns nobody away.
"""

from dataclasses import dataclass

from gateway.admission.capacity import Capacity

# A queue in a worker knows no classes, so it is kept short; one this long keeps the worker busy until it reports again.
MOST_QUEUED = 0.25


@dataclass(frozen=True, slots=True)
class Ramp:
    calm: float
    begin: float
    full: float

    def pressure(self, value: float) -> float:
        return min(1.0, max(0.0, (value - self.begin) / (self.full - self.begin)))


FILL = Ramp(0.5, 0.6, 1.0)
QUEUE = Ramp(0.0, 0.0, 0.1)
KV = Ramp(0.8, 0.85, 0.97)
LAG = Ramp(0.1, 0.2, 1.0)


@dataclass(frozen=True, slots=True)
class Share:
    """n: candidates in a wave. resample: whether further waves are allowed where none was safe."""

    n: int
    resample: bool


def share(n: int, least: int, capacity: Capacity, own: int, lag_s: float, *, others_wait: bool) -> Share:
    """What a request gets that wants n and can do with `least`; own: this gateway's sequences, before this request.

    Within the room that there is, but never below `least`: whether there is room for that is `room`'s to say.
    """
    signals = (
        (FILL, saturation(capacity, own)),
        (QUEUE, capacity.waiting / max(1, capacity.places)),
        (KV, capacity.kv_usage or 0.0),
        (LAG, lag_s),
    )
    pressure = 1.0 if others_wait else max(ramp.pressure(value) for ramp, value in signals)
    shrunk = least + round((1.0 - pressure) * (n - least))
    return Share(
        n=max(least, min(shrunk, room(capacity, own))),
        resample=not others_wait and all(value <= ramp.calm for ramp, value in signals),
    )


def room(capacity: Capacity, own: int) -> int:
    """Sequences that can be begun now."""
    if capacity.waiting > MOST_QUEUED * capacity.places:
        return 0
    return max(0, int(capacity.places - own - capacity.others))


def saturation(capacity: Capacity, own: int) -> float:
    """Share of the places that are taken; 1 where there are none. It can be over 1."""
    return (own + capacity.others) / capacity.places if capacity.places else 1.0
