"""The judge of one request: scorers and guard.

Each candidate is judged as it finishes: by the guard, and by the first scorer of the cascade, which without prune
stages is the reward model. The rest is asked when all candidates are in (`settle`): later stages, the reward model
behind them, and scorers whose say depends on the other candidates.

Whether a candidate keeps the form that was asked for (a schema, a tool's arguments) is checked here too. Candidates
that say the same are asked about once: it saves a score, and a reward model's rounding, which depends on what else is
in its batch, cannot prefer one of them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.decoding.candidate import Candidate, Judged, identity
from gateway.decoding.cascade import Step, contenders, going_on, scored
from gateway.decoding.strategy import Settled
from gateway.decoding.validity import Requirements
from gateway.guard.guard import Guard
from gateway.log.records import Message, Verdict
from gateway.scoring import Conversation
from gateway.telemetry.waiting import WaitClock
from scorers.contract import Score


@dataclass(frozen=True, slots=True)
class ScorerJudge:
    """Judges candidates of one conversation. steps: the scorers' turns, the last decides; there may be none.

    guard: may be absent. deadline: on the event loop's clock; an answer that is not there by then is an error of its
    own. unjudged_passes: whether a candidate that the guard could not judge may win.
    """

    conversation: Conversation
    steps: Sequence[Step]
    guard: Guard | None
    requirements: Requirements
    waiting: WaitClock
    deadline: float
    unjudged_passes: bool = False
    _asked: dict[bytes, asyncio.Future[tuple[Score | None, Verdict | None]]] = field(default_factory=dict)

    async def judge(self, candidates: Sequence[Candidate]) -> list[Judged]:
        return list(await asyncio.gather(*(self._judge_one(candidate) for candidate in candidates)))

    async def settle(self, judged: Sequence[Judged]) -> Settled:
        early = self._early
        if not self.steps or (early is not None and early.keep is None):
            return Settled(tuple(judged))
        found = list(judged)
        left: dict[bytes, list[int]] = {}
        for position in contenders(found, unjudged_passes=self.unjudged_passes):
            left.setdefault(identity(found[position].candidate.message), []).append(position)
        skipped = False
        for step in self.steps:
            scores = await self._scores(step, found, left)
            for text, score in scores.items():
                for position in left[text]:
                    if step is not early:
                        found[position] = scored(found[position], step, score, _now())
            if step.keep is None or len(left) <= step.keep:
                continue
            kept = going_on(scores, step.keep)
            if kept is None:
                skipped = True
                continue
            for text, positions in left.items():
                for position in positions:
                    one = found[position]
                    found[position] = (
                        replace(one, stages=one.stages + 1)
                        if text in kept
                        else replace(one, pruned_by=step.scorer.version)
                    )
            left = {text: left[text] for text in kept}
        return Settled(tuple(found), skipped)

    def judged(self, candidate: Candidate, score: Score | None, verdict: Verdict | None) -> Judged:
        """A candidate with what was said of it as it finished."""
        broken = None
        if self.requirements.any:
            broken = self.requirements.broken(candidate.message, candidate.finish_reason or "length")
        early = self._early
        if early is None or score is None:
            return Judged(candidate, None, None, verdict, _now(), broken)
        scores = {early.scorer.version: score}
        if early.keep is not None:
            return Judged(candidate, None, None, verdict, _now(), broken, None, scores, score.value)
        return Judged(candidate, score.value, score.error, verdict, _now(), broken, score.calibrated, scores)

    @property
    def scorer(self) -> str | None:
        """The version of the scorer that `score` asks, name@N."""
        return self._early.scorer.version if self._early else None

    async def score(self, message: Message) -> Score | None:
        """What the first scorer says of a message; None where there is none that can say it of one alone."""
        early = self._early
        if early is None:
            return None
        with self.waiting:
            [score] = await early.scorer.score(self.conversation, (message,), deadline=self.deadline)
        return score

    async def check(self, message: Message) -> Verdict | None:
        """The guard's verdict on a message, or on the part of one that a stream has so far; None without a guard."""
        if self.guard is None:
            return None
        with self.waiting:
            return await self.guard.check_candidate(self.conversation, message, self.deadline)

    @property
    def _early(self) -> Step | None:
        """The step that needs no other candidate: it is asked about each as it finishes."""
        return self.steps[0] if self.steps and not self.steps[0].scorer.relative else None

    async def _judge_one(self, candidate: Candidate) -> Judged:
        said = identity(candidate.message)
        answer = self._asked.get(said)
        if answer is None:
            answer = self._asked[said] = asyncio.get_running_loop().create_future()
            try:
                both = await asyncio.gather(self.score(candidate.message), self.check(candidate.message))
            except BaseException:
                answer.cancel()
                raise
            answer.set_result(both)
        score, verdict = await asyncio.shield(answer)
        return self.judged(candidate, score, verdict)

    async def _scores(
        self, step: Step, judged: Sequence[Judged], left: Mapping[bytes, Sequence[int]]
    ) -> dict[bytes, Score]:
        """What a step's scorer says of the texts that are left; empty where there is no need to ask it."""
        firsts = {text: judged[positions[0]] for text, positions in left.items()}
        if step is self._early:
            return {text: one.scores[step.scorer.version] for text, one in firsts.items()}
        if len(left) <= (step.keep or (1 if step.scorer.relative else 0)):
            return {}
        messages = [one.candidate.message for one in firsts.values()]
        with self.waiting:
            scores = await step.scorer.score(self.conversation, messages, deadline=self.deadline)
        return dict(zip(firsts, scores, strict=True))


def _now() -> float:
    return asyncio.get_running_loop().time()
