"""The audit log: who read, exported or erased what, in a stream of its own beside what it is about.

Append-only: nothing here trims it. The archiver copies it to the archive (`archive.audit_files`), so that a Redis that
is lost does not take it along. It fails closed: what cannot be noted is neither shown nor changed, so callers note
first and show then. A Redis without memory takes entries all the same, which are small.

People are in it as `erase.orders.subject_of` tells them apart, so that of who was erased not even the hash stays.
"""

import getpass
import socket
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.errors import Unavailable
from gateway.ids import new_uuid7
from gateway.log.keys import audit_key
from gateway.log.watermarks import START

AUDIT_VERSION = 1
MAX_TEXT = 1000
_PAGE = 500

Action = Literal[
    "read",  # interactions by their id, or the latest
    "search",
    "stats",  # sums of the latest interactions
    "export",  # answers and votes, to a file
    "export_user",  # all there is of one person, to a file
    "erase",  # all there is of one person, for ever
    "hold",  # a legal hold was laid on something
    "release",  # and taken off again
    "import",  # feedback from a file
    "review",  # votes let out of quarantine, or kept in it
    "tenant",  # what is kept of a tenant's requests was changed
]


class AuditEntry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One thing that somebody did with the log. at: seconds since 1970.

    actor: key:<id>, cli:<user>@<host> or anonymous. tenant: whose records; None: everybody's. target: ids, a subject or
    the filter; never a user's name or hash. count: of records; None: not known when it was noted.
    """

    at: float
    actor: str
    action: Action
    tenant: str | None = None
    target: str = ""
    count: int | None = None
    detail: str = ""
    id: str = msgspec.field(default_factory=new_uuid7)


# KEYS: stream. ARGV: version, entry. A Redis without memory refuses the first write of a script that could take more;
# it allows what comes behind one that cannot. No entry has the id 0-0.
_NOTE = """
redis.call('XDEL', KEYS[1], '0-0')
return redis.call('XADD', KEYS[1], '*', 'v', ARGV[1], 'd', ARGV[2])
"""


async def note(redis: Redis, shard: str, entry: AuditEntry) -> None:
    """Raises Unavailable where it is not noted: then nothing of it may be done."""
    data = msgspec.json.encode(_tidied(entry))
    try:
        await redis.eval(_NOTE, 1, audit_key(shard), str(AUDIT_VERSION), data)
    except (RedisError, OSError) as error:
        raise Unavailable(
            f"Redis did not take the entry in the audit log ({' '.join(str(error).split())}): what is not noted there "
            "is neither shown nor changed",
            code="audit_unavailable",
            retry_after=2.0,
        ) from error


async def entries(redis: Redis, shard: str, after: str = START) -> AsyncIterator[tuple[str, bytes]]:
    """Stream entries as they are: (id, entry as JSON), oldest first. Raises redis.exceptions.RedisError.

    after: the id behind which to begin.
    """
    start = f"({after}"
    while page := await _page(redis, shard, start):
        for identifier, fields in page:
            yield identifier.decode(), fields.get(b"d", b"")
        start = f"({page[-1][0].decode()}"


async def newest(redis: Redis, shard: str) -> str | None:
    """The id of the last stream entry; None where there is none. Raises redis.exceptions.RedisError."""
    reply: Any = await redis.xrevrange(audit_key(shard), count=1)
    return reply[0][0].decode() if reply else None


def decode(data: bytes) -> AuditEntry | None:
    """None where it is none of this version."""
    try:
        return msgspec.json.decode(data, type=AuditEntry)
    except msgspec.DecodeError:
        return None


def typed(
    action: Action, *, target: str = "", tenant: str | None = None, count: int | None = None, detail: str = ""
) -> AuditEntry:
    """What is done at the command line, now."""
    return AuditEntry(
        at=time.time(), actor=cli_actor(), action=action, tenant=tenant, target=target, count=count, detail=detail
    )


def cli_actor() -> str:
    """Who types: as the operating system knows them."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"cli:{user}@{socket.gethostname()}"


async def _page(redis: Redis, shard: str, start: str) -> Any:
    return await redis.xrange(audit_key(shard), min=start, count=_PAGE)


def _tidied(entry: AuditEntry) -> AuditEntry:
    return msgspec.structs.replace(entry, target=_short(entry.target), detail=_short(entry.detail))


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
