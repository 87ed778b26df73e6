"""What may be done to keys and tenants: pure functions from a snapshot to a change. All raise ApiErrors.

The command line and the admin API both come here, and `store.change` makes the result true in one transaction.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

import msgspec

from gateway.access.caller import DEFAULT_TENANT, SCOPES, Scope
from gateway.access.expiry import as_date
from gateway.access.keys import ApiKey, make_key
from gateway.access.snapshot import Snapshot, Tenant
from gateway.admission.tiers import TIERS, Tier
from gateway.errors import BadRequest, NotFound
from gateway.log.privacy.plugins import check
from gateway.log.privacy.policy import TenantLog
from gateway.log.records import Training

T = TypeVar("T")

MAX_NAME = 100
MAX_KEYS = 10_000
MAX_RETAIN_DAYS = 36_500
_TENANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """Records to write, names of tenants to remove, and what to tell whoever asked."""

    result: T
    keys: tuple[ApiKey, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    removed_tenants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; `key` is shown this once. first: there was none before. old: the one it replaces."""

    record: ApiKey
    key: str
    first: bool = False
    old: ApiKey | None = None


Decide = Callable[[Snapshot], Change[T]]


def create_key(
    *, name: str, tenant: str, scopes: Sequence[str], expires: float | None, created_by: str, now: float
) -> Decide[NewKey]:
    checked = check_scopes(scopes)
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise BadRequest(f"name: 1 to {MAX_NAME} printable characters", param="name")

    def decide(found: Snapshot) -> Change[NewKey]:
        if found.tenant(tenant) is None:
            known = ", ".join(one.name for one in found.all_tenants())
            raise BadRequest(f"tenant: there is no tenant {tenant!r} (there is {known})", param="tenant")
        if len(found.keys) >= MAX_KEYS:
            raise BadRequest(f"there are {MAX_KEYS} API keys, the most that are kept")
        record, key = _unused(found, name, tenant, checked, expires, created_by, now)
        return Change(NewKey(record, key, first=not found.has_keys), keys=(record,))

    return decide


def rotate_key(identifier: str, *, grace_s: float, created_by: str, now: float) -> Decide[NewKey]:
    """A new key in the place of one, as long-lived as that was; the old one is good for `grace_s` more seconds."""

    def decide(found: Snapshot) -> Change[NewKey]:
        old = _key(found, identifier)
        if old.status(now) != "active":
            what = f"was replaced by {old.replaced_by}" if old.status(now) == "retiring" else f"is {old.status(now)}"
            raise BadRequest(f"the key {identifier} {what}; make a new one instead", code="key_not_active")
        expires = None if old.expires is None else now + (old.expires - old.created)
        record, key = _unused(found, old.name, old.tenant, old.scopes, expires, created_by, now)
        ends = now + grace_s if old.expires is None else min(old.expires, now + grace_s)
        retired = msgspec.structs.replace(
            old, replaced_by=record.id, expires=ends, revoked=now if grace_s <= 0 else None
        )
        return Change(NewKey(record, key, old=retired), keys=(record, retired))

    return decide


def revoke_key(identifier: str, *, now: float) -> Decide[ApiKey]:
    """Revoking twice changes nothing."""

    def decide(found: Snapshot) -> Change[ApiKey]:
        key = _key(found, identifier)
        if key.revoked is not None:
            return Change(key)
        revoked = msgspec.structs.replace(key, revoked=now)
        return Change(revoked, keys=(revoked,))

    return decide


def set_tenant(
    name: str,
    models: Sequence[str] | None,
    profiles: Sequence[str] | None,
    *,
    tier: str = "default",
    log: Mapping[str, Any] | None = None,
    known_models: Collection[str] | None = None,
    known_profiles: Collection[str] | None = None,
) -> Decide[Tenant]:
    """Make a tenant, or give it other limits. None: all. known_*: the names that exist, where that is known.

    tier: the highest class of its requests. log: fields of its `TenantLog` that
    become others; who sets a tenant's tier does not mean to keep again what it does not want kept.
    """
    if _TENANT_NAME.fullmatch(name) is None:
        raise BadRequest(
            "name: a tenant's name has 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first",
            param="name",
        )
    tenant = Tenant(
        name,
        _limits(models, known_models, "models", "model"),
        _limits(profiles, known_profiles, "profiles", "profile"),
        _tier(tier),
    )

    def decide(found: Snapshot) -> Change[Tenant]:
        before = found.tenant(name)
        made = msgspec.structs.replace(tenant, log=_log(before.log if before else TenantLog(), log or {}))
        return Change(made, tenants=(made,))

    return decide


