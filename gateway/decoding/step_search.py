"""Step search: a beam over the steps of an answer, led by a process reward model (Snell et al. 2024, arXiv:2408.03314).

    all beams -> each goes on by a step, n / beams ways -> the best `beams` of these and of the finished ones -> ...

A step ends with the separator that the model was trained on. A beam's value is the last of its steps' scores, the
smallest, or the sum of their logarithms, which ranks as their product does and never sinks to 0. Finished beams keep
their place among the best, so the search is over when none of these goes on; then all finished ones are candidates, and
the profile's rule chooses by their values.

Needs: a sampler that goes on from token ids, and a reward model that scores steps. Costs: n steps and n scores at a
time, in one request to the workers; rounds follow each other, and nothing is streamed. Flagged steps are out; where all
of a round are, it is drawn again (`resample`). At the deadline, the token limit or the last step the finished ones
decide; where there is none, the beams as far as they are.

KL to the policy at most log(beams * each) + (steps - 1) log(each), each = n / beams: the answer is one of so many
chains of draws, each of which is the policy's own.

What cannot be sampled piece by piece (grammars, penalties, log-probabilities, several answers) is best-of-n instead.
"""

import asyncio
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import Field

from gateway.decoding.best_of_n import JUDGE_GRACE_S, best_of_n
from gateway.decoding.candidate import Judged
from gateway.decoding.pieces import Pieces, Prefix
from gateway.decoding.piecewise import as_candidate, judged_so_far, judged_whole, piece_of, pieces_in_time, room
from gateway.decoding.shortfall import degraded_by, explain, guard_unavailable
from gateway.decoding.strategy import Decision, Judge, Options, Progress, Sampler, Strategy, Task
from gateway.log.records import Round

Aggregate = Literal["last", "min", "prod"]


class StepSearchOptions(Options):
    separator: str = Field("\n\n", min_length=1, description="What ends a step, as the process reward model reads it.")
    beams: int = Field(4, ge=1, description="Beams that are kept after each step; each goes on in n / beams ways.")
    max_steps: int = Field(32, ge=1, description="Steps after which the search ends.")
    aggregate: Aggregate = Field(
        "last",
        description="A beam's value: its last step's score, the smallest, or their product (of probabilities alone).",
    )


def value_of(steps: Sequence[float], aggregate: Aggregate) -> float | None:
    """A beam's value by its steps' scores; of a product the logarithm, a factor of 0 taken for the least above it.

    None where there is no step, or a product is wanted of what are no probabilities.
    """
    if not steps:
        return None
    match aggregate:
        case "last":
            return steps[-1]
        case "min":
            return min(steps)
    if not all(0 <= step <= 1 for step in steps):
        return None
    return math.fsum(math.log(max(step, sys.float_info.min)) for step in steps)


@dataclass(frozen=True, slots=True)
class _Beam:
    """judged: with its value as the reward; None before the first step. parent: what it goes on from.

    place: in its round. drawn: its number among all pieces.
    """

    prefix: Prefix
    judged: Judged | None = None
    parent: "_Beam | None" = None
    place: int = 0
    drawn: int = 0

    @property
    def key(self) -> tuple[bool, float, int]:
        """Smaller is better: by value, then the earliest."""
        value = self.judged.reward if self.judged else None
        return (value is None, 0.0 if value is None else -value, self.drawn)


def _different(beams: Sequence[_Beam]) -> list[_Beam]:
    """Best first. Of beams with the same ids the earliest: the others would be drawn as it is, and take up places."""
    found: dict[tuple[int, ...], _Beam] = {}
    for one in sorted(beams, key=lambda one: one.key):
        found.setdefault(one.prefix.token_ids, one)
    return list(found.values())


async def step_search(task: Task, sampler: Sampler, judge: Judge, progress: Progress) -> Decision:
    """Decide one request. Raises what best-of-n does."""
    pieces = await pieces_in_time(task, sampler)
    if pieces is None:
        return replace(await best_of_n(task, sampler, judge, progress), instead="best_of_n", because="not_continuable")
    return await _Search(task, sampler, pieces, judge, progress).decide()


