"""Where a model's weights run: token ids in, a row of numbers out, one for each input.

What a row is depends on the head that the scorer asks for: see `Head`. A row is the same whatever else is run with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scorers.errors import ScorerError

Row = list[float]


@dataclass(frozen=True, slots=True)
class Pooled:
    """A sequence classifier: its raw logits, [labels]."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A token classifier: its raw logits at each `token_id` of the input, in order and flat, [steps * labels]."""

    token_id: int


@dataclass(frozen=True, slots=True)
class NextToken:
    """A language model: the log-probability (over the whole vocabulary) of each of `ids` as the next token, [ids]."""

    ids: tuple[int, ...]


Head = Pooled | Steps | NextToken


class Backend(Protocol):
    """Runs one model. Use it inside one event loop."""

    @property
    def depth(self) -> int:
        """Inputs that wait."""
        ...

    async def run(self, inputs: Sequence[list[int]]) -> list[Row | ScorerError]:
        """One row an input, in order, or why that input has none.

        Cancelling it drops what has not begun. Raises ScorerError (Overloaded, ScorerUnavailable) where
        none can be run.
        """
        ...

    async def close(self) -> None:
        """Take no more, finish what waits."""
        ...
