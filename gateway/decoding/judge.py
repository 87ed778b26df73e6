"""The judge of one request: reward model and guard, asked at the same time about each candidate as it finishes.

Whether a candidate keeps the form that was asked for (a schema, a tool's arguments) is checked here too. Candidates
that say the same are asked about once: it saves a score, and a reward model's rounding, which depends on what else is
in its batch, cannot prefer one of them.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.validity import Requirements
from gateway.guard.guard import Guard
from gateway.log.records import Message, Verdict
from gateway.scoring import ScorerHandle
from gateway.telemetry.waiting import WaitClock
from scorers.contract import Score

T = TypeVar("T")

_LATE = "it was not answered by the deadline"


@dataclass(frozen=True, slots=True)
class ScorerJudge:
    """Judges candidates of one conversation. Either of reward and guard may be absent.

    deadline: on the event loop's clock; an answer that is not there by then is an error of its own.
    """

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]]
    reward: ScorerHandle | None
    guard: Guard | None
    requirements: Requirements
    waiting: WaitClock
    deadline: float
    _asked: dict[bytes, asyncio.Future[tuple[Score | None, Verdict | None]]] = field(default_factory=dict)

    async def judge(self, candidates: Sequence[Candidate]) -> list[Judged]:
        return list(await asyncio.gather(*(self._judge_one(candidate) for candidate in candidates)))

    async def _judge_one(self, candidate: Candidate) -> Judged:
        said = _identity(candidate.message)
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

    def judged(self, candidate: Candidate, score: Score | None, verdict: Verdict | None) -> Judged:
        """A candidate with what was said of it."""
        broken = None
        if self.requirements.any:
            broken = self.requirements.broken(candidate.message, candidate.finish_reason or "length")
        return Judged(
            candidate=candidate,
            reward=score.value if score else None,
            reward_error=_why_missing(score),
            verdict=verdict,
            scored_s=asyncio.get_running_loop().time(),
            broken=broken,
        )

    async def score(self, message: Message) -> Score | None:
        """The reward of a message; None without a reward model."""
        if self.reward is None:
            return None
        scores = await self._in_time(self.reward.score(self.messages, (message,), self.tools))
        return scores[0] if scores else Score(error=_LATE)

    async def check(self, message: Message) -> Verdict | None:
        """The guard's verdict on a message, or on the part of one that a stream has so far; None without a guard."""
        if self.guard is None:
            return None
        verdict = await self._in_time(self.guard.check_candidate(self.messages, message, self.tools))
        return verdict or Verdict(error=_LATE)

    async def _in_time(self, answer: Awaitable[T]) -> T | None:
        try:
            with self.waiting:
                async with asyncio.timeout_at(self.deadline):
                    return await answer
        except TimeoutError:
            return None


def _identity(message: Message) -> bytes:
    """Equal for messages that say the same: all but the ids of tool calls, which are random."""
    calls = [call.get("function") or call for call in message.get("tool_calls") or ()]
    return msgspec.json.encode([message | {"tool_calls": calls}], order="deterministic")


def _why_missing(score: Score | None) -> str | None:
    if score is None or score.value is not None:
        return None
    return score.error or "the reward model gave categories instead of a number"
