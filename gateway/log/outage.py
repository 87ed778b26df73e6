"""Trying again: how long to wait, and what to say about it."""

import logging
import random
import time

logger = logging.getLogger(__name__)

PAUSE_S = (0.05, 2.0)


class Outage:
    """One warning when something stops working, one line when it works again, and the pause between attempts."""

    def __init__(self, what: str, rng: random.Random) -> None:
        self._what = what
        self._rng = rng
        self._failures = 0
        self._since = 0.0

    @property
    def active(self) -> bool:
        return self._failures > 0

    def failed(self, error: Exception) -> float:
        """Seconds to wait before the next attempt."""
        if not self._failures:
            self._since = time.monotonic()
            logger.warning("%s: %s: %s. Trying again until it works.", self._what, type(error).__name__, error)
        self._failures += 1
        least, most = PAUSE_S
        return float(min(most, least * 2 ** min(self._failures - 1, 10)) * self._rng.uniform(0.5, 1.0))

    def worked(self) -> None:
        if self._failures:
            logger.warning("%s: works again after %.1f s.", self._what, time.monotonic() - self._since)
        self._failures = 0
