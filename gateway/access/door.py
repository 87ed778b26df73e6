"""Who is let in: from the keys there are and the key that was sent to a Caller, or an error that says what is wrong.

- No key exists and only this machine can call: everyone may do everything.
- Keys exist: a usable one is needed.
- gateway.allow_anonymous: without a key one may chat and give feedback. A bad key is an error even so.

An error tells that a key has expired or was revoked only to who has that very key.
"""

from dataclasses import dataclass

from gateway.access.caller import DEFAULT_TENANT, SCOPES, USUAL_SCOPES, Caller, Scope
from gateway.access.expiry import as_date
from gateway.access.keys import KEY_PREFIX, ApiKey, find
from gateway.access.snapshot import Snapshot, Tenant
from gateway.errors import Unauthorized


@dataclass(frozen=True, slots=True)
class Rules:
    """loopback: the gateway listens to this machine alone. allow_anonymous: as configured."""

    loopback: bool
    allow_anonymous: bool = False


def identify(known: Snapshot, presented: str | None, rules: Rules, now: float) -> Caller:
    """Raises Unauthorized. presented: the key that was sent, if any."""
    if not known.has_keys and rules.loopback and not rules.allow_anonymous:
        return _without_key(known, SCOPES)
    if rules.allow_anonymous and not (presented or "").startswith(KEY_PREFIX):
        # Clients that insist on a key send any: what is no key of ours counts as none.
        return _without_key(known, USUAL_SCOPES)
    if not presented:
        raise missing()
    key = find(known.keys, presented)
    if key is None:
        raise Unauthorized("the API key is not valid", code="invalid_api_key")
    status = key.status(now)
    if status == "revoked":
        raise Unauthorized("the API key was revoked; ask for a new one", code="revoked_api_key")
    if status == "expired":
        raise Unauthorized(f"the API key expired on {as_date(key.expires or 0)}", code="expired_api_key")
    return _with_key(key, known.tenant(key.tenant))


def missing() -> Unauthorized:
    return Unauthorized(
        "the request has no API key; send one in the header `Authorization: Bearer bk_...`", code="missing_api_key"
    )


def _with_key(key: ApiKey, tenant: Tenant | None) -> Caller:
    if tenant is None:
        raise Unauthorized("the tenant of this API key no longer exists", code="revoked_api_key")
    return _caller(tenant, key.id, key.scopes)


def _without_key(known: Snapshot, scopes: tuple[Scope, ...]) -> Caller:
    tenant = known.tenant(DEFAULT_TENANT)
    assert tenant is not None
    return _caller(tenant, None, scopes)


def _caller(tenant: Tenant, key_id: str | None, scopes: tuple[Scope, ...]) -> Caller:
    limits = _names(tenant.models), _names(tenant.profiles)
    return Caller(tenant.name, key_id, frozenset(scopes), *limits, tenant.tier)


def _names(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
