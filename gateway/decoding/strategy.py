"""What a strategy is given and what it decides.

A strategy is an async function `(Task, Sampler, Judge) -> Decision`. It spends samples and scores; it knows nothing of
HTTP, of which models stand behind the sampler and the judge, or of the log.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.decoding.candidate import Candidate, Judged


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of a strategy.

    n: candidates a wave. resample: further waves when none was safe.
    deadline: on the event loop's clock; at it the best so far is delivered.
    unjudged_passes: whether a candidate that the guard could not judge may be delivered.
    """

    n: int
    resample: int
    deadline: float
    unjudged_passes: bool


class Sampler(Protocol):
    def sample(self, n: int, wave: int) -> AsyncGenerator[Candidate, None]:
        """n candidates, each as it finishes; closing the generator aborts what still runs. Raises ApiError."""
        ...


class Judge(Protocol):
    async def judge(self, candidates: Sequence[Candidate]) -> list[Judged]:
        """Reward and verdict of each, in order. Never raises for a scorer's failure: the Judged says so.

        It ends at the request's deadline: what is missing then is a failure like another.
        """
        ...

    async def settle(self, judged: Sequence[Judged]) -> "Settled":
        """What can only be said of all candidates together, once no more will come. The same laws hold."""
        ...


@dataclass(frozen=True, slots=True)
class Settled:
    """Candidates, in the order they were given, with all that the judge says. skipped: a prune stage gave no score."""

    judged: tuple[Judged, ...]
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What a strategy decided.

    judged: all candidates that finished, by index. order: positions in it that may be delivered, best first; empty
    when none was safe. degraded: why this is less than was asked for, or None.
    scoring_tail_s: time between the last candidate's end and its scores, which scoring did not hide.
    released_tokens: what had left already when a live stream ended; None where nothing leaves before the decision.
    """

    judged: tuple[Judged, ...]
    order: tuple[int, ...]
    propensities: tuple[float, ...]
    degraded: str | None
    scoring_tail_s: float
    released_tokens: int | None = None


@dataclass(slots=True)
class Progress:
    """What a running strategy has so far; kept outside it so that a cancelled request can still be logged.

    first_candidate is set when the first candidate finished.
    """

    judged: list[Judged] = field(default_factory=list)
    first_candidate: asyncio.Event = field(default_factory=asyncio.Event)
    first_candidate_s: float | None = None
    last_candidate_s: float | None = None

    def finished(self, candidate: Candidate) -> None:
        """A candidate has come in."""
        self.last_candidate_s = candidate.finished_s
        if self.first_candidate_s is None:
            self.first_candidate_s = candidate.finished_s
            self.first_candidate.set()
