"""The answers' types, for the OpenAPI page alone: the code that answers builds plain objects, and tests hold those
against these. A type that forbids unknown fields is all there is; the others may have more (a worker's extras).
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gateway.api.protocol import says
from gateway.log.records import FeedbackKind


class Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Has no other fields."""


class Open(msgspec.Struct, kw_only=True):
    """May have others."""


class ErrorObject(Strict):
    """OpenAI's error object."""

    message: Annotated[str, says("What is wrong, and where that is known, what would be right.")]
    type: Annotated[
        str,
        says(
            "The family.",
            enum=[
                "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
            ],
        ),
    ]  # fmt: skip
    param: Annotated[str | None, says("The field that is wrong, where it is one: `messages[0].role`, `guidance.n`.")]
    code: Annotated[str | None, says("The kind, for programs: `model_not_found`, `context_length_exceeded`, ...")]


class Error(Strict):
    """Every error, of every endpoint."""

    error: ErrorObject


class Usage(Open):
    """Tokens."""

    prompt_tokens: Annotated[int, says("Of the prompt, counted once.")]
    completion_tokens: Annotated[int, says("In `usage` what was delivered, in `guidance.usage` all that was sampled.")]
    total_tokens: int


class ScorerScore(Strict):
    """What a scorer said of a candidate."""

    value: Annotated[float | None, says("The raw score, comparable among the candidates of one prompt only.")]
    calibrated: Annotated[float | None, says("Its quantile under the reference policy, 0 to 1; null: not known.")]
    parts: Annotated[dict[str, float], says("What the value is made of, by name: labels, members, comparisons.")]
    steps: Annotated[list[float], says("The score of each step, of a process reward model.")]
    error: Annotated[str | None, says("Why there is no score.")]


class Candidate(Strict):
    """One sampled answer. The text of one that the guard flagged is never shown."""

    index: Annotated[int, says("Its number; feedback's `candidate` and `over` name it.")]
    message: Annotated[
        dict[str, Any] | None,
        says("The answer; null where it may not be shown, or the second check has not read it."),
    ]
    finish_reason: str | None
    completion_tokens: int
    reward: Annotated[float | None, says("The reward model's raw score; null where it gave none.")]
    reward_error: Annotated[str | None, says("Why there is no reward.")]
    calibrated: Annotated[float | None, says("The reward's quantile under the reference policy, where it is known.")]
    scores: Annotated[dict[str, ScorerScore], says("What each scorer that was asked said, by `name@version`.")]
    pruned_by: Annotated[
        str | None, says("The scorer that gave it up, `name@version`; where finish_reason is null, before its end.")
    ]
    broken: Annotated[str | None, says("How it breaks the form that was asked for; null: it does not.")]
    safe: Annotated[bool, says("Whether it could be delivered.")]
    flagged: Annotated[list[str], says("The categories in which a guard flagged it, so that it is kept back.")]
    flags: Annotated[list[str], says("Those in which a guard flagged it and lets it out all the same.")]


class ComparedChoice(Strict):
    """One of two answers that are compared."""

    index: Annotated[int, says("The choice's `index`, which is also its place: the order is drawn.")]
    candidate: Annotated[int, says("The candidate's.")]


class Compared(Strict):
    """Two choices, of which a person is to pick the better one."""

    token: Annotated[str, says("Sent with the pick to `POST /v1/feedback`; it says what was shown where.")]
    choices: Annotated[list[ComparedChoice], says("Both, as `choices` has them.")]


