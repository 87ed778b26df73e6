"""A scorer whose calls are counted, so that it can be closed after the last of them and no sooner."""

import asyncio

from scorers.contract import Score, ScoreRequest, ServedScorer


class InUse:
    """Use it inside one event loop."""

    def __init__(self, scorer: ServedScorer) -> None:
        self.scorer = scorer
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def score(self, request: ScoreRequest) -> list[Score]:
        """The scorer's own answer."""
        self._calls += 1
        self._idle.clear()
        try:
            return await self.scorer.score(request)
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def drain(self) -> None:
        """Close it once nobody waits for it. Nobody may begin to use it any more."""
        await self._idle.wait()
        await self.scorer.close()
