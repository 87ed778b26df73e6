"""Records into Redis: one pipeline a batch, in it one script call a stream and one a vote.

Why scripts and not one XADD a record: on one core the Redis client spends about 35 us on each command of a pipeline
and 11 us on each argument of a script call (4 KB records, redis-py 8.1). The entries are the same.

In a batch the votes come first, then the feedback stream, shadow scores, and the interactions: Redis's append-only
file keeps that order, so whoever finds the batch's last entry after a crash knows that the whole batch survived.
"""

import hashlib
import logging
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from gateway.log.cluster import serving
from gateway.log.frames import Entry, Kind
from gateway.log.keys import archived_key, feedback_key, interactions_key, shadow_key, votes_key
from gateway.log.records import Feedback, as_vote, decode_feedback
from gateway.log.watermarks import Watermarks, read_watermarks

logger = logging.getLogger(__name__)

# KEYS: stream. ARGV: schema version, records. Returns the id of the last entry.
APPEND = """
local last
for i = 2, #ARGV do
  last = redis.call('XADD', KEYS[1], '*', 'v', ARGV[1], 'd', ARGV[i])
end
return last
"""

# KEYS: votes hash. ARGV: vote key, id, '1' if retracted, record. The rule is votes.supersedes. Returns 1 if it won.
VOTE = """
local current = redis.call('HGET', KEYS[1], ARGV[1])
if current then
  local ok, old = pcall(cjson.decode, current)
  if ok and type(old) == 'table' and type(old.id) == 'string' then
    if old.id > ARGV[2] or (old.id == ARGV[2] and (old.retracted or ARGV[3] == '0')) then
      return 0
    end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
return 1
"""

# KEYS: stream. ARGV: '1' where somebody else trims streams, entry ids. Returns 1 for each that Redis lost, 0 for those
# that are there or may have been trimmed away on purpose (by somebody else, and older than the oldest entry).
LOST = """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local present = redis.call('EXISTS', KEYS[1]) == 1
local function parts(id)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(n)
end
local function trimmed(id)
  if ARGV[1] ~= '1' or not present then
    return false
  end
  if not first then
    return true
  end
  local ms, n = parts(id)
  local first_ms, first_n = parts(first[1])
  return ms < first_ms or (ms == first_ms and n < first_n)
end
local out = {}
for i = 2, #ARGV do
  local here = #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) > 0
  out[i - 1] = (here or trimmed(ARGV[i])) and 0 or 1
end
return out
"""

_SHA = {script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (APPEND, VOTE, LOST)}
_LOST_CHUNK = 500

Call = tuple[str, str, tuple[str | bytes, ...]]  # script, key, arguments


class Sent(msgspec.Struct, frozen=True):
    """What Redis acknowledged: the last entry of each stream, records by kind, and the votes among them."""

    entries: dict[str, str]
    counts: dict[Kind, int]
    votes: list[Feedback]


class RedisSink:
    """Writes to one shard's streams. Methods raise redis.exceptions.RedisError; nothing is retried here.

    archived: only the archiver trims the streams, so that an entry which is neither there nor archived is lost. Without
    it, whoever keeps the streams short does so from their old end.
    """

    def __init__(self, redis: Redis, shard: str, *, archived: bool = False) -> None:
        self._redis = redis
        self._shard = shard
        self._archived = archived

    async def send(self, entries: Sequence[Entry]) -> Sent:
        """Append all entries (at least one) to their streams and cast the votes among them.

        What was erased becomes none.
        """
        interactions = [entry for entry in entries if entry.kind is Kind.INTERACTION]
        feedback = [entry for entry in entries if entry.kind is Kind.FEEDBACK]
        shadow = [entry for entry in entries if entry.kind is Kind.SHADOW]
        votes = [vote for vote in map(_decoded, feedback) if vote is not None]
        calls: list[Call] = []
        for vote, value in votes:
            retracted = "1" if vote.retracted else "0"
            arguments = (vote.vote_key, vote.id, retracted, value)
            calls.append((VOTE, votes_key(self._shard, vote.interaction), arguments))
        for key, its in (
            (feedback_key(self._shard), feedback),
            (shadow_key(self._shard), shadow),
            (interactions_key(self._shard), interactions),
        ):
            for version, same in groupby(its, key=lambda entry: entry.version):
                calls.append((APPEND, key, (str(version), *(entry.payload for entry in same))))
        replies = await self._run(calls) if calls else []
        counts = {Kind.INTERACTION: len(interactions), Kind.FEEDBACK: len(feedback), Kind.SHADOW: len(shadow)}
        counts[Kind.ERASED] = len(entries) - sum(counts.values())
        last = {key: _text(reply) for (script, key, _), reply in zip(calls, replies, strict=True) if script is APPEND}
        return Sent(last, counts, [vote for vote, _ in votes])

    async def lost(self, stream: str, ids: Sequence[str]) -> set[str]:
        """Those of the entry ids, once acknowledged and not archived, that the stream no longer knows."""
        gone: set[str] = set()
        trimmed = "0" if self._archived else "1"
        for start in range(0, len(ids), _LOST_CHUNK):
            chunk = tuple(ids[start : start + _LOST_CHUNK])
            (flags,) = await self._run([(LOST, stream, (trimmed, *chunk))])
            gone.update(identifier for identifier, flag in zip(chunk, flags, strict=True) if flag)
        return gone

    async def run_id(self) -> str:
        """See `redis_run_id`."""
        return await redis_run_id(self._redis, self._shard)

    async def archived(self) -> Watermarks:
        """How far the archive has come; nothing without an archive."""
        return await read_watermarks(self._redis, self._shard) if self._archived else Watermarks()

    async def _run(self, calls: Sequence[Call]) -> list[Any]:
        replies = await self._execute(calls)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # A server that has just started knows no scripts. The append scripts are missing together with the
            # others, so nothing is appended twice by sending all of it again.
            for script in _SHA:
                await self._redis.script_load(script)
            replies = await self._execute(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _execute(self, calls: Sequence[Call]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for script, key, arguments in calls:
            pipeline.evalsha(_SHA[script], 1, key, *arguments)
        return list(await pipeline.execute(raise_on_error=False))


async def redis_run_id(redis: Redis, shard: str) -> str:
    """Of the server that has the shard's keys; changes when it restarts or another takes over.

    Empty where the server will not tell.
    """
    server = serving(redis, archived_key(shard))
    try:
        info = await server.info("server")
    except ResponseError:
        await server.ping()
        return ""
    return str(info.get("run_id", ""))


def _decoded(entry: Entry) -> tuple[Feedback, bytes] | None:
    """Feedback, and what is kept of it among the votes."""
    try:
        return decode_feedback(entry.payload, entry.version), as_vote(entry.payload, entry.version)
    except msgspec.DecodeError as error:  # ValidationError is one
        logger.warning("Feedback in the journal cannot be read and counts as no vote: %s.", error)
        return None


def _text(reply: bytes | str) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply
