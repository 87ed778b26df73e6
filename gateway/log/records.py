"""The records: what is kept of each request, and of what people later say of it.

Names follow the design's table of words. `encode` and `decode` are the only way a record becomes bytes and back;
`SCHEMA_VERSION` travels beside each record as field `v` and grows when a field changes its meaning or its name; then
`migrations` reads what was written before. A field that is new has a default and changes nothing for those that do not
know it, so the version stays.
"""

import zlib
from typing import Any, Literal, TypeVar

import msgspec

from gateway.log.migrations import migrated

SCHEMA_VERSION = 2

# What zlib's streams begin with, and JSON never does.
_ZLIB = b"x"
_LEVEL = 1

Message = dict[str, Any]

Outcome = Literal[
    "delivered",  # a candidate reached the client
    "refused_prompt",  # the input guard flagged the prompt: nothing was sampled
    "refused_candidates",  # no candidate was safe
    "blocked",  # the prompt, or every candidate, was unsafe, and the client got an error (action: block)
    "failed",  # the client got an error
    "cancelled",  # the client went away first, or another prompt of the same request failed
]

Training = Literal["none", "tenant", "shared"]

FeedbackKind = Literal["thumbs", "rating", "preference", "correction", "comment", "flag"]


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the safety classifiers said: each category's probability, and those at or over their thresholds.

    flagged: those that keep the text back; blocked: those of them that the client gets an error for. noted: those that
    let it out all the same (action: flag).
    error: why one of them said nothing. unreadable: because of the content itself, so that asking again does not help.
    guards: where there are several, what each said, by name@N; one that is not in it was not asked or did not answer.
    """

    categories: dict[str, float] = {}
    flagged: list[str] = []
    error: str | None = None
    unreadable: bool = False
    blocked: list[str] = []
    noted: list[str] = []
    guards: dict[str, dict[str, float]] = {}


class ScoreRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a scorer that ranks said of a candidate; see `scorers.contract.Score`."""

    value: float | None = None
    calibrated: float | None = None
    parts: dict[str, float] = {}
    steps: list[float] = []
    error: str | None = None


class CandidateRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sampled completion. Times are milliseconds since the request arrived.

    wave: 0 for the first sampling, 1 for the next, where the strategy went on or none was safe, ...
    propensity: the probability that this candidate is delivered first, given all scores; see `Selection`.
    reward: the raw reward, or None with `reward_error`.
    broken: why it does not keep the form that was asked for (a schema, a tool's arguments).
    scores: what each scorer that was asked said, by name@N: the reward model's and those of the stages before it.
    logprobs: of delivered answers, a natural logarithm for each of token_ids. They are the policy's own, before
    temperature, top_p and penalties, but after a grammar's mask: vLLM's default, `--logprobs-mode raw_logprobs`. A
    worker that is started with another mode says something else; the log cannot tell.
    pruned_by: the stage that gave it up, its scorer's name@N; where finish_reason is None too, before its end, and
    `scores` are of a beginning of it. second_check: that guard's verdict, where it was asked.
    """

    index: int
    message: Message
    finish_reason: str | None
    completion_tokens: int
    wave: int = 0
    seed: int | None = None
    token_ids: list[int] | None = None
    stop_reason: int | str | None = None
    reward: float | None = None
    reward_error: str | None = None
    verdict: Verdict | None = None
    propensity: float = 0.0
    broken: str | None = None
    finished_ms: float | None = None
    scored_ms: float | None = None
    scores: dict[str, ScoreRecord] = {}
    pruned_by: str | None = None
    second_check: Verdict | None = None
    logprobs: list[float] | None = None


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the winner was chosen. With the candidates' propensities, `refusal` and `fallback` sum to 1.

    rule: with its parameter. refusal: probability that nothing is delivered. fallback: that no reward came and the
    first safe candidate is taken. kl_bound: most nats between what is delivered and the policy's own (safe) answers.
    """

    rule: str = "argmax"
    refusal: float = 0.0
    fallback: float = 0.0
    kl_bound: float | None = None


class Piece(msgspec.Struct, frozen=True, omit_defaults=True):
    """A possible next piece of an answer that is built piece by piece.

    after: which of the round before it goes on from; 0 in the first round. reward: of the answer up to its end.
    propensity: the probability that the answer goes on with it. kept: it does, or may.
    """

    text: str
    tokens: int
    after: int = 0
    token_ids: list[int] | None = None
    reward: float | None = None
    reward_error: str | None = None
    verdict: Verdict | None = None
    finish_reason: str | None = None
    propensity: float = 0.0
    kept: bool = False


class Round(msgspec.Struct, frozen=True, omit_defaults=True):
    """The pieces that were sampled and judged together."""

    pieces: list[Piece]


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens: delivered to the client, and sampled in all."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    sampled_tokens: int = 0


class Timings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Milliseconds. `overhead_ms` is the wall time less the time spent waiting on workers and scorers.

    queue_ms: waiting for a place, while the workers were full. second_check_ms: of the winner, after the choice.
    """

    total_ms: float = 0.0
    guard_ms: float = 0.0
    queue_ms: float = 0.0
    first_candidate_ms: float | None = None
    sampling_ms: float = 0.0
    scoring_tail_ms: float = 0.0
    overhead_ms: float = 0.0
    second_check_ms: float = 0.0


class Comparison(msgspec.Struct, frozen=True, omit_defaults=True):
    """Two answers were delivered side by side, to be picked from. `Feedback` of kind preference has the pick.

    shown: their candidates' indices, in the order in which they were shown; it is drawn. One is the rule's choice.
    against: what that was held against: the best of the others, or any of them (random).
    share: the probability that two were asked for. propensity: that it was these two then, given all scores.
    """

    shown: list[int]
    against: str
    share: float
    propensity: float


class ReleaseRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The release that answered. number: in the registry; 0: the configuration's own.

    arm: the user's group in a canary, where one was running: challenger or control. canary: which one. stage: of it,
    from 0. period: what is analysed apart: that stage, or `watch` after the promotion. counted: it counts this user.
    fallback: no worker or no scorer server had the release that they should have got. safe_mode: it was on. pinned: an
    operator asked for certain weights, whatever is released.
    """

    number: int = 0
    arm: Literal["challenger", "control"] | None = None
    stage: int = 0
    canary: str = ""
    period: str = ""
    counted: bool = False
    fallback: bool = False
    safe_mode: bool = False
    pinned: bool = False


class Interaction(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request as logged. `created` is in seconds since 1970; `chosen` indexes `candidates`.

    endpoint: chat, completions or responses. stream_mode: how a stream was served. tier: the class that it got.
    n: candidates sampled in a wave. asked: what that would have been, where the load left less of it.
    safety_model: name@N of the guards, joined by a plus sign. second_check: of the guard that read the winner again.
    reference: the expected answer, where the request gave one to its verifiers.
    selection: how the winner was chosen; None where nothing was decided.
    rounds: what was sampled on the way, where an answer is built piece by piece.
    training: whose models it may train: nobody's, its tenant's, all (shared). omitted: what the log was told not to
    keep of it (prompts, media). redacted: how much was taken out of its texts, by kind.
    session: a keyed hash of the application's name for the conversation. previous: the interaction that this one goes
    on from, where the request names it (previous_response_id).
    comparison: two answers were shown side by side; `delivered` has the rule's choice first, wherever it was shown.
    release: which one answered; None: none was ever made, and nothing else is to be said of it.
    """

    id: str
    created: float
    model: str
    profile: str
    policy: str
    strategy: str
    outcome: Outcome
    messages: list[Message]
    parameters: dict[str, Any]
    candidates: list[CandidateRecord]
    reward_model: str | None = None
    safety_model: str | None = None
    prompt_verdict: Verdict | None = None
    chosen: int | None = None
    delivered: list[int] = []
    n: int = 0
    asked: int | None = None
    seed: int | None = None
    stream: bool = False
    stream_mode: str | None = None
    endpoint: str = "chat"
    degraded: str | None = None
    error: str | None = None
    status: int = 200
    user: str | None = None
    tenant: str = "default"
    tier: str = "default"
    usage: Usage = Usage()
    timings: Timings = Timings()
    second_check: str | None = None
    reference: str | None = None
    selection: Selection | None = None
    rounds: list[Round] = []
    training: Training = "none"
    omitted: list[str] = []
    redacted: dict[str, int] = {}
    comparison: Comparison | None = None
    session: str | None = None
    previous: str | None = None
    release: ReleaseRecord | None = None

    @property
    def winner(self) -> CandidateRecord | None:
        """What was delivered first; None where nothing was."""
        return None if self.chosen is None else next(iter(self.candidates[self.chosen :]), None)


class Feedback(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person's statement about an interaction. `id` is a UUIDv7: the later id wins over an earlier vote.

    value: bool (thumbs), 1-8 (rating), 1-4 (preference), text (correction, comment), a reason (flag). Of a preference
    also tie and both_bad: neither of its two candidates is better.
    candidate, over: indices into the interaction's candidates.
    shown: of a pick from a comparison, both, in the order in which the person saw them.
    retracted: the vote was taken back. training, redacted: as of an interaction.
    key: the id of the API key it came with. source: a keyed hash of the sender's address.
    """

    id: str
    interaction: str
    created: float
    kind: FeedbackKind
    value: bool | int | str | None
    candidate: int | None = None
    over: int | None = None
    user: str | None = None
    tags: list[str] = []
    comment: str | None = None
    tenant: str = "default"
    retracted: bool = False
    training: Training = "none"
    redacted: dict[str, int] = {}
    shown: list[int] = []
    key: str | None = None
    source: str | None = None

    @property
    def vote_key(self) -> str:
        """One vote per (candidate or unordered pair, user, kind, flag reason); a new one replaces the old."""
        pair = sorted(index for index in (self.candidate, self.over) if index is not None)
        reason = self.value if self.kind == "flag" else ""
        return msgspec.json.encode([self.kind, pair, self.user or "", reason]).decode()


class ShadowScores(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a scorer that decides nothing yet said of an interaction's candidates, after the answer was delivered.

    id: a UUIDv7 of its own. scorer: name@N. profile: the one that named it, name@N. reward_model: what decided.
    scores: by the candidate's index. winner: which of those that could be delivered it would have chosen; None where
    it gave no score for the delivered one. ms: how long it took.
    """

    id: str
    interaction: str
    created: float
    scorer: str
    profile: str
    reward_model: str | None
    scores: dict[int, ScoreRecord]
    winner: int | None = None
    ms: float = 0.0
    tenant: str = "default"


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """A conversation as it is put together on reading (`sessions`): nothing is logged of it by itself.

    id: as its interactions have it; None where they only go on from each other (`previous`). first, last: when the
    first and the last of them were made. interactions: in that order.
    """

    id: str | None
    tenant: str
    users: list[str]
    first: float
    last: float
    interactions: list[Interaction]


Record = Interaction | Feedback | ShadowScores
R = TypeVar("R", Interaction, Feedback, ShadowScores)


def encode(record: Record) -> bytes:
    """Compact JSON."""
    return msgspec.json.encode(record)


def packed(payload: bytes, above: int) -> bytes:
    """A record's JSON as the journal and the streams hold it: compressed where it has more than `above` bytes.

    above: 0 for never. Feedback is not packed: Redis's scripts read it.
    """
    return zlib.compress(payload, _LEVEL) if 0 < above < len(payload) else payload


def plain(payload: bytes) -> bytes:
    """A record's JSON out of a journal's frame or a stream's entry, where it may be compressed.

    Whoever looks into a payload, to search it or to decode it, calls this first; rows of the archive are plain as
    they are. Raises ValueError where it is damaged.
    """
    if not payload.startswith(_ZLIB):
        return payload
    try:
        return zlib.decompress(payload)
    except zlib.error as error:
        raise ValueError(f"it cannot be decompressed: {error}") from error


def decode_interaction(data: bytes | str, version: int = SCHEMA_VERSION) -> Interaction:
    """Of any version up to ours. Raises msgspec.DecodeError where `data` is no interaction of that version."""
    return _decoded(data, version, Interaction)


def decode_shadow(data: bytes | str, version: int = SCHEMA_VERSION) -> ShadowScores:
    """Of any version up to ours. Raises msgspec.DecodeError where `data` is no shadow scores of that version."""
    return _decoded(data, version, ShadowScores)


def decode_feedback(data: bytes | str, version: int = SCHEMA_VERSION) -> Feedback:
    """Of any version up to ours. Raises msgspec.DecodeError where `data` is no feedback of that version."""
    return _decoded(data, version, Feedback)


def as_vote(feedback: bytes, version: int) -> bytes:
    """Feedback's JSON as it lies among an interaction's votes in Redis, where nothing beside it tells its version."""
    return feedback[:-1] + b',"v":%d}' % version


def decode_vote(vote: bytes | str) -> Feedback:
    """What `as_vote` made; without a version it is the first. Raises msgspec.DecodeError."""
    return decode_feedback(vote, msgspec.json.decode(vote, type=_Vote).v)


class _Vote(msgspec.Struct):
    v: int = 1


def _decoded(data: bytes | str, version: int, kind: type[R]) -> R:
    if version == SCHEMA_VERSION:
        return msgspec.json.decode(data, type=kind)
    plain = migrated(kind.__name__, data, version, SCHEMA_VERSION)
    return msgspec.convert(plain, kind, str_keys=True)
