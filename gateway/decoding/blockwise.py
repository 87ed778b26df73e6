"""Blockwise decoding: sample n blocks of M tokens from what there is, keep the best, and go on from it.

Needs: a sampler that goes on from token ids, and a reward model that reads beginnings of answers. Costs: n times the
tokens of the answer, and a score of each block, which reads the answer so far; the blocks of a round are one request to
the workers, so the wall time is that of one answer and a round trip and a score more for each block. In return the
answer can be streamed as it is chosen (`stream_mode: block`): real tokens, one block late, each of them read by the
guard before it leaves.

KL to the policy at most blocks * (log n - (n-1)/n) (Mudgal et al. 2023, arXiv:2310.17022): each choice's own bound is
added up. With M >= the answer's length it is best-of-n, with n = 1 the policy itself.

Blocks that ended the answer compete with those that go on. Flagged ones are out; where all of a round are, another is
drawn (`resample`), and then the answer is refused, or ends where it is if some of it has left. At the deadline or the
token limit the answer ends with what was chosen until then.

What is delivered is the only candidate there is, so that its propensity is 1. Chance was in the rounds before: the
record's `rounds` hold every block with its own propensity, and the product over those kept is how likely this answer
was, given all blocks that were sampled.

What cannot be sampled piece by piece (grammars, penalties, log-probabilities, several answers) is best-of-n instead.
"""

import asyncio
import math
from dataclasses import dataclass, field, replace

from pydantic import Field

from gateway.decoding.best_of_n import JUDGE_GRACE_S, best_of_n
from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.pieces import Growing, Pieces, Prefix
from gateway.decoding.piecewise import as_candidate, judged_so_far, judged_whole, piece_of, pieces_in_time, room
from gateway.decoding.selection.chooser import Outcomes, Ranking, certain
from gateway.decoding.shortfall import degraded_by, explain, guard_unavailable
from gateway.decoding.strategy import Decision, Judge, Options, Progress, Sampler, Strategy, Task
from gateway.log.records import Round
from gateway.workers.stream import Accumulator, Part


class BlockwiseOptions(Options):
    block_tokens: int = Field(
        16,
        ge=1,
        description="Tokens of a block. Few: the answer is steered closely, costs more scores, and a stream begins "
        "sooner; as many as an answer may have: best of n.",
    )


async def blockwise(task: Task, sampler: Sampler, judge: Judge, progress: Progress) -> Decision:
    """Decide one request. Raises what best-of-n does; GuardUnavailable also where part of the answer has left."""
    pieces = await pieces_in_time(task, sampler)
    if pieces is None:
        return replace(await best_of_n(task, sampler, judge, progress), instead="best_of_n", because="not_continuable")
    answer = _Answer(task, sampler, pieces, judge, progress, pieces.growing() if task.release else None)
    return await answer.decide()


