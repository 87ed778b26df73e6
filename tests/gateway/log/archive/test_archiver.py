import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from gateway.config import ArchiveConfig, parse
from gateway.ids import new_uuid7, unix_seconds
from gateway.log import streams
from gateway.log.archive.archiver import GROUP, Archiver
from gateway.log.archive.due import held
from gateway.log.archive.lock import ArchiverLock, LockLost
from gateway.log.archive.reader import Archive
from gateway.log.archive.redaction import redaction
from gateway.log.archive.store import LocalStore, open_store
from gateway.log.frames import Kind
from gateway.log.keys import STREAM_NAMES, archived_key, archiver_key, feedback_key, interactions_key, votes_key
from gateway.log.records import SCHEMA_VERSION, Interaction, ScoreRecord, ShadowScores, encode
from tests.gateway.log.archive.archiving import (
    FailingStore,
    Killed,
    archive,
    archive_in,
    ids,
    interactions_read,
    send,
    store_in,
)
from tests.gateway.log.log_samples import SHARD, interaction, thumb

pytestmark = pytest.mark.usefixtures("redis_server")


def shadow(of: str) -> ShadowScores:
    return ShadowScores(new_uuid7(), of, time.time(), "s@1", "p@1", None, {0: ScoreRecord(0.5)})


def older(record: Interaction, days: float) -> Interaction:
    """The same, made days earlier by its id."""
    milliseconds = int((unix_seconds(record.id) - days * 86_400) * 1000)
    prefix, _, rest = record.id.partition("-")
    made = f"{milliseconds:012x}"
    return msgspec.structs.replace(record, id=f"{prefix}-{made[:8]}-{made[8:]}{rest[13:]}")


async def test_all_kinds_are_moved_and_read_back_byte_for_byte(redis: Redis, tmp_path: Path) -> None:
    records = [interaction(reference="ünï\u2028 \x00 \U0001f600") for _ in range(30)]
    votes = [thumb(record.id) for record in records[:10]]
    scores = [shadow(record.id) for record in records[:5]]
    await send(redis, *records, *votes, *scores)
    report = await archive(redis, store_in(tmp_path))
    assert report.records == {"interactions": 30, "feedback": 10, "shadow": 5}
    assert [stream.entries for stream in await held(redis, SHARD)] == [0, 0, 0]
    archived = archive_in(tmp_path)
    for kind, expected in ((Kind.INTERACTION, records), (Kind.FEEDBACK, votes), (Kind.SHADOW, scores)):
        assert [row.data for row in archived.rows(kind)] == [encode(record) for record in expected]
        assert {row.version for row in archived.rows(kind)} == {SCHEMA_VERSION}
    assert (await interactions_read(redis, archived))[0] == records
    assert [one.record async for one in streams.feedback(redis, SHARD, archived).after()] == votes
    assert [one.record async for one in streams.shadow(redis, SHARD, archived).after()] == scores


async def test_columns_are_there_for_filters(redis: Redis, tmp_path: Path) -> None:
    record = interaction(tenant="acme", user="u1", outcome="refused_prompt")
    vote = thumb(record.id, tenant="acme")
    await send(redis, record, vote, shadow(record.id))
    await archive(redis, store_in(tmp_path))
    day = datetime.fromtimestamp(unix_seconds(record.id), UTC).date().isoformat()
    (row,) = pq.read_table(tmp_path / f"archive/kind=interactions/date={day}").to_pylist()
    assert (row["id"], row["tenant"], row["model"], row["policy"]) == (record.id, "acme", "demo", "demo@1")
    assert (row["outcome"], row["user"], row["version"]) == ("refused_prompt", "u1", SCHEMA_VERSION)
    assert row["created"].timestamp() == pytest.approx(record.created, abs=1e-6)
    assert row["record"] == encode(record)
    votes = pq.read_table(tmp_path / "archive", filters=[("kind", "==", "feedback")], partitioning="hive")
    assert votes["interaction"].to_pylist() == [record.id]
    assert votes["feedback_kind"].to_pylist() == ["thumbs"]
    assert (tmp_path / "archive").stat().st_mode & 0o077 == 0


