"""The guard: asks a safety classifier about prompts and candidates.

It fails closed. A classifier that cannot answer gives a verdict with `error`, which is neither a pass nor a refusal;
what to do with it is the profile's say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.guard.verdict import Thresholds, verdict_of
from gateway.log.records import Message, Verdict
from gateway.scoring import ScorerHandle


@dataclass(frozen=True, slots=True)
class Guard:
    """A safety classifier with a profile's thresholds."""

    scorer: ScorerHandle
    thresholds: Thresholds

    async def check_prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Verdict:
        """The verdict on a conversation as it arrived, before anything is sampled."""
        [score] = await self.scorer.score(messages, (), tools)
        return verdict_of(score, self.thresholds)

    async def check_candidate(
        self, messages: Sequence[Message], candidate: Message, tools: Sequence[dict[str, Any]]
    ) -> Verdict:
        """The verdict on an answer in the light of its prompt."""
        [score] = await self.scorer.score(messages, (candidate,), tools)
        return verdict_of(score, self.thresholds)
