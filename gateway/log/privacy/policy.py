"""What the log keeps, of whom: the configuration's word for all and for a model, and a tenant's own.

The strictest holds: the smallest share, nothing that one of them leaves out. What is redacted is said by the nearest
alone (the tenant, else the model, else the log), so that it can be switched off where it does harm.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

import msgspec

from gateway.ids import TAGGED_BYTES, id_bytes
from gateway.log.records import Training

Unstored = Literal["request", "tenant", "sampled_out"]
"""Why nothing is kept of a request: `store: false`, the tenant's policy, the share that is kept."""


class TenantLog(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a tenant allows. None: it says nothing of that.

    store: False: nothing of it is stored. share: of its interactions, 0 to 1. prompts, media: whether they are kept.
    redact: names of redactors. training: what its records may train. retain_days: how long they are kept.
    """

    store: bool = True
    share: float | None = None
    prompts: bool | None = None
    media: bool | None = None
    redact: tuple[str, ...] | None = None
    training: Training = "none"
    retain_days: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What a part of the configuration says; None: nothing of that."""

    share: float | None = None
    prompts: bool | None = None
    media: bool | None = None
    redact: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for one model and tenant."""

    store: bool
    share: float
    prompts: bool
    media: bool
    redact: tuple[str, ...]
    training: Training

    def unstored(self, identifier: str, *, asked: bool) -> Unstored | None:
        """Why nothing is kept of this interaction; None: it is stored. asked: False for `store: false`."""
        if not asked:
            return "request"
        if not self.store:
            return "tenant"
        return None if sampled(identifier, self.share) else "sampled_out"


def sampled(identifier: str, share: float) -> bool:
    """Whether an interaction is in the share that is kept: by its id alone, so that all gateways agree."""
    head = id_bytes(identifier)[:TAGGED_BYTES]
    return int.from_bytes(blake2b(head, digest_size=6).digest()) < share * 2**48


_NOTHING, _ALLOWED = Rule(), TenantLog()


@dataclass(frozen=True, slots=True)
class Policies:
    """overall: the log's word, complete. models: of public models. tenant: a tenant's word, by its name."""

    overall: Rule
    models: Mapping[str, Rule]
    tenant: Callable[[str], TenantLog | None] = lambda _: None

    def of(self, model: str, tenant: str) -> Policy:
        """For a request of this tenant to this model."""
        return _policy(self.overall, self.models.get(model, _NOTHING), self.tenant(tenant) or _ALLOWED)

    def of_feedback(self, tenant: str) -> Policy:
        """For what a person of this tenant says of an answer: its model is not known, so all that any redacts is."""
        everything = tuple(dict.fromkeys(name for names in self.everyones() for name in names))
        return _policy(self.overall, Rule(redact=everything), self.tenant(tenant) or _ALLOWED)

    def everyones(self) -> list[tuple[str, ...]]:
        """The redactors that the configuration names, each set of them."""
        return [rule.redact for rule in (self.overall, *self.models.values()) if rule.redact is not None]


@lru_cache(1024)
def _policy(overall: Rule, rule: Rule, own: TenantLog) -> Policy:
    says = (overall, rule, own)
    return Policy(
        store=own.store,
        share=min([1.0, *(one.share for one in says if one.share is not None)]),
        prompts=all(one.prompts is not False for one in says),
        media=all(one.media is not False for one in says),
        redact=next((one for one in (own.redact, rule.redact, overall.redact) if one is not None), ()),
        training=own.training,
    )