async def test_a_record_is_filed_under_the_day_of_its_interaction(redis: Redis, tmp_path: Path) -> None:
    record = older(interaction(), 3)
    await send(redis, record, interaction(), thumb(record.id), shadow(record.id))
    await archive(redis, store_in(tmp_path))
    found = archive_in(tmp_path)
    day = datetime.fromtimestamp(unix_seconds(record.id), UTC).date()
    assert [[part.date for part in found.parts(kind)].count(day) for kind in STREAM_NAMES] == [1, 1, 1]
    assert len(found.parts(Kind.INTERACTION)) == 2
    assert [row.data for row in found.about(Kind.INTERACTION, [record.id, "nonsense"])] == [encode(record)]
    # In the order of their entries all the same.
    assert ids((await interactions_read(redis, found))[0])[0] == record.id


async def test_only_what_is_old_is_moved_and_with_it_all_that_is_half_as_old(redis: Redis, tmp_path: Path) -> None:
    now = time.time()
    for age in (100, 60, 40, 10):
        record = msgspec.structs.replace(interaction(), model=f"aged {age}")
        await redis.xadd(interactions_key(SHARD), {"v": 1, "d": encode(record)}, id=f"{int((now - age) * 1000)}-0")
    store, settings = store_in(tmp_path), ArchiveConfig(after_s=101)
    assert (await archive(redis, store, everything=False, settings=settings, clock=lambda: now)).parts == 0
    settings = ArchiveConfig(after_s=90)
    assert (await archive(redis, store, everything=False, settings=settings, clock=lambda: now)).parts == 1
    left = [one.record.model async for one in streams.interactions(redis, SHARD).after()]
    assert left == ["aged 40", "aged 10"]
    assert (await archive(redis, store, everything=False, settings=settings, clock=lambda: now)).parts == 0
    read = await interactions_read(redis, archive_in(tmp_path))
    assert [record.model for record in read[0]] == ["aged 100", "aged 60", "aged 40", "aged 10"]
    # Those that were taken with the others and were too young are moved when their time comes.
    await archive(redis, store, everything=False, settings=settings, clock=lambda: now + 51)
    assert [one.record.model async for one in streams.interactions(redis, SHARD).after()] == []
    assert len((await interactions_read(redis, archive_in(tmp_path)))[0]) == 4


async def test_beyond_their_memory_the_streams_are_moved_until_they_take_half_of_it(
    redis: Redis, tmp_path: Path
) -> None:
    records = [interaction(reference="x" * 5000) for _ in range(600)]
    await send(redis, *records)
    limit = 1_500_000
    assert sum(one.bytes for one in await held(redis, SHARD)) > limit
    await archive(redis, store_in(tmp_path), everything=False, settings=ArchiveConfig(keep_bytes=limit))
    left = await held(redis, SHARD)
    assert limit // 4 < sum(one.bytes for one in left) <= limit // 2
    assert ids((await interactions_read(redis, archive_in(tmp_path)))[0]) == ids(records)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2])
async def test_an_archiver_killed_between_its_steps_loses_and_doubles_nothing(
    redis: Redis, tmp_path: Path, after: bool, at: int
) -> None:
    records = [interaction() for _ in range(20)] + [older(interaction(), 2) for _ in range(20)]
    votes = [thumb(record.id) for record in records]
    await send(redis, *records, *votes)
    store = store_in(tmp_path)
    with pytest.raises(Killed):
        await archive(redis, FailingStore(store, at=at, after=after))
    read, duplicates = await interactions_read(redis, archive_in(tmp_path))
    assert sorted(ids(read)) == sorted(ids(records))
    assert duplicates == {(1, False): 0, (1, True): 20, (2, False): 20, (2, True): 40}[at, after]
    await archive(redis, store)
    read, duplicates = await interactions_read(redis, archive_in(tmp_path))
    # The repeat overwrote the parts that were there.
    assert (sorted(ids(read)), duplicates) == (sorted(ids(records)), 0)
    assert await streams.interactions(redis, SHARD).length() == 0
    assert await streams.votes_of_all(redis, SHARD, ids(records), archive_in(tmp_path)) == [[vote] for vote in votes]
    assert not await redis.keys("*votes*")


