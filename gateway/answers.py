"""What an exchange gives: an answer, or the pieces of one that is streamed, in no API's shape yet."""

from dataclasses import dataclass
from typing import Any, Literal

from gateway.comparison.settings import Against
from gateway.control.plan import Plan
from gateway.decoding.candidate import Judged

Refused = Literal["prompt", "candidates"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed answer that may leave now. delta: OpenAI's, without role and nulls. tokens: how many."""

    choice: int
    delta: dict[str, Any]
    logprobs: dict[str, Any] | None
    token_ids: list[int] | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers side by side. shown: in the order in which the client gets them. token: what a pick is sent with.

    against, share, propensity: as they are logged (`log.records.Comparison`).
    """

    shown: tuple[Judged, Judged]
    token: str
    against: Against
    share: float
    propensity: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets: `delivered` candidates, best first, or a refusal where `refused` says what was unsafe.

    strategy: the one that was followed. noted: categories in which the prompt was flagged and let through all the same.
    completion_tokens: of what was delivered. begun: a live stream, some of which had left before it was refused.
    usage_details: OpenAI's two details objects, where the worker counted for what was delivered alone.
    propensity: how likely the first of `delivered` was; None where no rule drew it. kl_bound: of the choice, in nats.
    extras: what a worker says of the request as a whole: system_fingerprint, prompt_token_ids, ...
    """

    id: str
    created: int
    plan: Plan
    strategy: str
    judged: tuple[Judged, ...]
    delivered: tuple[Judged, ...]
    refused: Refused | None
    begun: bool
    degraded: str | None
    prompt_tokens: int
    completion_tokens: int
    sampled_tokens: int
    usage_details: dict[str, Any]
    extras: dict[str, Any]
    reward_model: str | None
    safety_model: str | None
    second_check: str | None
    noted: tuple[str, ...]
    unjudged_passes: bool
    overhead_ms: float
    feedback_token: str | None
    propensity: float | None = None
    kl_bound: float | None = None
    comparison: Comparison | None = None

    @property
    def choices(self) -> tuple[Judged, ...]:
        """What was delivered, as the client gets it: best first, or in the drawn order of a comparison."""
        return self.comparison.shown if self.comparison else self.delivered
