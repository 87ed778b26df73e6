"""The answers' types, for the OpenAPI page alone: the code that answers builds plain objects, and tests hold those
against these. A type that forbids unknown fields is all there is; the others may have more (a worker's extras).
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gateway.access.caller import Scope
from gateway.access.keys import KeyStatus
from gateway.admission.tiers import Tier
from gateway.api.protocol import says
from gateway.log.records import FeedbackKind
from gateway.workers.worker import Source, State


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
    pruned_by: Annotated[str | None, says("The scorer that gave it up before the reward model, `name@version`.")]
    broken: Annotated[str | None, says("How it breaks the form that was asked for; null: it does not.")]
    safe: Annotated[bool, says("Whether it could be delivered.")]
    flagged: Annotated[list[str], says("The categories in which a guard flagged it, so that it is kept back.")]
    flags: Annotated[list[str], says("Those in which a guard flagged it and lets it out all the same.")]


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
            "one, or the best by the stages before), `prune_unavailable`, `fewer_safe`, `guard_unavailable`, ...; "
            "null: it is not."
        ),
    ]
    usage: Annotated[Usage, says("Tokens of all candidates; `usage` beside it counts what was delivered.")]
    feedback_token: Annotated[
        str, says("Lets its holder send feedback on this answer without an API key: for browsers.")
    ]
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
    comment: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET


class AcceptedVote(Vote, kw_only=True):
    """Feedback that is in the log from here on."""

    object: Literal["feedback"]
    status: Annotated[Literal["accepted", "retracted"], says("`retracted`: the vote was taken back.")]


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


class KeyObject(Strict):
    """An API key without its secret. Times are seconds since 1970."""

    object: Literal["api_key"]
    id: str
    name: str
    tenant: str
    scopes: list[Scope]
    status: KeyStatus
    created: int
    created_by: str
    expires: int | None
    revoked: int | None
    replaced_by: str | None


class KeyList(Strict):
    """The API keys that the caller manages."""

    object: Literal["list"]
    data: list[KeyObject]


class NewKeyObject(KeyObject, kw_only=True):
    """A key that was just made."""

    key: Annotated[str, says("The key itself, shown this once.")]
    replaces: Annotated[KeyObject | UnsetType, says("The key in whose place it was made.")] = UNSET


class TenantObject(Strict):
    """A tenant, and what it may use; null: all."""

    object: Literal["tenant"]
    name: str
    models: list[str] | None
    profiles: list[str] | None
    tier: Annotated[Tier, says("The highest `service_tier` that its requests get.")]


class DeletedTenant(TenantObject):
    """A tenant that is no more."""

    deleted: Literal[True]


class TenantList(Strict):
    """The tenants that the caller sees."""

    object: Literal["list"]
    data: list[TenantObject]


class ChangeNote(Strict):
    """Who changed something, when (seconds since 1970), and why."""

    by: str
    at: int
    reason: str | None


class WorkerLoadObject(Strict):
    """How busy a worker is."""

    sequences: Annotated[int, says("Samples of this gateway that it runs or has waiting.")]
    tokens: Annotated[int, says("What those still have to read and sample, by estimate.")]
    running: Annotated[float | None, says("Sequences that it samples, everybody's; null: its metrics do not say.")]
    waiting: Annotated[float | None, says("Sequences that wait in it.")]
    kv_usage: Annotated[float | None, says("Share of its KV cache in use, 0 to 1.")]


class WorkerObject(Strict):
    """A worker as this gateway sees it."""

    object: Literal["worker"]
    id: str
    policy: str
    url: str
    source: Annotated[Source, says("What names it: the configuration, DNS, or an operator.")]
    state: Annotated[State, says("`draining`: it finishes what it has and gets nothing new.")]
    reason: Annotated[str | None, says("Why it is not up.")]
    changed: Annotated[ChangeNote | None, says("Who drained it, or else added it.")]
    version: Annotated[str | None, says("vLLM's; null: not known yet.")]
    adapters: Annotated[list[str], says("LoRA adapters that it has.")]
    max_model_len: Annotated[int | None, says("Its context length, in tokens.")]
    breaker: Annotated[
        Literal["closed", "open", "half_open"],
        says("`open`: too much failed on it, it gets nothing for a while; `half_open`: it is being tried."),
    ]
    load: WorkerLoadObject


class RemovedWorker(WorkerObject, kw_only=True):
    """A worker that goes once it has finished what it has."""

    deleted: Literal[True]


class AbsentWorker(Strict):
    """A worker that the configuration or DNS names and an operator has removed."""

    policy: str
    url: str
    removed: ChangeNote


class WorkerList(Strict):
    """The workers of all policies."""

    object: Literal["list"]
    data: list[WorkerObject]
    removed: Annotated[list[AbsentWorker], says("They come back when they are added.")]


class AdapterObject(Strict):
    """A LoRA adapter that all workers of a policy have, or get before they take requests."""

    object: Literal["adapter"]
    policy: str
    name: str
    path: str
    created: int
    created_by: str
    reason: str | None
    loaded_on: Annotated[list[str], says("The workers that have it, by id.")]
    missing_on: Annotated[list[str], says("Those that get it before they take requests.")]


class AdapterList(Strict):
    """The adapters of all policies."""

    object: Literal["list"]
    data: list[AdapterObject]


class DeletedAdapter(Strict):
    """An adapter that no worker has any more."""

    object: Literal["adapter"]
    policy: str
    name: str
    deleted: Literal[True]


class ProfileObject(Strict):
    """A profile as this gateway serves with it."""

    object: Literal["profile"]
    name: str
    version: Annotated[int, says("The N of name@N in receipts and in the log.")]
    settings: Annotated[dict[str, Any], says("All of them, as in the configuration file.")]
    changed: Annotated[ChangeNote | None, says("Who made this version; `file`: the configuration file.")]
    models: Annotated[list[str], says("The models that are answered by it.")]


class ProfileList(Strict):
    """The profiles in force."""

    object: Literal["list"]
    data: list[ProfileObject]


class SettingChange(Strict):
    """What a setting was, and what it is."""

    before: Annotated[Any, msgspec.Meta(description="The value before.")] = msgspec.field(name="from")
    after: Annotated[Any, msgspec.Meta(description="The value from then on.")] = msgspec.field(name="to")


class ProfileVersionObject(Strict):
    """One version of a profile."""

    object: Literal["profile_version"]
    profile: str
    version: int
    settings: dict[str, Any]
    changed: ChangeNote
    changes: Annotated[dict[str, SettingChange], says("By key, what differs from the version before.")]


class ProfileHistory(Strict):
    """A profile's versions, newest first."""

    object: Literal["list"]
    data: list[ProfileVersionObject]