async def test_a_full_disk_of_the_archive_keeps_everything_in_redis(redis: Redis, tmp_path: Path) -> None:
    records = [interaction() for _ in range(5)]
    await send(redis, *records)
    full = FailingStore(store_in(tmp_path), at=1, after=False, error=OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        await archive(redis, full)
    assert await streams.interactions(redis, SHARD).length() == 5
    await archive(redis, store_in(tmp_path))
    assert (await interactions_read(redis, archive_in(tmp_path))) == (records, 0)


async def test_entries_that_nobody_can_read_are_kept_as_they_were(redis: Redis, tmp_path: Path) -> None:
    key = interactions_key(SHARD)
    await redis.xadd(key, {"v": "1", "d": b"{not json \xff"})
    await redis.xadd(key, {"v": "99", "d": encode(interaction())})
    await redis.xadd(key, {"something": "else"})
    await redis.xadd(key, {"v": "1", "d": '{"id": 3}'})
    good = interaction()
    await send(redis, good)
    await archive(redis, store_in(tmp_path))
    rows = list(archive_in(tmp_path).rows(Kind.INTERACTION))
    assert [row.version for row in rows] == [1, 99, 0, 1, SCHEMA_VERSION]
    assert rows[0].data == b"{not json \xff"
    reader = streams.interactions(redis, SHARD, archive_in(tmp_path))
    assert [one.record async for one in reader.after()] == [good]
    assert reader.bad == 4


async def test_entries_deleted_while_they_were_taken_hold_nothing_up(redis: Redis, tmp_path: Path) -> None:
    records = [interaction() for _ in range(4)]
    await send(redis, *records)
    key = interactions_key(SHARD)
    with pytest.raises(Killed):
        await archive(redis, FailingStore(store_in(tmp_path / "other"), at=1, after=False))
    page: Any = await redis.xrange(key)
    entries = [entry for entry, _ in page]
    assert (await redis.xpending(key, GROUP))["pending"] == 4
    await redis.xdel(key, entries[0], entries[2])
    await archive(redis, store_in(tmp_path))
    assert (await redis.xpending(key, GROUP))["pending"] == 0
    assert await redis.xlen(key) == 0
    assert ids((await interactions_read(redis, archive_in(tmp_path)))[0]) == [records[1].id, records[3].id]


async def test_only_one_archives_and_who_lost_the_lock_takes_nothing_off_the_stream(
    redis: Redis, tmp_path: Path
) -> None:
    records = [interaction() for _ in range(3)]
    await send(redis, *records)
    first = ArchiverLock(redis, SHARD, "first")
    assert await first.take()
    assert not await ArchiverLock(redis, SHARD, "second").take()
    await redis.delete(archiver_key(SHARD))  # It expired while the first one slept.
    second = ArchiverLock(redis, SHARD, "second")
    assert await second.take()
    sleeper = Archiver(redis, SHARD, store_in(tmp_path), ArchiveConfig(), first, clock=time.time)
    with pytest.raises(LockLost):
        await sleeper.round(everything=True)
    with pytest.raises(LockLost):
        await first.keep()
    await first.release()
    assert await redis.xlen(interactions_key(SHARD)) == 3
    await Archiver(redis, SHARD, store_in(tmp_path), ArchiveConfig(), second, clock=time.time).round(everything=True)
    assert await interactions_read(redis, archive_in(tmp_path)) == (records, 0)


async def test_a_redis_without_memory_can_be_archived(redis: Redis, tmp_path: Path) -> None:
    records = [interaction(reference="x" * 5000) for _ in range(100)]
    await send(redis, *records)
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used - 100_000)
    with pytest.raises(OutOfMemoryError):
        await redis.set("anything", "x" * 1000)
    await archive(redis, store_in(tmp_path))
    await send(redis, *(more := [interaction()]))
    assert await interactions_read(redis, archive_in(tmp_path)) == ([*records, *more], 0)