class Guidance(Strict):
    """The receipt of an answer: how it was chosen."""

    strategy: Annotated[str, says("The procedure: `best_of_n`; `greedy` at temperature 0; `first` for a live sample.")]
    profile: Annotated[str, says("The settings, `name@version`.")]
    policy: Annotated[str, says("The language model, `name@version`.")]
    reward_model: Annotated[str | None, says("What ranked the candidates, `name@version`; null: nothing did.")]
    safety_model: Annotated[
        str | None, says("The guards, `name@version` each, joined by a plus sign; null: there is none.")
    ]
    second_check: Annotated[str | None, says("The guard that reads the winner again, `name@version`; null: none.")]
    sampled: Annotated[int, says("Candidates that were sampled to their end.")]
    scored: Annotated[int, says("Candidates with a reward.")]
    safe: Annotated[int, says("Candidates that could be delivered.")]
    pruned: Annotated[int, says("Candidates that a cheaper scorer gave up before the reward model.")]
    chosen: Annotated[int | None, says("The delivered candidate's `index`; the first, where there are several.")]
    reward: Annotated[float | None, says("Its reward: raw, comparable among the candidates of one prompt only.")]
    calibrated: Annotated[
        float | None, says("Its quantile under the reference policy, 0 to 1, comparable anywhere; null: not known.")
    ]
    propensity: Annotated[
        float | None,
        says("How likely it was to be the one, given all scores: 1 where nothing is drawn; null: no reward came."),
    ]
    kl_bound: Annotated[
        float | None,
        says(
            "Nats: over many requests, the mean of this is the most by which choosing moves the answers' distribution "
            "away from the model's own safe answers; null: not known."
        ),
    ]
    flagged: Annotated[list[str], says("Categories in which the guard flagged the delivered answer.")]
    flags: Annotated[
        list[str], says("Categories in which prompt or answer were flagged and let out all the same, as configured.")
    ]
    refused: Annotated[
        Literal["prompt", "candidates"] | None, says("What was unsafe, where the answer is the profile's refusal.")
    ]
    degraded: Annotated[
        str | None,
        says(
            "Why this is less than was asked for: `deadline` (the best so far), `reward_unavailable` (the first safe "
            "one, or the best by the stages before), `prune_unavailable`, `fewer_safe`, `guard_unavailable`, "
            "`no_answer` (a vote found none to count), `release_unavailable` (no worker has the release that this user "
            "should get: another one answered), ...; null: it is not."
        ),
    ]
    usage: Annotated[Usage, says("Tokens of all candidates; `usage` beside it counts what was delivered.")]
    feedback_token: Annotated[
        str | None,
        says(
            "Lets its holder send feedback on this answer without an API key: for browsers; null: nothing is kept of "
            "it, so it takes none."
        ),
    ]
    release: Annotated[
        int | UnsetType, says("The number of the release that answered; absent: the configuration's own policy.")
    ] = UNSET
    safe_mode: Annotated[
        Literal[True] | UnsetType,
        says("Operators have switched to the configuration's own policy, without exploring; absent: they have not."),
    ] = UNSET
    comparison: Annotated[
        Compared | UnsetType,
        says(
            "Where two answers are to be compared: `choices` has both. `chosen`, `reward`, `calibrated` and "
            "`propensity` are null then, so that nobody judges by them, unless `guidance.return_candidates` asked."
        ),
    ] = UNSET
    candidates: Annotated[
        list[Candidate] | UnsetType, says("All candidates, where `guidance.return_candidates` asked for them.")
    ] = UNSET


class PromptGuidance(Guidance, kw_only=True):
    """The receipt of one prompt among several."""

    id: Annotated[str, says("The id that feedback on this prompt's answers takes.")]


class TextGuidance(Guidance):
    """The receipt; of the first prompt where there are several."""

    id: Annotated[str | UnsetType, says("The id that feedback takes, where there are several prompts.")] = UNSET
    prompts: Annotated[list[PromptGuidance] | UnsetType, says("The receipts of several prompts, in order.")] = UNSET


class ChatMessage(Open):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: Annotated[list[dict[str, Any]] | UnsetType, says("Calls of the request's tools.")] = UNSET


