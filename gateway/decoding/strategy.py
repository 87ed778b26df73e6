"""What a strategy is, what it is given, and what it decides.

A strategy is an async function `(Task, Sampler, Judge, Progress) -> Decision`. It spends samples and scores; it knows
nothing of HTTP, of which models stand behind the sampler and the judge, or of the log. `STRATEGY` in its module names
it, and `gateway.decoding.registry` finds it: those here by their file, those of others by the Python entry point group
`bestow.strategies`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.card import ModelCard
from gateway.decoding.open_streams import OpenStreams
from gateway.decoding.pieces import Pieces
from gateway.decoding.reward_laws import RewardLaw
from gateway.decoding.selection.chooser import Chooser, Outcomes
from gateway.log.records import Message, Round, Verdict
from gateway.workers.stream import Part
from scorers.contract import Score
from scorers.settings import Section

Need = Literal["reward", "partial", "steps"]
"""What a strategy cannot do without: a reward, one that reads beginnings of answers, or one that scores steps."""


class Options(Section):
    """A strategy's own settings, `profiles.NAME.options`: a field with a default and a description each."""

    @property
    def needs(self) -> frozenset[Need]:
        """What these settings cannot do without, beside what the strategy never can."""
        return frozenset()


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of a strategy.

    n: candidates at once, in a wave or for a block: there are places for so many at the workers.
    deliver: how many of them are wanted in the end, best first.
    resample: further waves when none was safe.
    deadline: on the event loop's clock; at it the best so far is delivered.
    unjudged_passes: whether a candidate that the guard could not judge may be delivered.
    options: the strategy's own, checked. chooser: the profile's selection rule.
    max_tokens: of an answer. token_limit: how many may be sampled in all; None for any number.
    card: what was measured of this policy and reward model, if it was.
    model, kind: the public model, and the class of prompts that this one belongs to: what is learnt is kept by them.
    release: where a stream waits: gives it a part of the answer that will not be taken back.
    law: of rewards within such prompts, as this process has learnt it; whoever samples freely may teach it.
    """

    n: int
    resample: int
    deadline: float
    unjudged_passes: bool
    options: Options = field(default_factory=Options)
    chooser: Chooser = field(default_factory=Chooser)
    max_tokens: int = 512
    token_limit: int | None = None
    card: ModelCard | None = None
    model: str = ""
    kind: str = ""
    release: Callable[[Part], Awaitable[None]] | None = None
    deliver: int = 1
    law: RewardLaw = field(default_factory=RewardLaw)

    def affordable(self, wanted: int, spent: int = 0) -> int:
        """How many of `wanted` more candidates the token limit allows, if each were as long as it may be."""
        if self.token_limit is None:
            return wanted
        return max(0, min(wanted, (self.token_limit - spent) // self.max_tokens))


class Sampler(Protocol):
    def sample(self, n: int, wave: int) -> AsyncGenerator[Candidate, None]:
        """n candidates, each as it finishes; closing the generator aborts what still runs. Raises ApiError."""
        ...

    def streams(self, n: int, interval: int) -> OpenStreams:
        """n candidates as streams that can be dropped one by one; a part of each about every `interval` tokens."""
        ...

    async def pieces(self) -> Pieces | None:
        """The request piece by piece; None where that would not be what the policy itself says. Raises ApiError."""
        ...

    @property
    def sampled_tokens(self) -> int:
        """Of everything that came back so far."""
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

    @property
    def scorer(self) -> str | None:
        """The version of the scorer that `score` asks, name@N; None where there is none."""
        ...

    async def score(self, message: Message) -> Score | None:
        """What the reward model says of an answer, or of the beginning of one; None where there is none."""
        ...

    async def check(self, message: Message) -> Verdict | None:
        """The guard's verdict on an answer, or on the beginning of one; None without a guard."""
        ...


@dataclass(frozen=True, slots=True)
class Settled:
    """Candidates, in the order they were given, with all that the judge says. skipped: a prune stage gave no score."""

    judged: tuple[Judged, ...]
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What a strategy decided.

    judged: all candidates, by index. order: positions in it that may be delivered, best first; empty when none was
    safe. outcomes: how likely each was. degraded: why this is less than was asked for, or None.
    scoring_tail_s: time between the last candidate's end and its scores, which scoring did not hide.
    released_tokens: what had left already when a stream ended; None where nothing leaves before the decision.
    instead: the strategy that was followed, where it is another than the profile's; because: why, in one word.
    rounds: what was sampled and judged on the way, where an answer is built piece by piece.
    """

    judged: tuple[Judged, ...]
    order: tuple[int, ...]
    outcomes: Outcomes
    degraded: str | None
    scoring_tail_s: float
    released_tokens: int | None = None
    instead: str | None = None
    because: str | None = None
    rounds: tuple[Round, ...] = ()


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


class Run(Protocol):
    async def __call__(self, task: Task, sampler: Sampler, judge: Judge, progress: Progress) -> Decision:
        """Decide one request.

        Raises GuardUnavailable where candidates could not be judged for safety and none else is safe, the sampler's
        ApiError where nothing could be sampled, DeadlineExceeded where nothing was judged in time.
        """
        ...


@dataclass(frozen=True, slots=True)
class Strategy:
    """One procedure. about: a sentence for operators. options: the class of its settings.

    needs: what the profile's reward must be. streams: whether it gives parts of the answer away as it chooses them
    (`Task.release`), which is stream mode `block`.
    """

    name: str
    about: str
    run: Run
    options: type[Options] = Options
    needs: frozenset[Need] = frozenset()
    streams: bool = False
