"""Secrets at work: feedback tokens that let a browser vote on one answer, and keyed hashes of user ids.

A token is `bft_<base64url(claims)>.<base64url(HMAC-SHA256)>`; its claims are the interaction, the hashed user (or none)
and the expiry. Both uses derive their own key from one secret.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.errors import ConfigError

TOKEN_PREFIX = "bft_"


class _Claims(msgspec.Struct, frozen=True, array_like=True):
    interaction: str
    user: str | None
    expires: int


@dataclass(frozen=True, slots=True)
class FeedbackGrant:
    """What a valid token allows: feedback on one interaction, as this user (hashed) or as nobody in particular."""

    interaction: str
    user: str | None


class Signer:
    """Holds the secret: at least 16 bytes, the same for all gateways behind one address."""

    def __init__(self, secret: bytes, token_ttl_s: int) -> None:
        self._token_key = hmac.digest(secret, b"feedback token", "sha256")
        self._user_key = hmac.digest(secret, b"user", "sha256")
        self._ttl_s = token_ttl_s

    def hash_user(self, user: str | None) -> str | None:
        """A keyed hash, 32 hexadecimal digits: the log tells users apart without naming them."""
        if not user:
            return None
        return hmac.new(self._user_key, user.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]

    def feedback_token(self, interaction: str, hashed_user: str | None, now: float) -> str:
        claims = msgspec.json.encode(_Claims(interaction, hashed_user, int(now) + self._ttl_s))
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
        read = msgspec.json.decode(claims, type=_Claims)
        return FeedbackGrant(read.interaction, read.user) if read.expires >= now else None


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def load_secret(path: Path, *, create: bool) -> bytes:
    """The secret in a file; made when `create` and there is none. Raises ConfigError."""
    if create and not path.exists():
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
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"The feedback secret {path} cannot be read: {error.strerror}.") from None
    if len(secret) < 16:
        raise ConfigError(f"The feedback secret in {path} is shorter than 16 bytes; put 32 random bytes in hex there.")
    return secret
