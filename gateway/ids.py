"""Ids: UUIDv7, so that an id tells its own time (RFC 9562, section 5.7)."""

import re
import uuid

import uuid_utils

COMPLETION_PREFIX = "chatcmpl-"
_COMPLETION_ID = re.compile(r"chatcmpl-[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def new_uuid7() -> str:
    """A fresh UUIDv7; ids made by one process sort in the order they were made."""
    return str(uuid_utils.uuid7())


def new_completion_id() -> str:
    """The id of a chat completion and of its interaction: `chatcmpl-<uuid7>`."""
    return COMPLETION_PREFIX + new_uuid7()


def is_completion_id(text: str) -> bool:
    return _COMPLETION_ID.fullmatch(text) is not None


def unix_seconds(identifier: str) -> float:
    """When a UUIDv7 (with or without the completion prefix) was made, in seconds since 1970."""
    return (uuid.UUID(identifier.removeprefix(COMPLETION_PREFIX)).int >> 80) / 1000
