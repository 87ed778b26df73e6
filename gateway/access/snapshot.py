"""All keys and tenants at one version: what a gateway decides from, immutable."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.access.caller import DEFAULT_TENANT
from gateway.access.keys import ApiKey
from gateway.admission.tiers import Tier
from gateway.log.privacy.policy import TenantLog


class Tenant(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tenant and what it may use: public models, profiles. None: all. tier: the highest class of its requests.

    log: what is kept of its requests, and what for.
    """

    name: str
    models: tuple[str, ...] | None = None
    profiles: tuple[str, ...] | None = None
    tier: Tier = "default"
    log: TenantLog = TenantLog()


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """keys by id, tenants by name. unreadable: records of another version of Bestow; they exist and open nothing."""

    version: int = 0
    keys: dict[str, ApiKey] = {}
    tenants: dict[str, Tenant] = {}
    unreadable: int = 0

    @property
    def has_keys(self) -> bool:
        """Whether any key was ever made. Revoked and expired ones count: losing the last one opens nothing."""
        return bool(self.keys) or self.unreadable > 0

    def has_usable_key(self, now: float) -> bool:
        return any(key.usable(now) for key in self.keys.values())

    def tenant(self, name: str) -> Tenant | None:
        """A tenant; `default` always exists."""
        return self.tenants.get(name) or (Tenant(DEFAULT_TENANT) if name == DEFAULT_TENANT else None)

    def all_tenants(self) -> list[Tenant]:
        default = self.tenant(DEFAULT_TENANT)
        assert default is not None
        others = [self.tenants[name] for name in sorted(self.tenants) if name != DEFAULT_TENANT]
        return [default, *others]


def succeed(known: Snapshot | None, found: Snapshot) -> tuple[Snapshot, str | None]:
    """What to hold after reading `found` where `known` was held, and what is odd about it.

    A Redis that lost its data, all or its last second, must not open a door that was shut: keys do not vanish
    altogether, and a revocation once seen stays.
    """
    if known is None:
        return found, None
    if known.has_keys and not found.has_keys:
        return known, "Redis has no API keys, and this gateway knows some; it keeps those"
    back = {
        identifier: msgspec.structs.replace(found.keys[identifier], revoked=key.revoked)
        for identifier, key in known.keys.items()
        if key.revoked is not None and identifier in found.keys and found.keys[identifier].revoked is None
    }
    if not back:
        return found, None
    return (
        msgspec.structs.replace(found, keys={**found.keys, **back}),
        f"Redis has forgotten that these API keys were revoked: {', '.join(back)}; they stay revoked here",
    )


def described_tenant(tenant: Tenant) -> dict[str, Any]:
    return {
        "object": "tenant",
        "name": tenant.name,
        "models": None if tenant.models is None else list(tenant.models),
        "profiles": None if tenant.profiles is None else list(tenant.profiles),
        "tier": tenant.tier,
        "log": described_log(tenant.log),
    }


def described_log(log: TenantLog) -> dict[str, Any]:
    return {
        "store": log.store,
        "share": log.share,
        "prompts": log.prompts,
        "media": log.media,
        "redact": None if log.redact is None else list(log.redact),
        "training": log.training,
        "retain_days": log.retain_days,
    }


def from_raw(version: bytes | None, keys: Mapping[bytes, bytes], tenants: Mapping[bytes, bytes]) -> Snapshot:
    """A snapshot from what Redis holds. A tenant that cannot be read is left out, and so its keys open nothing."""
    read_keys: dict[str, ApiKey] = {}
    unreadable = 0
    for data in keys.values():
        try:
            key = msgspec.json.decode(data, type=ApiKey)
            read_keys[key.id] = key
        except msgspec.DecodeError:
            unreadable += 1
    read_tenants: dict[str, Tenant] = {}
    for name, data in tenants.items():
        try:
            read_tenants[name.decode()] = msgspec.json.decode(data, type=Tenant)
        except (msgspec.DecodeError, UnicodeDecodeError):
            if name == DEFAULT_TENANT.encode():
                # Without its limits it would have none: it may use nothing until it can be read.
                read_tenants[DEFAULT_TENANT] = Tenant(DEFAULT_TENANT, (), (), log=TenantLog(store=False))
    return Snapshot(int(version or 0), read_keys, read_tenants, unreadable)