async def test_votes_survive_trimming_and_late_ones_join_archived_interactions(redis: Redis, tmp_path: Path) -> None:
    record = older(interaction(), 5)
    first, other = thumb(record.id), thumb(record.id, user="bob")
    await send(redis, record, first, other)
    await archive(redis, store_in(tmp_path))
    found = archive_in(tmp_path)
    assert not await redis.exists(votes_key(SHARD, record.id))
    assert await streams.votes_of(redis, SHARD, record.id, found) == [first, other]
    changed, taken_back = thumb(record.id, False), thumb(record.id, user="bob", retracted=True)
    await send(redis, changed)
    assert await streams.votes_of(redis, SHARD, record.id, found) == [other, changed]
    # A replay of what is archived brings no old vote back, neither before nor after archiving.
    await send(redis, first, taken_back)
    assert await streams.votes_of(redis, SHARD, record.id, found) == [changed]
    await archive(redis, store_in(tmp_path))
    assert await streams.votes_of(redis, SHARD, record.id, found) == [changed]
    assert await redis.xlen(feedback_key(SHARD)) == 0


async def test_the_last_records_and_lookups_go_on_into_the_archive(redis: Redis, tmp_path: Path) -> None:
    records = [interaction() for _ in range(25)]
    for start in range(0, 20, 5):
        await send(redis, *records[start : start + 5])
        await archive(redis, store_in(tmp_path))
    await send(redis, *records[20:])
    found = archive_in(tmp_path)

    async def last(count: int) -> Sequence[Interaction]:
        return [one.record for one in await streams.interactions(redis, SHARD, found).last(count)]

    assert await last(3) == records[22:]
    assert await last(12) == records[13:]
    assert await last(100) == records
    for index in (0, 7, 19, 24):
        logged = await streams.interactions(redis, SHARD, found).find(records[index].id)
        assert logged is not None
        assert logged.record == records[index]
    assert await streams.interactions(redis, SHARD, found).find(interaction().id) is None
    reader = streams.interactions(redis, SHARD, found)
    assert (await reader.length(), await reader.archived()) == (5, 20)


async def test_a_reader_that_archiving_overtakes_misses_nothing(redis: Redis, tmp_path: Path) -> None:
    records = [interaction() for _ in range(1000)]
    await send(redis, *records)
    read: list[str] = []
    async for logged in streams.interactions(redis, SHARD, archive_in(tmp_path)).after():
        read.append(logged.record.id)
        if len(read) == 250:
            await archive(redis, store_in(tmp_path))
    assert read == ids(records)


async def test_readers_and_archivers_at_once_agree(redis: Redis, tmp_path: Path) -> None:
    records = [interaction() for _ in range(600)]

    async def write() -> None:
        for start in range(0, 600, 20):
            await send(redis, *records[start : start + 20])
            await asyncio.sleep(0)

    async def move() -> None:
        for _ in range(8):
            await archive(redis, store_in(tmp_path))

    await asyncio.gather(write(), move())
    assert await interactions_read(redis, archive_in(tmp_path)) == (records, 0)


