"""How much the workers of a pool can do, and how much is taken. The unit is a sequence: one candidate being sampled."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capacity:
    """places: sequences that the usable workers run at once, all together; 0: no worker is up.

    running: this gateway's own, in flight. The rest is the workers' word, and as old as that. others: other gateways'
    sequences. waiting: what lies in the workers' own queues. kv_usage: of the fullest KV cache, 0 to 1; None: unknown.
    """

    places: int
    running: int
    others: float
    waiting: float
    kv_usage: float | None
