"""API keys: `bk_<id>_<secret>`. Made here, kept as a hash, found again in constant time.

The secret has 256 random bits, so a plain SHA-256 of the key is enough: slow hashes protect what people think up, and
nobody can try 2**256 keys at any speed.
"""

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from gateway.access.caller import Scope

KEY_PREFIX = "bk_"
ID_LENGTH = 10
# 62**43 > 2**256. Letters and digits only, so that a double click selects the whole key.
SECRET_LENGTH = 43
_ID_ALPHABET = string.ascii_lowercase + string.digits
_SECRET_ALPHABET = string.ascii_letters + string.digits
_KEY = re.compile(r"bk_([a-z0-9]{8,12})_[A-Za-z0-9]+")
# Compared with where the id is unknown, so that an unknown id takes as long as a known one.
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()

KeyStatus = Literal["active", "retiring", "expired", "revoked"]


class ApiKey(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A key as it is stored. Times are seconds since 1970.

    hash: SHA-256 of the whole key, in hex. created_by: who made it. replaced_by: the key that took its place.
    """

    id: str
    name: str
    tenant: str
    scopes: tuple[Scope, ...]
    created: float
    created_by: str
    hash: str
    expires: float | None = None
    revoked: float | None = None
    replaced_by: str | None = None

    def status(self, now: float) -> KeyStatus:
        """retiring: replaced, and good until the grace period ends."""
        if self.revoked is not None and self.revoked <= now:
            return "revoked"
        if self.expires is not None and self.expires <= now:
            return "expired"
        return "retiring" if self.replaced_by else "active"

    def usable(self, now: float) -> bool:
        return self.status(now) in ("active", "retiring")


def make_key(
    *, name: str, tenant: str, scopes: Sequence[Scope], expires: float | None, created_by: str, now: float
) -> tuple[ApiKey, str]:
    """A new key: its record, and the key itself, which is kept nowhere."""
    identifier = _random(_ID_ALPHABET, ID_LENGTH)
    key = f"{KEY_PREFIX}{identifier}_{_random(_SECRET_ALPHABET, SECRET_LENGTH)}"
    record = ApiKey(
        id=identifier,
        name=name,
        tenant=tenant,
        scopes=tuple(scopes),
        created=now,
        created_by=created_by,
        hash=digest(key),
        expires=expires,
    )
    return record, key


def digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def find(keys: Mapping[str, ApiKey], presented: str) -> ApiKey | None:
    """The record of a key that someone sent, usable or not; None where there is none."""
    match = _KEY.fullmatch(presented)
    record = keys.get(match[1]) if match else None
    same = hmac.compare_digest(digest(presented), record.hash if record else _NOBODY)
    return record if same else None


def described(key: ApiKey, now: float) -> dict[str, Any]:
    """What may be shown of a key: all but its hash."""
    return {
        "object": "api_key",
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "scopes": list(key.scopes),
        "status": key.status(now),
        "created": int(key.created),
        "created_by": key.created_by,
        "expires": None if key.expires is None else int(key.expires),
        "revoked": None if key.revoked is None else int(key.revoked),
        "replaced_by": key.replaced_by,
    }


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
