"""What the admin API answers: see `shapes`."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gateway.access.caller import Scope
from gateway.access.keys import KeyStatus
from gateway.admission.tiers import Tier
from gateway.api.protocol import says
from gateway.api.shapes import Strict
from gateway.log.erase.orders import Status
from gateway.log.records import Training
from gateway.workers.worker import Source, State


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


class TenantLogObject(Strict):
    """What is kept of a tenant's requests, of what the configuration keeps; null: it says nothing of that."""

    store: Annotated[bool, says("Whether any of them is stored.")]
    share: Annotated[float | None, says("Of its interactions, 0 to 1.")]
    prompts: bool | None
    media: bool | None
    redact: Annotated[list[str] | None, says("What is taken out of its texts.")]
    training: Annotated[Training, says("Whose models its records may train.")]
    retain_days: Annotated[int | None, says("How many days its records are kept.")]


class TenantObject(Strict):
    """A tenant, and what it may use; null: all."""

    object: Literal["tenant"]
    name: str
    models: list[str] | None
    profiles: list[str] | None
    tier: Annotated[Tier, says("The highest `service_tier` that its requests get.")]
    log: TenantLogObject


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
    alias: Annotated[str | None, says("The version of the policy whose full weights it was started with, if another.")]
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


class InteractionObject(Strict):
    """An interaction, with what people said of it."""

    object: Literal["interaction"]
    id: str
    interaction: Annotated[dict[str, Any], says("The record: prompt, candidates, scores, choice, versions, timings.")]
    feedback: Annotated[list[dict[str, Any]], says("The votes that stand, oldest first; users by their hash.")]


class InteractionList(Strict):
    """Interactions, newest first."""

    object: Literal["list"]
    data: list[InteractionObject]
    has_more: bool
    after: Annotated[str | None, says("The `after` of the next page; null: that was all.")]


class ErasureObject(Strict):
    """The erasing of a person. Times are seconds since 1970."""

    object: Literal["erasure"]
    id: str
    tenant: str
    status: Annotated[Status, says("`open`: it is being carried out; `held`: done but for what a legal hold keeps.")]
    ordered: ChangeNote
    before: Annotated[int, says("What came later is not erased.")]
    finished: Annotated[int | None, says("When it was last carried out.")]
    counts: Annotated[dict[str, int], says("Records that were erased, by place.")]
    outstanding: Annotated[list[str], says("Journals of gateways that had not done their part then.")]
    holds: Annotated[list[str], says("The legal holds that kept something.")]
    replays: Annotated[int, says("How often it was done again, since old data had come back.")]


class ModelCardObject(Strict):
    """What was measured of a model's policy together with its reward model."""

    object: Literal["model_card"]
    model: str
    card: Annotated[dict[str, Any], says("As `bestow calibrate MODEL` wrote it: what PUT takes.")]
    changed: Annotated[ChangeNote | None, says("Who published it.")]


class DeletedCard(Strict):
    """A card that is no more."""

    object: Literal["model_card"]
    model: str
    deleted: Literal[True]
