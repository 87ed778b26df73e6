"""Which gateway moves releases on: one at a time, by a lock in Redis that runs out, and a number that fences it.

The number (fence) is higher than that of any leader before. Whatever a leader writes carries it, and is refused where a
later leader has written: a gateway that was frozen while it led cannot undo what its successor did (after Kleppmann,
"How to do distributed locking"). A leader that cannot renew its lock in time takes itself for none, by its own clock.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.shared.lock import Lock, LockLost
from gateway.tasks import being_cancelled, end

logger = logging.getLogger(__name__)

# So long after a leader was killed another takes over.
HOLD_S = 6.0
# Of a command: a Redis that does not answer must not keep a leader waiting until its lock is another's.
ANSWER_WITHIN_S = 2.0


class Leader:
    """name: of what is led, in keys. least: the highest number that is known to have written.

    hold_s: how long the lock outlives its holder. clock: seconds that never go back.
    """

    def __init__(
        self,
        redis: Redis,
        name: str = "release",
        least: Callable[[], int] = lambda: 0,
        *,
        hold_s: float = HOLD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        key = f"bestow:{{leader-{name}}}"
        self._name = name
        self._counter = f"{key}:fence"
        self._lock = Lock(redis, f"{key}:lock", uuid.uuid4().hex, int(hold_s * 1000), "gateway")
        self._least = least
        self._hold_s = hold_s
        self._clock = clock
        self._fence: int | None = None
        self._until = 0.0
        self._keeping: asyncio.Task[None] | None = None

    @property
    def fence(self) -> int | None:
        """The number that this gateway leads by; None: it does not."""
        return self._fence if self._clock() < self._until else None

    async def lead(self) -> int | None:
        """The number, where this gateway leads now: it tries to where nobody does. Raises RedisError, TimeoutError."""
        if self.fence is not None:
            return self.fence
        if self._fence is not None:
            logger.warning("this gateway could not renew its lock in time, and leads the %s no longer", self._name)
            self._fence = None
        asked = self._clock()
        async with asyncio.timeout(min(ANSWER_WITHIN_S, self._hold_s / 2)):
            fence = await self._lock.take_fenced(self._counter, self._least())
        if fence is None:
            return None
        self._fence, self._until = fence, asked + self._hold_s
        await end(self._keeping)
        self._keeping = asyncio.create_task(self._keep(), name=f"bestow-leader-{self._name}")
        logger.info("this gateway leads the %s, as number %d", self._name, fence)
        return self.fence

    async def close(self) -> None:
        """Another can lead at once. Raises nothing."""
        await end(self._keeping)
        led, self._fence = self.fence, None
        if led is not None:
            with suppress(RedisError, TimeoutError, OSError):
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    await self._lock.release()

    async def _keep(self) -> None:
        """Renew the lock as long as it is ours."""
        while not being_cancelled():
            await asyncio.sleep(self._hold_s / 3)
            if self.fence is None:
                return
            asked = self._clock()
            try:
                async with asyncio.timeout(min(ANSWER_WITHIN_S, self._hold_s / 3)):
                    await self._lock.keep()
            except LockLost:
                logger.warning("another gateway leads the %s now", self._name)
                self._fence = None
                return
            except (RedisError, TimeoutError, OSError) as error:
                logger.warning("the lock of who leads the %s cannot be renewed: %r", self._name, error)
                continue
            self._until = asked + self._hold_s
