"""Asynchronous halving: n streams at once, of which only the best by their beginnings are sampled to the end.

At token checkpoints the reward model reads what each candidate is so far; the best share of them goes on, and the
others' connections are closed, by which vLLM aborts them. This is the streaming form of speculative rejection (Sun et
al. 2024, arXiv:2410.20290): nothing stops and nothing is prefilled twice, and decoding never waits for a score. A
checkpoint is decided when the last candidate has passed it and is scored; until then all run on.

Needs: a reward model that reads beginnings of answers, and a model card that shows that what it says of them foretells
what it says of whole ones (`min_correlation`); otherwise plain best-of-n is run, and the answer and the log say so.
Costs: sum over phases of n_k (t_(k+1) - t_k) tokens (`laws.halving.tokens`) and what runs on while scores are awaited;
a request for each candidate, so that it can be aborted alone, and a score for each at each checkpoint. What of
best-of-n's gain is kept: `laws.halving.retained`, all at correlation 1, that of the kept alone at 0.
KL to the policy: the winner is one of n independent samples, so log n at most.

A candidate that was cut off is no answer: it is logged, and never delivered. Where no finished one is safe, plain waves
follow as in best-of-n.
"""

import asyncio
import logging
from dataclasses import replace
from functools import lru_cache

from pydantic import Field, field_validator

from gateway.decoding.best_of_n import best_of_n
from gateway.decoding.candidate import Candidate, Judged, identity
from gateway.decoding.open_streams import Growth, Lost, OpenStreams
from gateway.decoding.race import Entry, Race, course, interval
from gateway.decoding.strategy import Decision, Judge, Options, Progress, Sampler, Strategy, Task
from gateway.errors import ApiError
from gateway.log.records import Message
from scorers.contract import Score

logger = logging.getLogger(__name__)

_UNFIT = {
    "scorer": "its first scorer says nothing of a single candidate",
    "unmeasured": "how well the reward of a beginning foretells that of the whole was not measured for this policy and "
    "its first scorer: run `bestow calibrate`",
    "correlation": "the reward of a beginning says too little of that of the whole: lower options.min_correlation, or "
    "put the checkpoints later",
    "short": "no answer is longer than the first checkpoint: lower options.checkpoints",
}


class HalvingOptions(Options):
    checkpoints: list[int] = Field(
        [],
        description="Tokens after which candidates are compared and the worse ones given up; empty: 1/8, 1/4 and 1/2 "
        "of an answer's mean length, or of max_tokens where it was not measured.",
    )
    keep: float = Field(0.5, gt=0, lt=1, description="Share of the candidates that goes on at each checkpoint.")
    least: int = Field(1, ge=1, le=128, description="How many go on at least.")
    min_correlation: float = Field(
        0.5,
        ge=-1,
        le=1,
        description="Least correlation of the reward at a checkpoint with the final one, as the model card has it; "
        "checkpoints below are left out, and without any the strategy is best_of_n.",
    )
    unmeasured: bool = Field(
        False, description="Count checkpoints of which the model card says nothing: for experiments."
    )

    @field_validator("checkpoints")
    @classmethod
    def _ascend(cls, value: list[int]) -> list[int]:
        if any(tokens < 1 for tokens in value) or value != sorted(set(value)):
            raise ValueError("checkpoints must be 1 or more and ascend, such as [16, 32, 64]")
        return value


async def halving(task: Task, sampler: Sampler, judge: Judge, progress: Progress) -> Decision:
    """Decide one request. Raises as best_of_n does."""
    options = task.options
    assert isinstance(options, HalvingOptions)
    # The card is of the reward model: where a cheaper stage reads the beginnings, it says nothing of them.
    card = task.card if task.card and task.card.reward_model == judge.scorer else None
    found = course(
        options.checkpoints,
        card,
        task.max_tokens,
        min_correlation=options.min_correlation,
        unmeasured=options.unmeasured,
    )
    unfit = found.unfit if judge.scorer else "scorer"
    if unfit:
        _warn(task.model, unfit)
        decision = await best_of_n(task, sampler, judge, progress)
        return replace(decision, instead="best_of_n", because=unfit)
    unscored = False

    async def first_wave(
        task: Task, n: int, _: int, sampler: Sampler, judge: Judge, progress: Progress
    ) -> ApiError | None:
        nonlocal unscored
        streams = sampler.streams(n, interval(found.checkpoints))
        race = Race(found.checkpoints, options.keep, max(options.least, task.deliver), set(streams.indexes))
        failure = await _Wave(task, streams, race, judge, progress).run()
        unscored = race.unscored
        return failure

    decision = await best_of_n(task, sampler, judge, progress, first_wave)
    return replace(decision, degraded=decision.degraded or ("prune_unavailable" if unscored else None))


