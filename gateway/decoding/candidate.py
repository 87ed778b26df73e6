"""Candidates: one sampled completion, and the same once it has been judged."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.log.records import Message, Verdict
from scorers.contract import Score


@dataclass(frozen=True, slots=True)
class Candidate:
    """One finished completion.

    index: its place among all candidates of the request, whatever their wave.
    wave: 0 for the first round of sampling, 1 for the next, where the strategy goes on or none was safe, ...
    finished_s: when it finished, on the event loop's clock.
    finish_reason: None where it was cut off before its end.
    extras: what a worker adds to a choice, such as prompt_logprobs.
    token_logprobs: of each of token_ids, where they were asked for; None where that is not known of all.
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
    token_logprobs: list[float] | None = None


def identity(message: Message) -> bytes:
    """Equal for messages that say the same: all but the ids of tool calls, which are random."""
    calls = [call.get("function") or call for call in message.get("tool_calls") or ()]
    return msgspec.json.encode([message | {"tool_calls": calls}], order="deterministic")


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate with what the scorers said of it.

    reward: raw; None where there is no reward model, it failed (`reward_error` says why), or it was not asked.
    calibrated: the reward's quantile under the reference policy, where it is known.
    verdict: None where the profile has no guard.
    broken: why it does not keep the form that was asked for (a schema, a tool's arguments), or None.
    scores: what each scorer that was asked said, by its version.
    prior: what the last prune stage that read it said. stages: how many of them it has passed. pruned_by: the version
    of the scorer that gave it up, there or at a checkpoint on its way (`cut_off`).
    second_check: the verdict of the guard that reads the winner again; None where it was not asked.
    """

    candidate: Candidate
    reward: float | None
    reward_error: str | None
    verdict: Verdict | None
    scored_s: float
    broken: str | None = None
    calibrated: float | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)
    prior: float | None = None
    stages: int = 0
    pruned_by: str | None = None
    second_check: Verdict | None = None

    @property
    def unjudged(self) -> bool:
        """A guard could not answer for it, and none has flagged it."""
        first, second = self.verdict, self.second_check
        failed = (first is not None and first.error is not None) or (second is not None and second.error is not None)
        return failed and not self.flagged

    @property
    def flagged(self) -> bool:
        first, second = self.verdict, self.second_check
        return bool((first is not None and first.flagged) or (second is not None and second.flagged))

    @property
    def blocked(self) -> bool:
        """Flagged in a category that the client gets an error for."""
        return any(verdict.blocked for verdict in self._verdicts)

    @property
    def flagged_in(self) -> list[str]:
        """Categories that keep it back."""
        return list(dict.fromkeys(name for verdict in self._verdicts for name in verdict.flagged))

    @property
    def noted(self) -> list[str]:
        """Categories that flag it and let it out all the same."""
        return list(dict.fromkeys(name for verdict in self._verdicts for name in verdict.noted))

    @property
    def cut_off(self) -> bool:
        """It was given up before its end: no answer, whatever is left."""
        return self.pruned_by is not None and self.candidate.finish_reason is None

    def safe(self, unjudged_passes: bool) -> bool:
        """Whether it may be delivered."""
        return not self.cut_off and not self.flagged and (unjudged_passes or not self.unjudged)

    @property
    def _verdicts(self) -> list[Verdict]:
        return [verdict for verdict in (self.verdict, self.second_check) if verdict is not None]
