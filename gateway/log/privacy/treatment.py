"""Records made ready for the journal: what the policy does not keep goes, the rest is redacted."""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import msgspec
from prometheus_client import CollectorRegistry, Counter

from gateway.config import Config, KeepConfig, LogConfig, ModelLogConfig
from gateway.errors import ConfigError
from gateway.log.privacy.kinds import KINDS
from gateway.log.privacy.media import without_media
from gateway.log.privacy.policy import Policies, Policy, Rule, TenantLog, Unstored
from gateway.log.privacy.redactor import Count, Redactor
from gateway.log.privacy.texts import redacted
from gateway.log.records import Feedback, Interaction, Record, ShadowScores

logger = logging.getLogger(__name__)

R = TypeVar("R", Feedback, Record)


def policies_of(config: Config, tenant: Callable[[str], TenantLog | None] = lambda _: None) -> Policies:
    """What a configuration says; tenant: what a tenant does, by its name."""
    models = {name: rule_of(model.log) for name, model in config.models.items() if model.log is not None}
    return Policies(rule_of(config.log.keep), models, tenant)


def rule_of(said: KeepConfig | ModelLogConfig) -> Rule:
    return Rule(said.share, said.prompts, said.media, None if said.redact is None else tuple(said.redact))


class Privacy:
    """What is done to records. Raises ConfigError for a redactor that is not there. All of it may run in any thread.

    The journal's redactors are the policy's; the archive's are `log.redact_archive`, on top of those.
    """

    def __init__(self, policies: Policies, settings: LogConfig, registry: CollectorRegistry) -> None:
        self.policies = policies
        self._redactions = Counter(
            "bestow_log_redactions", "What was taken out of records before they were kept.", ["kind"], registry=registry
        )
        self._unstored = Counter(
            "bestow_log_unstored", "Interactions that were counted and not stored.", ["reason"], registry=registry
        )
        self._redactor = lru_cache(64)(_redactor)
        for names in policies.everyones():
            Redactor(names)
        self._archive = Redactor(settings.redact_archive)

    def received(self, record: Record) -> Record:
        """At once, on the event loop: a vote after the fast redactors.

        It is shown, and known by its flag's reason, before it is journaled.
        """
        if not isinstance(record, Feedback):
            return record
        policy = self.policies.of_feedback(record.tenant)
        fast = tuple(name for name in policy.redact if name in KINDS)
        vote, counts = _redacted(msgspec.structs.replace(record, training=policy.training), self._redactor(fast))
        self.count(counts)
        return vote

    def prepared(self, record: Record) -> tuple[Record, Count]:
        """Before the journal, in the log's thread. With what was taken out, by kind."""
        if isinstance(record, Interaction):
            policy = self.policies.of(record.model, record.tenant)
            return _redacted(_kept(record, policy), self._redactor(policy.redact))
        found, counts = _redacted(record, self._redactor(self.policies.of_feedback(record.tenant).redact))
        if isinstance(record, Feedback) and isinstance(found, Feedback) and record.kind == "flag":
            found = msgspec.structs.replace(found, value=record.value)
        return found, counts

    def archived(self, record: Record) -> tuple[Record, Count]:
        """Before the archive, by `log.redact_archive`: what is too slow for the journal. As `prepared`."""
        return _redacted(record, self._archive)

    def count(self, counts: Count) -> None:
        for kind, number in counts.items():
            self._redactions.labels(kind).inc(number)

    def count_unstored(self, reason: Unstored) -> None:
        self._unstored.labels(reason).inc()


def _redactor(names: tuple[str, ...]) -> Redactor:
    """Where one of them is not there (a tenant's, whose package this gateway lacks), all that is always there."""
    try:
        return Redactor(names)
    except ConfigError as error:
        logger.error("%s Everything that Bestow knows itself is redacted instead.", error)
        return Redactor(tuple(KINDS))


def _redacted(record: R, redactor: Redactor) -> tuple[R, Count]:
    counts = Count()
    if redactor.idle:
        return record, counts
    found = redacted(record, redactor, counts)
    if counts and not isinstance(found, ShadowScores):
        found = msgspec.structs.replace(found, redacted=dict(Count(found.redacted) + counts))
    return found, counts


def _kept(record: Interaction, policy: Policy) -> Interaction:
    """Without what the policy does not keep; `omitted` says what that was."""
    omitted = []
    if not policy.prompts:
        numbers = {key: value for key, value in record.parameters.items() if isinstance(value, (int, float))}
        record = msgspec.structs.replace(record, messages=[], parameters=numbers, reference=None)
        omitted.append("prompts")
    if not policy.media:
        record, some = _without_media(record)
        if some:
            omitted.append("media")
    return msgspec.structs.replace(record, omitted=omitted) if omitted else record


def _without_media(record: Interaction) -> tuple[Interaction, bool]:
    messages, asked = without_media(record.messages)
    answers, answered = without_media([candidate.message for candidate in record.candidates])
    if not asked and not answered:
        return record, False
    candidates = [
        msgspec.structs.replace(candidate, message=message)
        for candidate, message in zip(record.candidates, answers, strict=True)
    ]
    return msgspec.structs.replace(record, messages=messages, candidates=candidates), True