class Share(Strict):
    """A share of requests."""

    share: Annotated[float | None, says("0 to 1; null: there were none.")]
    stderr: Annotated[float | None, says("Its standard error.")]


class RankCorrelation(Strict):
    """Kendall's tau-b between two scorers' scores of a request's candidates."""

    mean: Annotated[float | None, says("Over requests, -1 to 1; null: there were none.")]
    stderr: Annotated[float | None, says("Its standard error.")]
    requests: Annotated[int, says("Requests in which it is defined.")]


class AgreementObject(Strict):
    """How far a scorer that decided nothing agreed with what did, over all gateways."""

    scorer: Annotated[str, says("Its version, `name@N`.")]
    profile: Annotated[str, says("The profile's version, `name@N`.")]
    decided_by: Annotated[str, says("The reward model that decided, `name@N`, or `none`.")]
    requests: Annotated[int, says("In which it was asked.")]
    candidates: Annotated[int, says("That it was asked about.")]
    failures: Annotated[int, says("Candidates that it gave no score.")]
    compared: Annotated[int, says("Requests in which it scored the delivered answer and another that might have been.")]
    other_winner: Annotated[Share, says("Of those, where it would have chosen another answer.")]
    rank_correlation: RankCorrelation
    mean_ms: Annotated[float | None, says("How long it took for a request.")]


class ScorerObject(Strict):
    """A scorer, as its server tells it now."""

    object: Literal["scorer"]
    name: str
    kind: Annotated[str | None, says("As in the file; null: what failed is not kept.")]
    gives: Annotated[Literal["value", "categories"] | None, says("A number that ranks, or categories that guard.")]
    source: Annotated[Literal["file", "added"], says("The configuration file, or an operator.")]
    version: Annotated[str, says("The `name@N` that is wanted.")]
    state: Annotated[
        Literal["ready", "loading", "failed", "unreachable"], says("`unreachable`: its server does not answer.")
    ]
    serving: Annotated[str | None, says("The `name@N` that answers.")]
    reason: Annotated[str | None, says("Why its last version could not be loaded.")]
    info: Annotated[dict[str, Any] | None, says("What it can do, as its server declares it.")]
    settings: Annotated[dict[str, Any], says("What differs from the defaults.")]
    changed: Annotated[ChangeNote | None, says("Who added it; null for the file's.")]
    used_by: Annotated[list[str], says("Where profiles name it, so that it decides: `default.reward`.")]
    shadow_of: Annotated[list[str], says("The profiles in whose shadow it scores.")]
    agreement: Annotated[list[AgreementObject] | None, says("Newest versions first; null: Redis does not answer.")]


class ScorerList(Strict):
    """The scorers of the file, and those that were added."""

    object: Literal["list"]
    data: list[ScorerObject]


class DeletedScorer(Strict):
    """A scorer that is no more."""

    object: Literal["scorer"]
    name: str
    deleted: Literal[True]
