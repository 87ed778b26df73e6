"""Secrets at work: feedback tokens, keyed hashes of users and addresses, tags in ids, cache salts.

Each derives a key of its own.

A feedback token lets a browser vote on one answer: `bft_<base64url(claims)>.<base64url(HMAC-SHA256)>`; its claims are
their version, the tenant, the interaction, the hashed user (or none) and the expiry; in a comparison's token also the
two candidates, in the order in which they were shown.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from gateway.errors import ConfigError
from gateway.ids import TAGGED_BYTES, Tag, id_bytes

if TYPE_CHECKING:
    from gateway.config import Config

TOKEN_PREFIX = "bft_"
_TAG_BYTES = 16 - TAGGED_BYTES


class _Claims(msgspec.Struct, frozen=True, array_like=True):
    """A token whose claims have another version is not valid."""

    version: Literal[2]
    tenant: str
    interaction: str
    user: str | None
    expires: int
    shown: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class FeedbackGrant:
    """What a valid token allows: feedback on a tenant's interaction, as this user (hashed) or as nobody.

    shown: two candidates that were compared, in the order in which they were shown; None where it is no comparison's.
    """

    interaction: str
    user: str | None
    tenant: str
    shown: tuple[int, int] | None = None


class Signer:
    """Holds the secret: at least 16 bytes, the same for all gateways behind one address."""

    def __init__(self, secret: bytes, token_ttl_s: int) -> None:
        self._token_key = hmac.digest(secret, b"feedback token", "sha256")
        self._user_key = hmac.digest(secret, b"user", "sha256")
        self._address_key = hmac.digest(secret, b"address", "sha256")
        self._session_key = hmac.digest(secret, b"session", "sha256")
        self._id_key = hmac.digest(secret, b"id", "sha256")
        self._salt_key = hmac.digest(secret, b"cache salt", "sha256")
        self._statement_key = hmac.digest(secret, b"statement", "sha256")
        self._ttl_s = token_ttl_s

    def hash_user(self, user: str | None) -> str | None:
        """A keyed hash, 32 hexadecimal digits: the log tells users apart without naming them."""
        if not user:
            return None
        return hmac.new(self._user_key, user.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]

    def hash_address(self, address: str | None) -> str | None:
        """A keyed hash, 32 hexadecimal digits: senders are told apart without keeping where they are."""
        if not address:
            return None
        return hmac.digest(self._address_key, address.encode("utf-8", "replace"), "sha256").hex()[:32]

    def digest_of_statement(self, said: bytes) -> bytes:
        """What makes the id of an imported vote. Keyed, since a plain hash would tell who guesses what was said."""
        return hmac.digest(self._statement_key, said, "sha256")

    def hash_session(self, tenant: str, session: str | None) -> str | None:
        """A keyed hash of a tenant's conversation, as `hash_user`: two tenants' are never one."""
        if not session:
            return None
        # No tenant's name has a zero byte.
        said = tenant.encode() + b"\0" + session.encode("utf-8", "replace")
        return hmac.new(self._session_key, said, hashlib.sha256).hexdigest()[:32]

    def tag(self, tenant: str, *, stored: bool = True) -> Tag:
        """What makes this tenant's ids: the last 4 bytes of an id from its first 12 (`ids.new_completion_id`).

        stored: False for an answer of which nothing is kept: its id says so, to any gateway.
        """
        # The 12 bytes have one length, so nobody's tenant name can shift into them; and none has a zero byte.
        named = tenant.encode() if stored else tenant.encode() + b"\0unstored"
        return lambda head: hmac.digest(self._id_key, head + named, "sha256")[:_TAG_BYTES]

    def issued(self, identifier: str, tenant: str, *, stored: bool = True) -> bool:
        """Whether this installation gave the id to this tenant, for such an answer. A guess is right once in 2**32."""
        try:
            given = id_bytes(identifier)
        except ValueError:
            return False
        tag = self.tag(tenant, stored=stored)
        return hmac.compare_digest(tag(given[:TAGGED_BYTES]), given[TAGGED_BYTES:])

    def cache_salt(self, tenant: str) -> str:
        """vLLM's `cache_salt` of a tenant, 32 hexadecimal digits: no tenant learns of another's prompts by timing."""
        return hmac.digest(self._salt_key, tenant.encode(), "sha256").hex()[:32]

    def feedback_token(
        self,
        interaction: str,
        hashed_user: str | None,
        now: float,
        *,
        tenant: str,
        shown: tuple[int, int] | None = None,
    ) -> str:
        """shown: makes it a comparison's, which binds a pick to these two candidates and their places."""
        claims = msgspec.json.encode(_Claims(2, tenant, interaction, hashed_user, int(now) + self._ttl_s, shown))
        return TOKEN_PREFIX + _text(claims) + "." + _text(hmac.digest(self._token_key, claims, "sha256"))

    def read_token(self, token: str, now: float) -> FeedbackGrant | None:
        """What the token allows; None where it is forged, damaged or expired."""
        payload, _, signature = token.removeprefix(TOKEN_PREFIX).partition(".")
        try:
            claims, given = _bytes(payload), _bytes(signature)
        except (ValueError, binascii.Error):
            return None
        if not hmac.compare_digest(hmac.digest(self._token_key, claims, "sha256"), given):
            return None
        try:
            read = msgspec.json.decode(claims, type=_Claims)
        except msgspec.DecodeError:
            return None  # Signed by us, in an older version.
        if read.expires < now:
            return None
        return FeedbackGrant(read.interaction, read.user, read.tenant, read.shown)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def _make_secret(path: Path) -> None:
    """Where there is none."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(secrets.token_hex(32))
    try:
        # A link, not a rename: of two gateways that start at once, both must end with the first one's secret.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def signer_of(config: "Config") -> Signer:
    """The gateways' own, for who works beside them. Raises ConfigError where there is none yet."""
    given = config.gateway.feedback_secret_file
    secret = load_secret(given or config.data_dir / "feedback.secret", create=False)
    return Signer(secret, config.gateway.feedback_token_ttl_s)


def load_secret(path: Path, *, create: bool) -> bytes:
    """The secret in a file; made when `create` and there is none. Raises ConfigError."""
    if create:
        try:
            _make_secret(path)
        except OSError as error:
            raise ConfigError(
                f"The feedback secret {path} cannot be made: {error.strerror}. Make data_dir writable, or name a file "
                f"with gateway.feedback_secret_file."
            ) from None
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"The feedback secret {path} cannot be read: {error.strerror}.") from None
    if len(secret) < 16:
        raise ConfigError(f"The feedback secret in {path} is shorter than 16 bytes; put 32 random bytes in hex there.")
    return secret
