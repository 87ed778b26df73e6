"""What scorers without a model share: a function judges one candidate after the other, in a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from scorers.contract import Message, Score, ScoreRequest, ScorerInfo
from scorers.errors import BadScoreRequest, Overloaded
from scorers.model_scorer import CannotScore
from scorers.threaded import in_thread

Judge = Callable[[ScoreRequest, Message | None], Score]
"""Judges a candidate of a request, or its conversation (None). Raises CannotScore, BadScoreRequest."""


class Places:
    """How many inputs of a scorer wait or are being judged, and what is too much."""

    def __init__(self, info: ScorerInfo, limit: int) -> None:
        self._info = info
        self._limit = limit
        self.taken = 0

    def take(self, request: ScoreRequest) -> int:
        """Places for a request; give them back. Raises BadScoreRequest, Overloaded."""
        if not request.candidates and not self._info.prompt_only:
            raise BadScoreRequest(f"{self._info.id} scores answers: candidates must hold at least one.", "candidates")
        if len(request.candidates) > self._limit:
            raise BadScoreRequest(f"candidates may hold at most {self._limit}.", "candidates")
        count = len(request.candidates) or 1
        if self.taken + count > self._limit:
            raise Overloaded(f"{self.taken} inputs wait for {self._info.id} already: ask again later.")
        self.taken += count
        return count

    def give_back(self, count: int) -> None:
        self.taken -= count


class PlainScorer:
    """Implements `scorers.contract.Scorer`. limit: inputs that may wait, and so candidates of one request."""

    def __init__(self, info: ScorerInfo, judge: Judge, *, limit: int) -> None:
        self._info = info
        self._judge = judge
        self._places = Places(info, limit)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=info.id)

    @property
    def info(self) -> ScorerInfo:
        return self._info

    @property
    def waiting(self) -> int:
        """Inputs not judged yet."""
        return self._places.taken

    async def score(self, request: ScoreRequest) -> list[Score]:
        """See the contract. Raises BadScoreRequest, Overloaded."""
        count = self._places.take(request)
        try:
            return await in_thread(self._thread, self._judge_all, request)
        finally:
            self._places.give_back(count)

    def _judge_all(self, request: ScoreRequest, given_up: threading.Event) -> list[Score]:
        scores: list[Score] = []
        for candidate in request.candidates or (None,):
            if given_up.is_set():
                break
            scores.append(judged(self._judge, request, candidate))
        return scores

    async def close(self) -> None:
        """Finish what waits, then end the thread."""
        self._thread.shutdown(wait=False)


def judged(judge: Judge, request: ScoreRequest, candidate: Message | None) -> Score:
    """The score, or why this candidate has none. Raises BadScoreRequest where the conversation cannot be read."""
    try:
        return judge(request, candidate)
    except CannotScore as error:
        return Score(error=str(error))
    except BadScoreRequest as error:
        if candidate is None:
            raise
        return Score(error=str(error), unreadable=True)
