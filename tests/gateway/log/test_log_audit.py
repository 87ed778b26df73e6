"""The audit log on a real Redis."""

import re
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.errors import Unavailable
from gateway.log import audit
from gateway.log.archive import audit_files
from gateway.log.archive.store import LocalStore
from gateway.log.audit import AuditEntry
from gateway.log.keys import audit_key
from gateway.log.watermarks import START
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD


def entry(**changes: object) -> AuditEntry:
    return msgspec.structs.replace(AuditEntry(at=1.5, actor="key:abc", action="read", target="x", count=2), **changes)


async def noted(redis: Redis, after: str = START) -> list[AuditEntry | None]:
    return [audit.decode(data) async for _, data in audit.entries(redis, SHARD, after)]


async def test_entries_are_read_back_in_their_order(redis_server: RedisServer, redis: Redis) -> None:
    given = [entry(target=str(number), id=f"{number}") for number in range(audit._PAGE + 3)]
    for one in given:
        await audit.note(redis, SHARD, one)
    assert await noted(redis) == given
    identifiers = [identifier async for identifier, _ in audit.entries(redis, SHARD)]
    assert await noted(redis, identifiers[-2]) == given[-1:]


async def test_a_very_long_target_is_cut(redis_server: RedisServer, redis: Redis) -> None:
    await audit.note(redis, SHARD, entry(target="a" * 5000))
    [found] = await noted(redis)
    assert found is not None
    assert (len(found.target), found.target[-1]) == (audit.MAX_TEXT, "…")


async def test_what_is_no_entry_is_told_apart(redis_server: RedisServer, redis: Redis) -> None:
    await redis.xadd(audit_key(SHARD), {"d": b"{}"})
    await redis.xadd(audit_key(SHARD), {"else": b"x"})
    assert await noted(redis) == [None, None]


async def test_a_redis_without_memory_takes_entries(stopped_redis: RedisServer, redis: Redis) -> None:
    stopped_redis.start("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    await audit.note(redis, SHARD, entry())
    assert len(await noted(redis)) == 1


async def test_what_cannot_be_noted_is_an_error(redis_server: RedisServer, redis: Redis) -> None:
    await redis.set(audit_key(SHARD), "no stream")
    with pytest.raises(Unavailable, match=r"audit log .*WRONGTYPE") as refused:
        await audit.note(redis, SHARD, entry())
    assert (refused.value.status, refused.value.code) == (503, "audit_unavailable")
    redis_server.kill()
    with pytest.raises(Unavailable, match="neither shown nor changed"):
        await audit.note(redis, SHARD, entry())


def test_who_types_is_named_with_their_machine() -> None:
    assert re.fullmatch(r"cli:[^@]+@.+", audit.cli_actor())


async def test_the_archive_gets_each_entry_once_and_in_files_of_some_size(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_files, "_FILE_ENTRIES", 2)
    store = LocalStore(tmp_path)
    assert await audit_files.copy(redis, SHARD, store) == 0
    given = [entry(id=str(number), at=float(number)) for number in range(4)]
    for one in given[:3]:
        await audit.note(redis, SHARD, one)
    assert await audit_files.copy(redis, SHARD, store) == 3
    assert await audit_files.copy(redis, SHARD, store) == 0
    await audit.note(redis, SHARD, given[3])
    assert await audit_files.copy(redis, SHARD, store) == 1
    assert len(store.list(audit_files.FOLDER)) == 3
    copied = audit_files.lines(store)
    assert len(copied) == 4
    held = [data async for _, data in audit.entries(redis, SHARD)]
    assert len(held) == 4, "nothing leaves Redis"
    assert audit_files.merged(copied, held, [b"{", b"{}"]) == given


async def test_shards_that_share_an_archive_do_not_hide_each_other(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path)
    for shard in ("1", "0"):
        await audit.note(redis, shard, entry(id=shard))
    assert [await audit_files.copy(redis, shard, store) for shard in ("0", "1")] == [1, 1]
    assert len(audit_files.merged(audit_files.lines(store))) == 2
