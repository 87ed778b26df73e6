"""Backends without a model, for tests of what is made of their rows."""

from collections.abc import Callable, Sequence

from scorers.backend import Row
from scorers.errors import ScorerError


class FakeBackend:
    """Answers each input by a function, and keeps what it was asked."""

    def __init__(self, answer: Callable[[list[int]], Row | ScorerError]) -> None:
        self._answer = answer
        self.asked: list[list[int]] = []
        self.closed = False

    @property
    def depth(self) -> int:
        return 0

    async def run(self, inputs: Sequence[list[int]]) -> list[Row | ScorerError]:
        assert not self.closed, "closed backends run nothing"
        self.asked += inputs
        return [self._answer(ids) for ids in inputs]

    async def close(self) -> None:
        self.closed = True
