"""The user of a request: the log knows a keyed hash of the name, and nothing in the record may be the name itself."""

from collections.abc import Mapping
from typing import Any

from gateway.log.records import Message

# Fields that applications fill with who asks; of `metadata`, keys that mean a person.
_PERSONAL = frozenset({"prompt_cache_key", "safety_identifier", "user"})
_PERSONAL_METADATA = frozenset(
    {"user", "user_id", "userid", "user_name", "username", "end_user", "end_user_id", "customer", "customer_id",
     "account_id", "session_user", "safety_identifier", "email", "user_email"}
)  # fmt: skip
# And those that mean a conversation, the likeliest first: its name may be a person's, or lead to one.
SESSION_KEYS = ("session_id", "conversation_id", "chat_id", "thread_id", "langfuse_session_id")
_NAMING = _PERSONAL_METADATA.union(SESSION_KEYS)
# Shapes that a model is asked to keep: large, and no place for a user's name.
_SHAPES = frozenset({"tools", "response_format", "structured_outputs"})


def without_user(parameters: Mapping[str, Any], user: str | None, session: str | None = None) -> dict[str, Any]:
    """The request's parameters as they are logged: what names a person or a conversation goes, and so do `user` and
    `session` wherever they stand.

    What goes is left out, not hashed: the record's own `user` is the one hash that erasure looks for.
    """
    found = dict(parameters)
    for named in (user, session):
        found = {
            name: value if name in _SHAPES else _without(value, named, _NAMING if name == "metadata" else ())
            for name, value in found.items()
            if name not in _PERSONAL and (named is None or value != named)
        }
    return found


def unnamed(messages: list[Message], user: str | None) -> list[Message]:
    """The messages without `name` where that is the user."""
    if user is None or not any(message.get("name") == user for message in messages):
        return messages
    return [{key: value for key, value in message.items() if key != "name" or value != user} for message in messages]


def _without(value: Any, user: str | None, personal: frozenset[str] | tuple[()] = ()) -> Any:
    if isinstance(value, dict):
        return {
            key: _without(one, user)
            for key, one in value.items()
            if str(key).lower() not in personal and (user is None or (one != user and key != user))
        }
    if isinstance(value, list):
        return [_without(one, user) for one in value if user is None or one != user]
    return value