class _Wave:
    """The streams of one request between its checkpoints: the shell around `Race`."""

    def __init__(self, task: Task, streams: OpenStreams, race: Race, judge: Judge, progress: Progress) -> None:
        self._task = task
        self._streams = streams
        self._race = race
        self._judge = judge
        self._progress = progress
        # Of each candidate, the scores of its beginnings that are awaited; and the answers, by text.
        self._awaited: dict[int, set[asyncio.Task[None]]] = {index: set() for index in streams.indexes}
        self._asked: dict[bytes, asyncio.Task[Score | None]] = {}

    async def run(self) -> ApiError | None:
        """To the end of all that is not given up, all finished ones judged. Returns why one was lost, or None."""
        failure: ApiError | None = None
        async with asyncio.TaskGroup() as scoring:
            try:
                async with asyncio.timeout_at(self._task.deadline), self._streams as streams:
                    async for item in streams:
                        if isinstance(item, Growth):
                            self._grown(item, scoring)
                        elif isinstance(item, Candidate):
                            self._progress.finished(item)
                            self._race.finished(item.index)
                            self._forget(item.index)
                            scoring.create_task(self._judged(item))
                        else:
                            failure = failure or item.error
                            self._lost(item)
            except TimeoutError:
                pass
            finally:
                # What comes in from here on decides nothing.
                self._race.running.clear()
                for index in self._awaited:
                    self._forget(index)
                for asked in self._asked.values():
                    asked.cancel()
        return failure

    def _grown(self, growth: Growth, scoring: asyncio.TaskGroup) -> None:
        if not growth.tokens:
            self._forget(growth.index)
            self._race.begun_anew(growth.index)
            return
        passed = self._race.grown(growth.index, growth.tokens)
        if passed:
            awaited = scoring.create_task(self._scored(growth.index, passed, growth.message, scoring))
            self._awaited[growth.index].add(awaited)
            awaited.add_done_callback(self._awaited[growth.index].discard)

    async def _scored(self, index: int, passed: list[int], message: Message, scoring: asyncio.TaskGroup) -> None:
        text = identity(message)
        if text not in self._asked:
            self._asked[text] = scoring.create_task(self._ask(message))
        score = await asyncio.shield(self._asked[text])
        for number in passed:
            self._race.scored(Entry(index, text, score.value if score else None), number)
        self._give_up()

    async def _ask(self, message: Message) -> Score | None:
        return await self._judge.score(message)

    async def _judged(self, candidate: Candidate) -> None:
        for one in await self._judge.judge([candidate]):
            self._progress.judged.append(one)
            contends = one.safe(self._task.unjudged_passes) and one.broken is None
            value = one.prior if one.reward is None else one.reward
            self._race.judged(Entry(candidate.index, identity(candidate.message), value), contends=contends)
        self._give_up()

    def _lost(self, lost: Lost) -> None:
        self._race.lost(lost.index)
        self._forget(lost.index)
        self._give_up()

    def _give_up(self) -> None:
        """Decide what can be decided, and drop the losers. One that has ended meanwhile is judged like any other."""
        for loss in self._race.decide():
            self._forget(loss.index)
            cut = self._streams.drop(loss.index)
            if cut is not None and (scorer := self._judge.scorer):
                self._progress.judged.append(
                    Judged(
                        cut,
                        reward=None,
                        reward_error=None,
                        verdict=None,
                        scored_s=cut.finished_s,
                        scores={scorer: Score(value=loss.value)},
                        prior=loss.value,
                        stages=loss.survived,
                        pruned_by=scorer,
                    )
                )

    def _forget(self, index: int) -> None:
        for awaited in tuple(self._awaited[index]):
            awaited.cancel()


@lru_cache(maxsize=1024)
def _warn(model: str, unfit: str) -> None:
    """Once for each."""
    logger.warning("halving is not followed for model %s, best_of_n is: %s", model, _UNFIT[unfit])


STRATEGY = Strategy(
    name="halving",
    about="Samples n candidates and gives up the worse ones at token checkpoints, by the reward of their beginnings.",
    run=halving,
    options=HalvingOptions,
    needs=frozenset({"reward", "partial"}),
)