@dataclass(slots=True)
class _Search:
    """live: the beams that go on. finished: all that have ended. seen: all pieces. bound: on the KL so far, in nats.

    flagged: the pieces of the last round, where none of them was safe.
    """

    task: Task
    sampler: Sampler
    pieces: Pieces
    judge: Judge
    progress: Progress
    live: list[_Beam] = field(default_factory=lambda: [_Beam(Prefix())])
    finished: list[_Beam] = field(default_factory=list)
    seen: list[Judged] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    bound: float = 0.0
    flagged: tuple[Judged, ...] = ()
    timed_out: bool = False
    lost: bool = False

    async def decide(self) -> Decision:
        try:
            async with asyncio.timeout_at(self.task.deadline + JUDGE_GRACE_S):
                while self.live and len(self.rounds) < self._options.max_steps and await self._step():
                    pass
        except TimeoutError:
            self.timed_out = True
        return await self._decision()

    @property
    def _options(self) -> StepSearchOptions:
        options = self.task.options
        assert isinstance(options, StepSearchOptions)
        return options

    async def _step(self) -> bool:
        """All live beams by a step. False where none can go on. Raises TimeoutError at the deadline, ApiError."""
        beams = min(self._options.beams, self.task.n)
        each = self.task.n // beams * (1 if self.rounds else beams)
        drawn = list[_Beam]()
        for _ in range(1 + self.task.resample):
            new = await self._drawn(each, len(drawn), begun=bool(drawn or self.rounds))
            drawn += new
            safe = [one for one in drawn if one.judged and one.judged.safe(self.task.unjudged_passes)]
            if not new or safe or any(one.judged and one.judged.unjudged for one in drawn):
                break
        if not drawn:
            return False
        judged = tuple(one.judged for one in drawn if one.judged)
        self.seen += judged
        self.bound += max(0.0, math.log(len(drawn) / len(self.live)))
        best = _different([*self.finished, *safe])[:beams]
        self._log(drawn, best)
        if not safe:
            if asyncio.get_running_loop().time() >= self.task.deadline:
                raise TimeoutError
            if any(one.unjudged for one in judged) and not self.finished:
                raise guard_unavailable(judged)
            self.flagged, self.live = judged, []
            return False
        self.finished += [one for one in safe if one.prefix.finish_reason]
        self.live = [one for one in best if one.prefix.finish_reason is None]
        self.progress.judged[:] = [one.judged for one in [*self.finished, *self.live] if one.judged]
        return True

    async def _drawn(self, each: int, place: int, *, begun: bool) -> list[_Beam]:
        """Each live beam by a step, `each` ways; place: of the first of them in its round."""
        left = min(self.task.max_tokens - len(beam.prefix.token_ids) for beam in self.live)
        most = room(self.task, self.sampler, each * len(self.live), begun=begun)
        size = left if most is None else min(left, most)
        if size < 1:
            return []
        async with asyncio.timeout_at(self.task.deadline):
            prefixes = [beam.prefix for beam in self.live]
            grown = await self.pieces.continued(prefixes, each, size, self._options.separator)
        flat = [one for ways in grown for one in ways]
        self.lost = self.lost or len(flat) < each * len(self.live)
        first = len(self.seen) + place
        judged = await judged_so_far(self.judge, flat, first)
        parents = [beam for beam, ways in zip(self.live, grown, strict=True) for _ in ways]
        return [
            _Beam(prefix, self._valued(one), parent, place + index, first + index)
            for index, (prefix, one, parent) in enumerate(zip(flat, judged, parents, strict=True))
        ]

    def _valued(self, judged: Judged) -> Judged:
        """With the beam's value as its reward."""
        if judged.reward is None:
            return judged
        steps = next((score.steps for score in judged.scores.values()), [])
        value = value_of(steps, self._options.aggregate)
        return replace(judged, reward=value, reward_error="it has no scores of steps" if value is None else None)

    def _log(self, drawn: Sequence[_Beam], best: Sequence[_Beam]) -> None:
        kept = {one.drawn for one in best}
        self.rounds.append(
            Round(
                [
                    piece_of(
                        one.parent.prefix,
                        one.prefix,
                        one.parent.place,
                        one.judged,
                        float(one.drawn in kept),
                        kept=one.drawn in kept,
                    )
                    for one in drawn
                    if one.parent and one.judged
                ]
            )
        )

    async def _decision(self) -> Decision:
        # Where none has ended, those that were cut off are all there is.
        beams = self.finished or [one for one in self.live if one.judged]
        if not beams:
            explain(self.flagged, None, timed_out=self.timed_out)
            judged = self.flagged
        else:
            judged = await self._judged(beams)
        ranking = self.task.chooser.rank(judged, unjudged_passes=self.task.unjudged_passes)
        for one in judged:
            self.progress.finished(one.candidate)
        self.progress.judged[:] = judged
        last_s = max(one.candidate.finished_s for one in judged)
        seen = (*self.seen, *judged)
        return Decision(
            judged=judged,
            order=ranking.order,
            outcomes=replace(ranking.outcomes, kl_bound=self.bound if ranking.order else None),
            degraded=degraded_by(
                seen,
                tuple(len(self.seen) + position for position in ranking.order),
                timed_out=self.timed_out,
                lost=self.lost,
            ),
            scoring_tail_s=asyncio.get_running_loop().time() - last_s,
            rounds=tuple(self.rounds),
        )

    async def _judged(self, beams: Sequence[_Beam]) -> tuple[Judged, ...]:
        """The answers, each with its beam's value as the reward."""
        so_far = [one.judged for one in beams if one.judged]
        candidates = [
            replace(as_candidate(index, one.prefix), finish_reason=one.prefix.finish_reason or "length", seed=None)
            for index, one in enumerate(beams)
        ]
        if self.timed_out:
            whole = [replace(one, candidate=candidate) for one, candidate in zip(so_far, candidates, strict=True)]
        else:
            whole = await judged_whole(self.task, self.judge, candidates, so_far)
        return tuple(
            replace(one, reward=before.reward, reward_error=before.reward_error)
            for one, before in zip(whole, so_far, strict=True)
        )


STRATEGY = Strategy(
    name="step_search",
    about="Searches over the steps of an answer with a beam, led by a process reward model.",
    run=step_search,
    options=StepSearchOptions,
    needs=frozenset({"reward", "steps"}),
)
