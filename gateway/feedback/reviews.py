"""What operators decided of votes, in Redis: a hash of subject -> decision; the latest word on a subject replaces the
one before.
"""

import logging
import re
from collections.abc import Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from gateway.errors import BadRequest
from gateway.feedback.trust.decisions import Decision
from gateway.log.keys import reviews_key

logger = logging.getLogger(__name__)

_SUBJECT = re.compile(
    r"vote:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(user|source):[0-9a-f]{32}|key:[A-Za-z0-9]{1,64}"
)


def subject_of(text: str) -> str:
    """A subject as it is typed; a vote's id may stand alone. Raises BadRequest."""
    subject = text if ":" in text else f"vote:{text}"
    if not _SUBJECT.fullmatch(subject):
        raise BadRequest(
            f"{text!r} is nothing that can be decided on: give a vote's id, user:HASH, source:HASH or key:ID as "
            "`bestow feedback review` shows them",
            param="subject",
        )
    return subject


async def read(redis: Redis, shard: str) -> dict[str, Decision]:
    """All decisions, by subject. Raises redis.exceptions.RedisError."""
    stored = cast("dict[bytes, bytes]", await redis.hgetall(reviews_key(shard)))
    found: dict[str, Decision] = {}
    for subject, data in sorted(stored.items()):
        try:
            found[subject.decode()] = msgspec.json.decode(data, type=Decision)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("A decision on votes is passed over: %s", error)
    return found


async def decide(redis: Redis, shard: str, decisions: Sequence[Decision]) -> None:
    """Write decisions down, all or none. Raises redis.exceptions.RedisError."""
    await redis.hset(reviews_key(shard), mapping={one.subject: msgspec.json.encode(one) for one in decisions})
