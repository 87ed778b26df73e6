"""What a webhook sends: a vote as the API shows it, signed as Standard Webhooks says (standardwebhooks.com, version 1).

webhook-id         of the vote: the same at every attempt, so that receivers can tell what they have had
webhook-timestamp  of the attempt, in seconds since 1970
webhook-signature  `v1,` and base64(HMAC-SHA256(secret, id + "." + timestamp + "." + body)), one for each secret
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gateway import __version__
from gateway.errors import ConfigError
from gateway.feedback.statements import shown
from gateway.log.records import Feedback

SECRET_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)


def body_of(vote: Feedback) -> bytes:
    """The event as JSON."""
    event = {
        "type": "feedback.retracted" if vote.retracted else "feedback.created",
        "timestamp": datetime.fromtimestamp(vote.created, UTC).isoformat().replace("+00:00", "Z"),
        "data": {**shown(vote, vote.interaction), "interaction": vote.interaction, "tenant": vote.tenant},
    }
    return msgspec.json.encode(event)


def headers_of(identifier: str, body: bytes, secrets: Sequence[bytes], now: float) -> dict[str, str]:
    """The headers of one attempt."""
    timestamp = int(now)
    return {
        "content-type": "application/json",
        "user-agent": f"bestow/{__version__}",
        "webhook-id": identifier,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, identifier, timestamp, body) for secret in secrets),
    }


def signature(secret: bytes, identifier: str, timestamp: int, body: bytes) -> str:
    signed = f"{identifier}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()


def read_secrets(path: Path) -> list[bytes]:
    """The secrets in a file, one a line. Raises ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"The webhook's secret {path} cannot be read: {reason}.") from None
    secrets = [_secret(line) for line in lines]
    if not secrets or None in secrets:
        raise ConfigError(
            f"{path} holds no webhook secret: a line is {SECRET_PREFIX} and 24 to 64 random bytes in base64; "
            f'echo "{SECRET_PREFIX}$(openssl rand -base64 32)" makes one.'
        )
    return [secret for secret in secrets if secret is not None]


def _secret(line: str) -> bytes | None:
    if not line.startswith(SECRET_PREFIX):
        return None
    try:
        found = base64.b64decode(line.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        return None
    return found if len(found) in _SECRET_BYTES else None