async def test_any_fsspec_url_will_do(redis: Redis) -> None:
    store = open_store(f"memory://bestow-{new_uuid7()}/archive")
    records = [interaction() for _ in range(5)]
    await send(redis, *records, thumb(records[0].id))
    await archive(redis, store)
    found = Archive(lambda: store)
    assert await interactions_read(redis, found) == (records, 0)
    assert len(await streams.votes_of(redis, SHARD, records[0].id, found)) == 1


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "archive")
    store.write("kind=feedback/date=2027-01-01/a", b"x")
    store.write("kind=feedback/date=2027-01-01/a", b"yy")
    assert store.list("kind=feedback/") == [("kind=feedback/date=2027-01-01/a", 2)]
    (tmp_path / "archive/kind=feedback/date=2027-01-01/.b.unfinished").write_bytes(b"half")
    assert [name for name, _ in store.list("kind=feedback/")] == ["kind=feedback/date=2027-01-01/a"]
    assert store.list("kind=shadow/") == []


async def test_a_damaged_file_is_named_and_hides_nothing_silently(redis: Redis, tmp_path: Path) -> None:
    await send(redis, interaction())
    await archive(redis, store_in(tmp_path))
    (part,) = (tmp_path / "archive").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(OSError, match=r"part-.* is damaged"):
        await interactions_read(redis, archive_in(tmp_path))


class Overtaken(Redis):
    """Just before it reads, an archiver that slept through the end of its lock takes the oldest entry for itself."""

    overtaken = False

    async def xreadgroup(self, *arguments: Any, **options: Any) -> Any:
        if not self.overtaken:
            self.overtaken = True
            await super().xreadgroup(GROUP, "sleeper", {interactions_key(SHARD): ">"}, 1)
        return await super().xreadgroup(*arguments, **options)


async def test_what_another_has_taken_and_not_written_is_not_trimmed(redis: Redis, tmp_path: Path) -> None:
    records = [interaction() for _ in range(3)]
    await send(redis, *records)
    store = FailingStore(store_in(tmp_path), at=2, after=False)  # Ours dies later too.
    with pytest.raises(Killed):
        await archive(Overtaken.from_pool(redis.connection_pool), store)
    assert store.writes == 2
    assert ids(sorted((await interactions_read(redis, archive_in(tmp_path)))[0], key=lambda one: one.id)) == ids(
        records
    )
    await archive(redis, store_in(tmp_path))
    assert len((await interactions_read(redis, archive_in(tmp_path)))[0]) == 3


async def test_what_is_too_slow_for_the_journal_is_redacted_before_the_archive(redis: Redis, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Write to ada@example.org."}]
    record = interaction(messages=messages)
    flag = msgspec.structs.replace(thumb(record.id), kind="flag", value="a@b.org", comment="ask ada@example.org")
    await send(redis, record, flag, plain := interaction())
    log = {"redact_archive": ["email"]}
    await archive(redis, store_in(tmp_path), treat=redaction(parse({"log": log})))
    archived = archive_in(tmp_path)
    first, second = (await interactions_read(redis, archived))[0]
    assert first.messages == [{"role": "user", "content": "Write to [EMAIL]."}]
    assert second == plain
    (vote,) = await streams.votes_of(redis, SHARD, record.id, archived)
    assert (vote.vote_key, vote.comment) == (flag.vote_key, "ask [EMAIL]")
    assert not await redis.exists(votes_key(SHARD, record.id))


class Restarting(Redis):
    """Whenever it is asked, it has just been started."""

    starts = 0

    async def info(self, *arguments: Any, **options: Any) -> Any:
        self.starts += 1
        return {"run_id": f"run {self.starts}"}


async def test_what_was_read_while_redis_restarted_is_taken_for_neither_run(redis: Redis, tmp_path: Path) -> None:
    records = [interaction()]
    await send(redis, *records)
    with pytest.raises(RedisError, match="restarted"):
        await archive(Restarting.from_pool(redis.connection_pool), store_in(tmp_path))
    assert not await redis.exists(archived_key(SHARD))
    await archive(redis, store_in(tmp_path))
    assert await interactions_read(redis, archive_in(tmp_path)) == (records, 0)
