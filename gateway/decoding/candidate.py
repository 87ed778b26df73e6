"""Candidates: one sampled completion, and the same once it has been judged."""

from dataclasses import dataclass, field
from typing import Any

from gateway.log.records import Message, Verdict


@dataclass(frozen=True, slots=True)
class Candidate:
    """One finished completion.

    index: its place among all candidates of the request, whatever their wave.
    wave: 0 for the first round of sampling, 1 for the round after none was safe, ...
    finished_s: when it finished, on the event loop's clock.
    finish_reason: None where it was cut off before its end.
    extras: what a worker adds to a choice, such as prompt_logprobs.
    """

    index: int
    wave: int
    seed: int | None
    message: Message
    finish_reason: str | None
    stop_reason: int | str | None
    logprobs: dict[str, Any] | None
    token_ids: list[int] | None
    completion_tokens: int
    finished_s: float
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate with what the scorers said of it.

    reward: raw; None where there is no reward model, or it failed (`reward_error` says why).
    verdict: None where the profile has no guard.
    broken: why it does not keep the form that was asked for (a schema, a tool's arguments), or None.
    """

    candidate: Candidate
    reward: float | None
    reward_error: str | None
    verdict: Verdict | None
    scored_s: float
    broken: str | None = None

    @property
    def unjudged(self) -> bool:
        """The guard could not answer for it."""
        return self.verdict is not None and self.verdict.error is not None

    @property
    def flagged(self) -> bool:
        return self.verdict is not None and bool(self.verdict.flagged)

    def safe(self, unjudged_passes: bool) -> bool:
        """Whether it may be delivered."""
        return not self.flagged and (unjudged_passes or not self.unjudged)
