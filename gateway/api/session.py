"""Which conversation a request belongs to, in the application's own words.

The first of these that says it: `guidance.session`, the body's `session_id`, a key of its `metadata` (SESSION_KEYS,
which Langfuse and others fill), a header (HEADERS: Open WebUI sends its own, LibreChat and others what they are told
to). The log keeps a keyed hash of it, and nothing else in the record holds it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.log.privacy.identity import SESSION_KEYS

HEADERS = ("x-session-id", "x-conversation-id", "x-openwebui-chat-id")
MOST_CHARACTERS = 512


def named_in(body: Mapping[str, Any]) -> str | None:
    """The session that a request's body names."""
    guidance, metadata = body.get("guidance"), body.get("metadata")
    said: list[Any] = [guidance.get("session") if isinstance(guidance, dict) else None, body.get("session_id")]
    if isinstance(metadata, dict):
        by_key = {str(key).lower(): value for key, value in metadata.items()}
        said += [by_key.get(key) for key in SESSION_KEYS]
    return _first(said)


def named_by(headers: Mapping[str, str]) -> str | None:
    """The session that a request's headers name."""
    return _first(headers.get(name) for name in HEADERS)


def _first(said: Iterable[Any]) -> str | None:
    """Of what is a name: nothing is refused for a field that is only for the log."""
    names = (one for one in said if isinstance(one, str) and 0 < len(one) <= MOST_CHARACTERS)
    return next(names, None)
