"""Conversations put together: the interactions that an application names alike, and those that go on from each other.

The log has no index of them, so the whole of it is read, stream and archive.
"""

from collections.abc import Collection, Mapping

from redis.asyncio import Redis

from gateway.ids import interaction_id
from gateway.log import streams
from gateway.log.archive.reader import Archive
from gateway.log.records import Interaction, Session


async def session_of(redis: Redis, shard: str, name: str, archive: Archive | None = None) -> Session | None:
    """The session with this id (`Interaction.session`), or the one that an answer belongs to, by the answer's id.

    None where there is none. Raises what `streams.StreamReader` raises.
    """
    first: Interaction | None = None
    if (answer := interaction_id(name)) is not None:
        found = await streams.interactions(redis, shard, archive).find(answer)
        if found is None:
            return None
        first, name = found.record, found.record.session or ""
    members = {} if first is None else {first.id: first}
    links: dict[str, str] = {}
    async for logged in streams.interactions(redis, shard, archive).after():
        record = logged.record
        if first is not None and record.tenant != first.tenant:
            continue
        if name and record.session == name:
            members[record.id] = record
        if record.previous is not None:
            links[record.id] = record.previous
    for identifier in linked(members, links) - members.keys():
        more = await streams.interactions(redis, shard, archive).find(identifier)
        if more is not None:  # Else it was not stored, or erased.
            members[identifier] = more.record
    return _session(name or None, list(members.values())) if members else None


def linked(some: Collection[str], links: Mapping[str, str]) -> set[str]:
    """These interactions and all that they go on from or that go on from them, however far. links: id -> previous.

    Pure.
    """
    beside: dict[str, list[str]] = {}
    for later, earlier in links.items():
        beside.setdefault(later, []).append(earlier)
        beside.setdefault(earlier, []).append(later)
    found, waiting = set(some), list(some)
    while waiting:
        for other in beside.get(waiting.pop(), ()):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _session(identifier: str | None, interactions: list[Interaction]) -> Session:
    ordered = sorted(interactions, key=lambda one: (one.created, one.id))
    return Session(
        id=identifier,
        tenant=ordered[0].tenant,
        users=sorted({one.user for one in ordered if one.user is not None}),
        first=ordered[0].created,
        last=ordered[-1].created,
        interactions=ordered,
    )
