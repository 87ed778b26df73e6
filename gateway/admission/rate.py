"""How often something happens a second, of late: an exponentially weighted count, honest from the first second on."""

import math


class Rate:
    """over_s: what happened that long ago counts about a third. now: seconds on any clock, the same in all calls."""

    def __init__(self, over_s: float, now: float) -> None:
        self._over_s = over_s
        self._start = now
        self._at = now
        self._count = 0.0

    def add(self, count: float, now: float) -> None:
        self._count = self._decayed(now) + count
        self._at = now

    def per_s(self, now: float) -> float:
        """0 where nothing happened yet."""
        watched_s = self._over_s * -math.expm1(-(now - self._start) / self._over_s)
        return self._decayed(now) / watched_s if watched_s else 0.0

    def _decayed(self, now: float) -> float:
        return self._count * math.exp(-(now - self._at) / self._over_s)
