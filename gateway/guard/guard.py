"""The guard: asks safety classifiers about prompts and candidates, one after the other, cheap ones first.

A text that one of them flags is not shown to the next; one passes when all have answered and none has flagged it. A
classifier that cannot read a prompt alone is asked about answers only.

It fails closed. A classifier that cannot answer gives a verdict with `error`, which is neither a pass nor a refusal;
what to do with it is the profile's say. The others are asked all the same: what they flag is unsafe whatever it would
have said.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.guard.verdict import Rules, by_guard, merged, verdict_of
from gateway.log.records import Message, Verdict
from gateway.scoring import Conversation, ScorerHandle


@dataclass(frozen=True, slots=True)
class Guard:
    """Safety classifiers, at least one, in the order in which they are asked, with a profile's rules."""

    scorers: Sequence[ScorerHandle]
    rules: Rules

    @property
    def version(self) -> str:
        """name@N of each, joined by a plus sign."""
        return "+".join(scorer.version for scorer in self.scorers)

    async def check_prompt(self, conversation: Conversation, deadline: float | None = None) -> Verdict | None:
        """The verdict on a conversation as it arrived, before anything is sampled; None where none reads prompts."""
        return await self._ask([one for one in self.scorers if one.prompt_only], conversation, (), deadline)

    async def check_candidate(
        self, conversation: Conversation, candidate: Message, deadline: float | None = None
    ) -> Verdict:
        """The verdict on an answer in the light of its prompt."""
        verdict = await self._ask(self.scorers, conversation, (candidate,), deadline)
        assert verdict is not None
        return verdict

    async def _ask(
        self,
        scorers: Sequence[ScorerHandle],
        conversation: Conversation,
        candidates: Sequence[Message],
        deadline: float | None,
    ) -> Verdict | None:
        found: Verdict | None = None
        for scorer in scorers:
            [score] = await scorer.score(conversation, candidates, gives="categories", deadline=deadline)
            verdict = verdict_of(score, self.rules, scorer.name)
            found = merged(found, by_guard(verdict, scorer.version) if len(self.scorers) > 1 else verdict)
            if found.flagged:
                break
        return found