Finish = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class ChatChoice(Open):
    """One of the n best, best first."""

    index: int
    message: ChatMessage
    logprobs: dict[str, Any] | None
    finish_reason: Annotated[Finish, says("`content_filter`: the answer is a refusal, see `guidance.refused`.")]


class ChatCompletion(Open):
    """OpenAI's chat completion, with the receipt."""

    id: Annotated[str, says("`chatcmpl-<uuid>`, which feedback takes; also in the header `x-request-id`.")]
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    guidance: Guidance


class TextChoice(Open):
    """A text for one of the prompts."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Finish


class TextCompletion(Open):
    """OpenAI's text completion, with the receipt."""

    id: Annotated[str, says("`cmpl-<uuid>`, which feedback takes.")]
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    guidance: TextGuidance


class ResponseObject(Open):
    """OpenAI's response, with the receipt. What was asked for is repeated in it."""

    id: Annotated[str, says("`resp_<uuid>`, which `previous_response_id` and feedback take.")]
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    model: str
    output: Annotated[list[dict[str, Any]], says("Messages, reasoning and function calls.")]
    usage: dict[str, Any]
    guidance: Guidance


class DeletedResponse(Strict):
    """A response that is stored no more."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItems(Strict):
    """A page of the items that a response was made from."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str
    last_id: str
    has_more: bool


class Embeddings(Open):
    """OpenAI's list of embeddings."""

    object: Literal["list"]
    model: str
    data: list[dict[str, Any]]
    usage: dict[str, Any]


class Tokens(Open):
    """A text as a model's tokens."""

    tokens: list[int]
    count: int
    max_model_len: int


class Detokenized(Open):
    """The text that tokens stand for."""

    prompt: str


class Model(Strict):
    """A model an application can name: a policy with a profile."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Strict):
    """All models that the caller may use."""

    object: Literal["list"]
    data: list[Model]


class Vote(Strict, omit_defaults=True):
    """What a person said of an answer."""

    id: Annotated[str, says("The answer's id, as it was sent.")]
    feedback_id: Annotated[str, says("This statement's own id; a later one replaces an earlier vote.")]
    kind: FeedbackKind
    value: bool | int | str | None
    created: int
    user: Annotated[str | None, says("A keyed hash of the user's name; null: nobody was named.")]
    candidate: int | UnsetType = UNSET
    over: int | UnsetType = UNSET
    shown: Annotated[
        list[int] | UnsetType, says("Of a pick from a comparison: both candidates, in the order they were shown.")
    ] = UNSET
    comment: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET


class AcceptedVote(Vote, kw_only=True):
    """Feedback that is in the log from here on."""

    object: Literal["feedback"]
    status: Annotated[Literal["accepted", "retracted"], says("`retracted`: the vote was taken back.")]


class BatchedVote(Strict, omit_defaults=True):
    """What became of a line of a batch."""

    line: Annotated[int, says("Its number, from 1, as it was sent.")]
    status: Annotated[Literal["accepted", "retracted", "valid", "error"], says("`valid`: of a dry run.")]
    feedback_id: str | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET


class BatchResult(Strict):
    """What became of each line of a batch."""

    object: Literal["feedback.batch"]
    dry_run: Annotated[bool, says("Checked only; nothing is stored.")]
    accepted: Annotated[int, says("Lines that are in the log from here on, or would be.")]
    failed: int
    data: list[BatchedVote]


class VoteList(Strict):
    """The current feedback on an answer."""

    object: Literal["list"]
    id: str
    partial: Annotated[bool, says("Redis does not answer: this is only what this gateway has not shipped yet.")]
    data: list[Vote]


class Health(Strict):
    """The process lives."""

    status: Literal["ok"]


class Readiness(Open):
    """Whether every model can be answered, and the state of each part."""

    status: Literal["ready", "not_ready", "stopping"]
    policies: dict[str, str]
    scorers: dict[str, str]
    log: dict[str, Any]
    access: dict[str, Any]
