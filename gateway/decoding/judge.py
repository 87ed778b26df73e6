"""The judge of one request: reward model and guard, asked at the same time about each candidate as it finishes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.decoding.candidate import Candidate, Judged
from gateway.guard.guard import Guard
from gateway.log.records import Message, Verdict
from gateway.scoring import ScorerHandle
from gateway.telemetry.waiting import WaitClock
from scorers.contract import Score


@dataclass(frozen=True, slots=True)
class ScorerJudge:
    """Judges candidates of one conversation. Either of reward and guard may be absent."""

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]]
    reward: ScorerHandle | None
    guard: Guard | None
    waiting: WaitClock

    async def judge(self, candidates: Sequence[Candidate]) -> list[Judged]:
        return list(await asyncio.gather(*(self._judge_one(candidate) for candidate in candidates)))

    async def _judge_one(self, candidate: Candidate) -> Judged:
        with self.waiting:
            score, verdict = await asyncio.gather(self._score(candidate.message), self._check(candidate.message))
        return Judged(
            candidate=candidate,
            reward=score.value if score else None,
            reward_error=_why_missing(score),
            verdict=verdict,
            scored_s=asyncio.get_running_loop().time(),
        )

    async def _score(self, message: Message) -> Score | None:
        if self.reward is None:
            return None
        [score] = await self.reward.score(self.messages, (message,), self.tools)
        return score

    async def _check(self, message: Message) -> Verdict | None:
        if self.guard is None:
            return None
        return await self.guard.check_candidate(self.messages, message, self.tools)


def _why_missing(score: Score | None) -> str | None:
    if score is None or score.value is not None:
        return None
    return score.error or "the reward model gave categories instead of a number"
