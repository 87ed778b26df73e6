"""Ids: UUIDv7, so that an id tells its own time (RFC 9562, section 5.7).

An answer's id is also its interaction's, whatever endpoint gave it: `chatcmpl-<uuid>`, `cmpl-<uuid>` and `resp_<uuid>`
with the same UUID are one interaction, and the log knows it by the first form. Its last 4 bytes, random otherwise, are
a keyed tag of the first 12 and of the tenant (`signing.Signer.tag`), so that every gateway knows its own ids without
looking them up. The time and the counter that keep ids apart and in order are within the first 12 bytes.
"""

import re
import uuid
from collections.abc import Callable

import uuid_utils

COMPLETION_PREFIX = "chatcmpl-"
TEXT_PREFIX = "cmpl-"
RESPONSE_PREFIX = "resp_"

# The first 12 bytes of a UUID -> its last 4.
Tag = Callable[[bytes], bytes]
TAGGED_BYTES = 12

_UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_ANSWER_ID = re.compile(f"(?P<prefix>{COMPLETION_PREFIX}|{TEXT_PREFIX}|{RESPONSE_PREFIX}|)(?P<uuid>{_UUID7})")


def new_uuid7() -> str:
    """A fresh UUIDv7; ids made by one process sort in the order they were made."""
    return str(uuid_utils.uuid7())


def uuid7_at(at: float, digest: bytes) -> str:
    """The UUIDv7 of a moment (seconds since 1970), to a quarter of a microsecond; the rest is the digest's 8 bytes.

    So what happened earlier has the smaller id, and the same at the same moment has the same id.
    """
    milliseconds, fraction = divmod(int(at * 4_096_000), 4096)
    rest = int.from_bytes(digest[:8], "big") >> 2
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | rest))


def new_completion_id(tag: Tag | None = None) -> str:
    """The id of a chat completion and of its interaction: `chatcmpl-<uuid7>`, tagged where a tag is given."""
    fresh = COMPLETION_PREFIX + new_uuid7()
    return tagged(fresh, tag) if tag else fresh


def tagged(identifier: str, tag: Tag) -> str:
    """The same id with its last 4 bytes replaced by the tag. Raises ValueError where it is no id."""
    prefix, found = _split(identifier)
    head = found.bytes[:TAGGED_BYTES]
    return prefix + str(uuid.UUID(bytes=head + tag(head)))


def id_bytes(identifier: str) -> bytes:
    """The 16 bytes of an id's UUID. Raises ValueError where it is no id."""
    return _split(identifier)[1].bytes


def interaction_id(identifier: str) -> str | None:
    """The interaction's id, `chatcmpl-<uuid7>`, from an answer's with any of the prefixes; None where it is no id."""
    match = _ANSWER_ID.fullmatch(identifier)
    return COMPLETION_PREFIX + match["uuid"] if match and match["prefix"] else None


def unix_seconds(identifier: str) -> float:
    """When an id (a UUIDv7 with or without a prefix) was made, in seconds since 1970. Raises ValueError."""
    return (_split(identifier)[1].int >> 80) / 1000


def _split(identifier: str) -> tuple[str, uuid.UUID]:
    match = _ANSWER_ID.fullmatch(identifier)
    if match is None:
        raise ValueError(f"{identifier!r} is not an id of an answer")
    return match["prefix"], uuid.UUID(match["uuid"])
