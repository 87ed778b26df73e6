"""The scorer contract: (conversation, candidates) -> scores, as it stands on the wire.

One request names one scorer, one conversation and any number of candidates; the answer holds one `Score` a candidate,
in the same order. Without candidates the conversation itself is judged (what an input guard asks), and the answer
holds one score.

    POST   /v1/score            ScoreRequest -> ScoreResponse
    GET    /v1/scorers          -> ScorerList
    PUT    /v1/scorers/{name}   a scorer's settings, as in the file -> ScorerStatus
    DELETE /v1/scorers/{name}   -> ScorerStatus, of what is gone

A scorer that fails for one candidate says so in that candidate's `error`; it never invents a number.
"""

from typing import Any, Literal, Protocol

import msgspec

Message = dict[str, Any]
"""A chat message as OpenAI's API has it: role, content (text, parts or null), tool_calls, ..."""

Kind = Literal[
    "reward", "ensemble", "process", "judge", "verifier", "safety", "generative_safety", "moderation", "patterns"
]
Gives = Literal["value", "categories"]
"""What a scorer's scores are: a number that ranks candidates, or a probability for each category of unsafe content."""


class ScoreRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to score: `messages` is the prompt, each of `candidates` one assistant message that could follow it.

    response_format: the form that was asked for, as OpenAI's API has it. reference: the expected answer, where it is
    known. Both are for verifiers. raw: leave the scorer's calibration out (what `bestow calibrate` measures).
    """

    model: str
    messages: list[Message]
    candidates: list[Message] = []
    tools: list[dict[str, Any]] = []
    response_format: dict[str, Any] | None = None
    reference: str | None = None
    raw: bool = False


class Score(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one scorer says of one candidate: exactly one of `value`, `categories` and `error` is set.

    value: the raw reward, any finite real number, never squashed.
    calibrated: its quantile in [0, 1] under the reference policy, where the scorer is calibrated.
    parts: what the value is made of: labels, members, comparisons; raw, by name.
    steps: a process reward model's score of each step, in order.
    categories: probability in [0, 1] of each category of a safety classifier.
    error: why there is no score, in one sentence. unreadable: because of the content, so that asking again is no use.
    tokens: how many token ids were read for it.
    """

    value: float | None = None
    calibrated: float | None = None
    parts: dict[str, float] = {}
    steps: list[float] = []
    categories: dict[str, float] | None = None
    error: str | None = None
    unreadable: bool = False
    tokens: int = 0


class ScoreResponse(msgspec.Struct, frozen=True):
    """`version` is the scorer's name@N, as it goes into receipts and the log."""

    model: str
    version: str
    scores: list[Score]


class ScorerInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a scorer can do.

    prompt_only: it may be asked about a conversation without a candidate.
    max_tokens: the longest input it reads at once; 0 where it counts no tokens.
    categories: the names a safety classifier answers with; empty for a reward model.
    partial: whether the score of the beginning of an answer means something.
    steps: whether it scores steps.
    relative: whether a score depends on the other candidates of the request, which must come together then.
    vocabulary: a fingerprint of the token ids that it reads, equal for models with the same tokenizer; empty for none.
    """

    id: str
    kind: Kind
    gives: Gives
    version: str
    prompt_only: bool
    max_tokens: int
    categories: list[str] = []
    partial: bool = True
    steps: bool = False
    relative: bool = False
    vocabulary: str = ""


class ScorerStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a scorer is that was added while the server runs.

    version: the name@N that was asked for last; settings: the fingerprint of its settings (`live_settings`).
    serving: the name@N that answers; empty for none. Where a new version fails to load, the one before it answers on.
    reason: why it failed, in one sentence.
    """

    id: str
    version: str
    settings: str
    state: Literal["loading", "ready", "failed"]
    serving: str = ""
    reason: str = ""


class ScorerList(msgspec.Struct, frozen=True):
    """data: all that answer. added: those that came while the server runs, loading and failed ones too."""

    data: list[ScorerInfo]
    added: list[ScorerStatus] = []


class Scorer(Protocol):
    """One scorer, wherever it runs. Cancelling the task that awaits `score` drops its queued work."""

    @property
    def info(self) -> ScorerInfo: ...

    async def score(self, request: ScoreRequest) -> list[Score]:
        """One score a candidate, in order; one for the conversation where there are no candidates.

        Raises a `scorers.errors.ScorerError` where it cannot answer at all.
        """
        ...


class ServedScorer(Scorer, Protocol):
    """What the scorer server needs besides: its queue, and an end."""

    @property
    def waiting(self) -> int:
        """Inputs in the queue."""
        ...

    async def close(self) -> None:
        """Finish what waits."""
        ...