def delete_tenant(name: str, *, now: float) -> Decide[Tenant]:
    """Only a tenant without usable keys can be deleted."""

    def decide(found: Snapshot) -> Change[Tenant]:
        if name == DEFAULT_TENANT:
            raise BadRequest("the tenant default always exists; set it without models and profiles to lift its limits")
        tenant = found.tenants.get(name)
        if tenant is None:
            raise NotFound(f"there is no tenant {name!r}", code="tenant_not_found")
        holding = [key.id for key in found.keys.values() if key.tenant == name and key.usable(now)]
        if holding:
            raise BadRequest(
                f"the tenant {name} has usable API keys; revoke them first: {', '.join(sorted(holding))}",
                code="tenant_in_use",
            )
        return Change(tenant, removed_tenants=(name,))

    return decide


def check_scopes(scopes: Sequence[str]) -> tuple[Scope, ...]:
    """In the order of SCOPES, each once. Raises BadRequest."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        what = f"there is no scope {unknown[0]!r}" if unknown else "at least one is needed"
        raise BadRequest(f"scopes: {what} (there is {', '.join(SCOPES)})", param="scopes")
    return tuple(scope for scope in SCOPES if scope in scopes)


def retirement(key: ApiKey, now: float) -> str:
    """What becomes of a replaced key, for people."""
    if key.status(now) == "revoked" or key.expires is None:
        return f"The old key {key.id} is revoked."
    return f"The old key {key.id} is good until {as_date(key.expires)}."


def _limits(
    names: Sequence[str] | None, known: Collection[str] | None, param: str, word: str
) -> tuple[str, ...] | None:
    if names is None:
        return None
    if not names:
        raise BadRequest(f"{param}: an empty list allows none; leave it out to allow all", param=param)
    for name in names:
        if known is not None and name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise BadRequest(f"{param}: there is no {word} {name!r} (there is {there})", param=param)
    return tuple(dict.fromkeys(names))


def _tier(name: str) -> Tier:
    for tier in TIERS:
        if tier == name:
            return tier
    raise BadRequest(f"tier: there is no class {name!r} (there is {', '.join(TIERS)})", param="tier")


def _log(before: TenantLog, changes: Mapping[str, Any]) -> TenantLog:
    """changes: of the right types, but for the values of strings. Raises BadRequest."""
    found = msgspec.structs.replace(before, **changes)
    if found.share is not None and not 0 <= found.share <= 1:
        raise BadRequest("log.share: a share is from 0 to 1", param="log.share")
    if found.retain_days is not None and not 1 <= found.retain_days <= MAX_RETAIN_DAYS:
        raise BadRequest(
            f"log.retain_days: records are kept for 1 to {MAX_RETAIN_DAYS} days; null: as the configuration says",
            param="log.retain_days",
        )
    if found.training not in get_args(Training):
        raise BadRequest(f"log.training: it is one of {', '.join(get_args(Training))}", param="log.training")
    try:
        check(found.redact or ())
    except ValueError as error:
        raise BadRequest(f"log.redact: {error}", param="log.redact") from None
    return found


def _key(found: Snapshot, identifier: str) -> ApiKey:
    try:
        return found.keys[identifier]
    except KeyError:
        raise NotFound(f"there is no API key with the id {identifier!r}", code="key_not_found") from None


def _unused(
    found: Snapshot,
    name: str,
    tenant: str,
    scopes: Sequence[Scope],
    expires: float | None,
    created_by: str,
    now: float,
) -> tuple[ApiKey, str]:
    while True:
        record, key = make_key(name=name, tenant=tenant, scopes=scopes, expires=expires, created_by=created_by, now=now)
        if record.id not in found.keys:
            return record, key
