"""What all scorers that run a model here share: tokenise in one thread, run in another, put the rows back together."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from scorers.backend import Backend, Row
from scorers.contract import Message, Score, ScoreRequest, ScorerInfo
from scorers.errors import BadScoreRequest, ScorerError
from scorers.threaded import in_thread


class Encoder(Protocol):
    """A conversation, ending with `candidate` where there is one, to token ids. Raises BadScoreRequest, CannotScore."""

    def encode(
        self, messages: Sequence[Message], candidate: Message | None, tools: Sequence[dict[str, Any]]
    ) -> list[int]: ...


class Reader(Protocol):
    """What a kind of scorer decides: what the model reads of one input, and what its rows mean."""

    def windows(self, ids: list[int]) -> list[list[int]]:
        """The inputs to run for one candidate. Raises CannotScore where it cannot be scored."""
        ...

    def score(self, rows: Sequence[Row], tokens: int) -> Score:
        """The score from the logits of each window. Raises CannotScore."""
        ...


class CannotScore(Exception):
    """This candidate has no score; the message says why, in one sentence."""


class ModelScorer:
    """A scorer that runs a model in this process. Implements `scorers.contract.Scorer`."""

    def __init__(
        self, info: ScorerInfo, encoder: Encoder, reader: Reader, backend: Backend, *, max_candidates: int
    ) -> None:
        self._info = info
        self._encoder = encoder
        self._reader = reader
        self._backend = backend
        self._max_candidates = max_candidates
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"tokens-{info.id}")

    @property
    def info(self) -> ScorerInfo:
        return self._info

    @property
    def waiting(self) -> int:
        """Inputs in the queue."""
        return self._backend.depth

    async def score(self, request: ScoreRequest) -> list[Score]:
        """See the contract. Raises BadScoreRequest, Overloaded, ScorerFailed where every input failed."""
        if not request.candidates and not self._info.prompt_only:
            raise BadScoreRequest(f"{self._info.id} scores answers: candidates must hold at least one.", "candidates")
        if len(request.candidates) > self._max_candidates:
            raise BadScoreRequest(f"candidates may hold at most {self._max_candidates}.", "candidates")
        prepared = await in_thread(self._thread, self._prepare, request)
        rows = await self._backend.run([ids for one in prepared if isinstance(one, _Input) for ids in one.windows])
        return self._assemble(prepared, rows)

    def _prepare(self, request: ScoreRequest, given_up: threading.Event) -> list["_Input | Score"]:
        prepared: list[_Input | Score] = []
        for candidate in request.candidates or (None,):
            if given_up.is_set():
                break
            ids: list[int] = []
            try:
                ids = self._encoder.encode(request.messages, candidate, request.tools)
                prepared.append(_Input(self._reader.windows(ids), len(ids)))
            except CannotScore as error:
                prepared.append(Score(error=str(error), tokens=len(ids)))
        return prepared

    def _assemble(self, prepared: Sequence["_Input | Score"], rows: Sequence[Row | ScorerError]) -> list[Score]:
        failures = [row for row in rows if isinstance(row, ScorerError)]
        if failures and len(failures) == len(rows):
            raise failures[0]
        scores: list[Score] = []
        position = 0
        for one in prepared:
            if isinstance(one, Score):
                scores.append(one)
                continue
            mine = rows[position : position + len(one.windows)]
            position += len(one.windows)
            scores.append(self._score(one, mine))
        return scores

    def _score(self, one: "_Input", rows: Sequence[Row | ScorerError]) -> Score:
        read: list[Row] = []
        for row in rows:
            if isinstance(row, ScorerError):
                return Score(error=str(row), tokens=one.tokens)
            read.append(row)
        try:
            return self._reader.score(read, one.tokens)
        except CannotScore as error:
            return Score(error=str(error), tokens=one.tokens)

    async def close(self) -> None:
        """Finish what waits, then end the threads."""
        await self._backend.close()
        self._thread.shutdown(wait=False)


class _Input:
    __slots__ = ("tokens", "windows")

    def __init__(self, windows: list[list[int]], tokens: int) -> None:
        self.windows = windows
        self.tokens = tokens