@dataclass(slots=True)
class _Answer:
    """The answer as it grows. chosen: what there is of it, all of which has left where it is streamed (`out`).

    latest: what was said of it. seen: all blocks. bounds: of each choice, in nats. place: where the chosen one was in
    the last round. flagged: the blocks of a round that had no safe one.
    """

    task: Task
    sampler: Sampler
    pieces: Pieces
    judge: Judge
    progress: Progress
    growing: Growing | None
    chosen: Prefix = field(default_factory=Prefix)
    latest: Judged | None = None
    out: Accumulator = field(default_factory=Accumulator)
    seen: list[Judged] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    bounds: list[float | None] = field(default_factory=list)
    place: int = 0
    flagged: tuple[Judged, ...] = ()
    timed_out: bool = False
    lost: bool = False

    async def decide(self) -> Decision:
        try:
            async with asyncio.timeout_at(self.task.deadline + JUDGE_GRACE_S):
                while self.chosen.finish_reason is None and await self._grow():
                    pass
                if self.chosen.finish_reason is None and self.latest is not None and not self.flagged:
                    # At the token limit: what was kept back as the beginning of a stop string is none.
                    await self._choose(replace(self.chosen, finish_reason="length"), self.latest)
        except TimeoutError:
            self.timed_out = True
        if self.flagged:
            return self._refused(self.flagged)
        if self.latest is None:
            explain((), None, timed_out=self.timed_out)
        assert self.latest is not None
        return await self._delivered(self.latest)

    async def _grow(self) -> bool:
        """One block more. False where there is none. Raises TimeoutError at the deadline, ApiError."""
        drawn, judged, ranking = list[Prefix](), list[Judged](), Ranking((), Outcomes(()))
        for _ in range(1 + self.task.resample):
            size = self._size(begun=bool(drawn) or self.latest is not None)
            if size < 1:
                break
            async with asyncio.timeout_at(self.task.deadline):
                [new] = await self.pieces.continued([self.chosen], self.task.n, size)
            self.lost = self.lost or len(new) < self.task.n
            judged += await judged_so_far(self.judge, new, len(drawn))
            drawn += new
            ranking = self.task.chooser.rank(judged, unjudged_passes=self.task.unjudged_passes)
            if ranking.order or any(one.unjudged for one in judged):
                break
        if not drawn:
            return False
        self.seen += judged
        self._log(drawn, judged, ranking)
        if not ranking.order:
            if asyncio.get_running_loop().time() >= self.task.deadline:
                raise TimeoutError
            if any(one.unjudged for one in judged):
                raise guard_unavailable(tuple(judged))
            self.flagged = tuple(judged)
            return False
        self.bounds.append(ranking.outcomes.kl_bound)
        await self._choose(drawn[ranking.order[0]], judged[ranking.order[0]])
        self.place = ranking.order[0]
        return True

    def _size(self, *, begun: bool) -> int:
        """Tokens of the next block."""
        options = self.task.options
        assert isinstance(options, BlockwiseOptions)
        left = self.task.max_tokens - len(self.chosen.token_ids)
        size = min(options.block_tokens, left)
        most = room(self.task, self.sampler, self.task.n, begun=begun)
        return size if most is None else min(size, most)

    async def _choose(self, prefix: Prefix, judged: Judged) -> None:
        """The answer is this now; a stream gets it before it counts."""
        if self.growing is not None and self.task.release is not None:
            delta = await self.growing.add(prefix)
            ids = list(prefix.token_ids[len(self.chosen.token_ids) :])
            if delta or ids:
                part = Part(0, delta, None, ids, len(ids))
                await self.task.release(part)
                self.out.add(part)
        self.chosen, self.latest = prefix, judged
        self.progress.judged[:] = [judged]

    def _log(self, drawn: list[Prefix], judged: list[Judged], ranking: Ranking) -> None:
        kept = ranking.order[0] if ranking.order else None
        chances = ranking.outcomes.candidates
        pieces = [
            piece_of(
                self.chosen,
                prefix,
                self.place,
                judged[index],
                float(index == kept) if ranking.outcomes.fallback else chances[index],
                kept=index == kept,
            )
            for index, prefix in enumerate(drawn)
        ]
        self.rounds.append(Round(pieces))

    async def _delivered(self, latest: Judged) -> Decision:
        candidate = self._candidate()
        judged = replace(latest, candidate=candidate)
        if not self.timed_out:
            [judged] = await judged_whole(self.task, self.judge, [candidate], [latest])
        if judged.flagged:
            return self._refused((judged,))
        self.progress.finished(candidate)
        self.progress.judged[:] = [judged]
        seen = (*self.seen, judged)
        return Decision(
            judged=(judged,),
            order=(0,),
            outcomes=self._outcomes(judged),
            degraded=degraded_by(seen, (len(seen) - 1,), timed_out=self.timed_out, lost=self.lost),
            scoring_tail_s=asyncio.get_running_loop().time() - candidate.finished_s,
            released_tokens=self._released,
            rounds=tuple(self.rounds),
        )

    def _candidate(self) -> Candidate:
        found = as_candidate(0, self.chosen)
        # Block after block has a seed of its own.
        seed = found.seed if len(self.rounds) == 1 else None
        message = found.message if self.growing is None else self.out.message
        return replace(found, seed=seed, message=message, finish_reason=self.chosen.finish_reason or "length")

    def _outcomes(self, judged: Judged) -> Outcomes:
        if self.task.chooser.rewarded and all(one.reward is None for one in self.seen):
            return Outcomes((0.0,), fallback=1.0)
        known = [bound for bound in self.bounds if bound is not None]
        bound = math.fsum(known) if len(known) == len(self.bounds) else None
        return certain((judged,), (0,), bound)

    def _refused(self, flagged: tuple[Judged, ...]) -> Decision:
        judged = tuple(
            replace(one, candidate=replace(one.candidate, finish_reason="content_filter")) for one in flagged
        )
        self.progress.finished(judged[0].candidate)
        self.progress.judged[:] = judged
        return Decision(
            judged=judged,
            order=(),
            outcomes=certain(judged, ()),
            degraded=degraded_by(tuple(self.seen), (), lost=self.lost),
            scoring_tail_s=asyncio.get_running_loop().time() - judged[0].candidate.finished_s,
            released_tokens=self._released,
            rounds=tuple(self.rounds),
        )

    @property
    def _released(self) -> int | None:
        return None if self.growing is None else self.out.tokens


STRATEGY = Strategy(
    name="blockwise",
    about="Samples n blocks of a few tokens, keeps the best and goes on from it; streams the answer block by block.",
    run=blockwise,
    options=BlockwiseOptions,
    needs=frozenset({"reward", "partial"}),
    streams=True,
)
