"""The votes on an interaction: what Redis has, and what this process has accepted and not shipped yet.

So a person reads their own vote at once, and while Redis is away.
"""

import asyncio
import logging
from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gateway.errors import ConfigError
from gateway.log.archive.reader import Archive
from gateway.log.erase.judge import Judge, about_record
from gateway.log.records import Feedback
from gateway.log.streams import votes_in_archive, votes_in_redis
from gateway.log.votes import merge, standing

logger = logging.getLogger(__name__)

READ_TIMEOUT_S = 1.0
ARCHIVE_TIMEOUT_S = 5.0
REMEMBERED = 100_000


class Votes(msgspec.Struct, frozen=True):
    """Current votes, oldest first. partial: Redis or the archive did not answer, there may be more."""

    feedback: list[Feedback]
    partial: bool = False


class FeedbackStore:
    """remembered: most unshipped votes held in memory; beyond it the oldest are known to the journal alone."""

    def __init__(
        self,
        redis: Redis | None,
        shard: str,
        *,
        archive: Archive | None = None,
        timeout_s: float = READ_TIMEOUT_S,
        remembered: int = REMEMBERED,
    ) -> None:
        self._redis = redis
        self._shard = shard
        self._archive = archive
        self._timeout_s = timeout_s
        self._limit = remembered
        self._unshipped: dict[str, dict[str, Feedback]] = {}
        self._count = 0

    def remember(self, vote: Feedback) -> None:
        """A vote was accepted."""
        votes = self._unshipped.setdefault(vote.interaction, {})
        before = len(votes)
        votes.update(merge(votes.values(), [vote]))
        self._count += len(votes) - before
        while self._count > self._limit:
            oldest = next(iter(self._unshipped))
            self._count -= len(self._unshipped.pop(oldest))

    def forget(self, votes: Sequence[Feedback]) -> None:
        """These were shipped (or dropped)."""
        for vote in votes:
            held = self._unshipped.get(vote.interaction)
            if held is None or vote.vote_key not in held or held[vote.vote_key].id != vote.id:
                continue
            del held[vote.vote_key]
            self._count -= 1
            if not held:
                del self._unshipped[vote.interaction]

    def erase(self, judge: Judge) -> None:
        """Forget those that are to be erased."""
        votes = [vote for held in self._unshipped.values() for vote in held.values()]
        self.forget([vote for vote in votes if judge.order_of(about_record(vote)) is not None])

    async def of(self, interaction_id: str) -> Votes:
        """The current votes on an interaction; raises nothing, waits at most the time-out."""
        # Taken before and after the read: what is shipped meanwhile is in one of them or in Redis's answer.
        before = list(self._unshipped.get(interaction_id, {}).values())
        stored, partial = await self._stored(interaction_id)
        after = self._unshipped.get(interaction_id, {}).values()
        return Votes(standing(merge(stored, before, after).values()), partial)

    async def _stored(self, interaction_id: str) -> tuple[list[Feedback], bool]:
        if self._redis is None:
            return [], True
        try:
            async with asyncio.timeout(self._timeout_s):
                held, reached = await self._read(self._redis, interaction_id)
        except (RedisError, TimeoutError, OSError):
            return [], True
        if self._archive is None:
            return held, False
        try:
            async with asyncio.timeout(ARCHIVE_TIMEOUT_S):
                archived = await votes_in_archive(self._archive, [interaction_id], reached)
        except (OSError, TimeoutError, ConfigError) as error:
            logger.warning("The archive does not tell the votes on an answer: %r", error)
            return held, True
        return [*held, *archived.get(interaction_id, [])], False

    async def _read(self, redis: Redis, interaction_id: str) -> tuple[list[Feedback], str | None]:
        try:
            (votes,), reached = await votes_in_redis(redis, self._shard, [interaction_id])
        except RedisConnectionError:
            # A pooled connection that a restart of Redis has cut is only noticed by using it.
            (votes,), reached = await votes_in_redis(redis, self._shard, [interaction_id])
        return votes, reached
