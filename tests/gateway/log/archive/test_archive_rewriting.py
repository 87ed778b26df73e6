"""Rows leave the archive for good, and whoever reads meanwhile sees all that stays, once."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO

import pyarrow.parquet as pq
import pytest
from redis.asyncio import Redis

from gateway.ids import new_uuid7, unix_seconds
from gateway.log import streams
from gateway.log.archive.listing import listed
from gateway.log.archive.parts import Row, partition
from gateway.log.archive.reader import Archive
from gateway.log.archive.rewriting import Rewritten, rewrite
from gateway.log.archive.store import LocalStore, Store, open_store
from gateway.log.frames import Kind
from gateway.log.records import Interaction, Record, decode_interaction
from tests.gateway.log.archive.archiving import Killed, archive, ids, send
from tests.gateway.log.log_samples import SHARD, interaction, thumb


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "archive") if request.param == "folder" else f"memory://bestow-{new_uuid7()}/a")


def day_of(record: Interaction) -> date:
    return datetime.fromtimestamp(unix_seconds(record.id), UTC).date()


def model_is_not(name: str) -> Callable[[Row], bool]:
    return lambda row: decode_interaction(row.data, row.version).model != name


async def in_parts(redis: Redis, store: Store, *parts: list[Interaction]) -> list[Interaction]:
    """Each list in a file of its own."""
    for records in parts:
        await send(redis, *records)
        await archive(redis, store)
    return [record for records in parts for record in records]


def some(count: int, **changes: object) -> list[Interaction]:
    return [interaction(**changes) for _ in range(count)]


def names(store: Store) -> list[str]:
    return sorted(name for name, _ in store.list(partition(Kind.INTERACTION)))


def archived(store: Store) -> list[str]:
    """Records' ids, each once."""
    rows = Archive(lambda: store).rows(Kind.INTERACTION)
    return list(dict.fromkeys(decode_interaction(row.data, row.version).id for row in rows))


def test_a_deleted_file_is_gone_and_a_missing_one_no_error(store: Store) -> None:
    store.write("kind=feedback/date=2027-01-01/a", b"x")
    store.write("kind=feedback/date=2027-01-01/b", b"y")
    for _ in range(2):
        store.delete("kind=feedback/date=2027-01-01/a")
    store.delete("no/such/folder/at/all")
    assert store.list("kind=feedback/") == [("kind=feedback/date=2027-01-01/b", 1)]
    store.sweep("kind=shadow/date=2027-01-01/")
    store.sweep("kind=feedback/date=2027-01-01/")
    assert store.list("kind=feedback/") == [("kind=feedback/date=2027-01-01/b", 1)]


@pytest.mark.usefixtures("redis_server")
async def test_refused_rows_go_and_parts_without_any_stay_as_they_are(redis: Redis, store: Store) -> None:
    mixed = [*some(5), *some(3, model="gone"), *some(2)]
    kept = await in_parts(redis, store, some(4), mixed, some(3, model="gone"))
    kept = [record for record in kept if record.model != "gone"]
    before = listed(store, Kind.INTERACTION)
    done = rewrite(store, Kind.INTERACTION, day_of(kept[0]), model_is_not("gone"))
    assert done == Rewritten(kept=11, removed=6, parts=2)
    assert archived(store) == ids(kept)
    after = listed(store, Kind.INTERACTION)
    assert [part in before for part in after] == [True, False]
    assert (after[1].first, after[1].last) == (before[1].first, before[1].last)
    assert rewrite(store, Kind.INTERACTION, day_of(kept[0]), model_is_not("gone")) == Rewritten(11, 0, 0)
    assert listed(store, Kind.INTERACTION) == after


@pytest.mark.usefixtures("redis_server")
async def test_of_what_is_removed_no_file_holds_a_trace(redis: Redis, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "archive")
    # Where it is the least or the greatest of its group, statistics name it.
    hidden = [interaction(user=user, tenant=user) for user in ("aaaa-secret", "mmmm-secret", "zzzz-secret")]
    shown = some(600, user="hhhh", tenant="hhhh")
    await in_parts(redis, store, [hidden[0], *shown[:300], hidden[1], *shown[300:], hidden[2]])
    (path,) = (tmp_path / "archive").rglob("*.parquet")
    (path.parent / f".{path.name}.killed").write_bytes(b"secret")
    assert b"aaaa-secret" in path.read_bytes()
    rewrite(store, Kind.INTERACTION, day_of(shown[0]), lambda row: b"-secret" not in row.data)
    files = [path for path in (tmp_path / "archive").rglob("*") if path.is_file()]
    assert len(files) == 2  # The part, and the generation.
    text = b"".join(path.name.encode() + path.read_bytes() for path in files)
    gone = [word for record in hidden for word in (record.id, record.user or "")]
    assert not [word for word in gone if word.encode() in text]
    (path,) = (tmp_path / "archive").rglob("*.parquet")
    rows = pq.read_table(path).to_pylist()
    assert len(rows) == 600
    assert not [word for word in gone if word in repr(rows)]


class Stopping:
    """A store whose process is killed at one of its changes, before or after that was done."""

    def __init__(self, store: Store, at: int, after: bool) -> None:
        self._store, self._at, self._after = store, at, after
        self.changes = 0

    def _change(self, change: Callable[[], None]) -> None:
        self.changes += 1
        if self.changes == self._at and not self._after:
            raise Killed
        change()
        if self.changes == self._at:
            raise Killed

    def write(self, name: str, data: bytes) -> None:
        self._change(lambda: self._store.write(name, data))

    def delete(self, name: str) -> None:
        self._change(lambda: self._store.delete(name))

    def list(self, folder: str) -> list[tuple[str, int]]:
        return self._store.list(folder)

    def open(self, name: str) -> BinaryIO:
        return self._store.open(name)

    def sweep(self, folder: str) -> None:
        self._store.sweep(folder)


@pytest.mark.usefixtures("redis_server")
async def test_killed_at_any_step_every_kept_row_is_in_a_file_and_the_next_call_finishes(
    redis: Redis, tmp_path: Path
) -> None:
    records = await in_parts(
        redis,
        LocalStore(tmp_path / "archive"),
        [*some(2), *some(1, model="gone")],
        some(2, model="gone"),
        [*some(1, model="gone"), *some(2)],
    )
    kept = [record for record in records if record.model != "gone"]
    contents = {name: LocalStore(tmp_path / "archive").open(name).read() for name in names_in(tmp_path / "archive")}
    ended = 0
    for at in range(1, 8):
        for after in (False, True):
            store = LocalStore(tmp_path / f"archive-{at}-{after}")
            for name, data in contents.items():
                store.write(name, data)
            stopping = Stopping(store, at, after)
            try:
                rewrite(stopping, Kind.INTERACTION, day_of(kept[0]), model_is_not("gone"))
                ended += 1
            except Killed:
                assert set(ids(kept)) <= set(archived(store)) <= set(ids(records))
            rewrite(store, Kind.INTERACTION, day_of(kept[0]), model_is_not("gone"))
            assert archived(store) == ids(kept)
            assert len(names(store)) == 2
    assert ended == 2  # Two parts written, the generation, three deleted: six changes.


def names_in(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in root.rglob("*.parquet")]


@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize("newest_first", [False, True])
async def test_a_reader_between_whose_pages_parts_are_rewritten_misses_and_doubles_nothing(
    redis: Redis, store: Store, newest_first: bool
) -> None:
    parts = [[record for _ in range(60) for record in (*some(1), *some(1, model="gone"))] for _ in range(6)]
    records = await in_parts(redis, store, *parts)
    kept = [record for record in records if record.model != "gone"]
    found = Archive(lambda: store)
    reader = streams.interactions(redis, SHARD, found)
    if newest_first:
        expected = ids(kept)
        rows = found.rows(Kind.INTERACTION, newest_first=True)
        first = [next(rows) for _ in range(170)]
        rewrite(store, Kind.INTERACTION, day_of(kept[0]), model_is_not("gone"))
        read = [decode_interaction(row.data, row.version) for row in [*first, *rows]][::-1]
    else:
        expected = ids(kept)
        read = []
        async for logged in reader.after():
            read.append(logged.record)
            if len(read) == 170:
                done = rewrite(store, Kind.INTERACTION, day_of(kept[0]), model_is_not("gone"))
                assert done.removed == 360
        assert reader.duplicates == 0
    assert [record.id for record in read if record.model != "gone"] == expected
    # What was taken out behind the reader was not read on the way.
    assert sum(record.model == "gone" for record in read) < 360


class Meddled:
    """A store in which something happens just before a file is opened for the n-th time."""

    def __init__(self, store: Store, at: int, meddle: Callable[[], object]) -> None:
        self._store, self._at, self._meddle = store, at, meddle
        self.opened = 0

    def open(self, name: str) -> BinaryIO:
        if name.endswith(".parquet"):
            self.opened += 1
            if self.opened == self._at:
                self._meddle()
        return self._store.open(name)

    def list(self, folder: str) -> list[tuple[str, int]]:
        return self._store.list(folder)

    def write(self, name: str, data: bytes) -> None:
        raise AssertionError("readers write nothing")

    def delete(self, name: str) -> None:
        raise AssertionError("readers delete nothing")

    def sweep(self, folder: str) -> None:
        raise AssertionError("readers delete nothing")


@pytest.mark.usefixtures("redis_server")
async def test_a_part_that_vanished_before_it_was_opened_has_a_successor(redis: Redis, tmp_path: Path) -> None:
    origin = LocalStore(tmp_path / "archive")
    records = await in_parts(redis, origin, *([*some(2), *some(1, model="gone")] for _ in range(4)))
    kept = [record for record in records if record.model != "gone"]
    contents = {name: origin.open(name).read() for name in names_in(tmp_path / "archive")}

    def fresh(label: str) -> LocalStore:
        store = LocalStore(tmp_path / label)
        for name, data in contents.items():
            store.write(name, data)
        return store

    for at in range(1, 5):
        for what in ("rows", "newest", "about", "total"):
            store = fresh(f"{what}-{at}")
            day = day_of(kept[0])
            meddled = Meddled(store, at, lambda: rewrite(store, Kind.INTERACTION, day, model_is_not("gone")))  # noqa: B023
            found = Archive(lambda: meddled)  # noqa: B023
            if what == "total":
                assert found.total(Kind.INTERACTION) == 8
                continue
            if what == "about":
                rows = found.about(Kind.INTERACTION, ids(records))
            else:
                rows = list(found.rows(Kind.INTERACTION, newest_first=what == "newest"))
            read = [decode_interaction(row.data, row.version) for row in rows]
            read = [record for record in (read[::-1] if what == "newest" else read) if record.model != "gone"]
            assert ids(read) == ids(kept)
            assert meddled.opened > at


class Scattered(Meddled):
    """Its first listing is as slow as can be: it sees what was there when it began and still is when it ends."""

    slow = True

    def list(self, folder: str) -> list[tuple[str, int]]:
        before = super().list(folder)
        if not self.slow:
            return before
        self.slow = False
        self._meddle()
        return [found for found in super().list(folder) if found in before]


@pytest.mark.usefixtures("redis_server")
async def test_a_listing_that_saw_neither_a_part_nor_its_successor_is_made_again(redis: Redis, store: Store) -> None:
    kept = await in_parts(redis, store, some(3))
    await in_parts(redis, store, gone := [*some(2), *some(1, model="gone")])
    slow = Scattered(store, 0, lambda: rewrite(store, Kind.INTERACTION, day_of(kept[0]), model_is_not("gone")))
    rows = Archive(lambda: slow).rows(Kind.INTERACTION)
    assert [decode_interaction(row.data, row.version).id for row in rows] == ids([*kept, *gone[:2]])


@pytest.mark.usefixtures("redis_server")
async def test_a_part_that_is_listed_and_cannot_be_opened_is_an_error(redis: Redis, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "archive")
    await in_parts(redis, store, some(1))
    (path,) = (tmp_path / "archive").rglob("*.parquet")
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "nowhere")

    class Dangling(Meddled):
        def list(self, folder: str) -> list[tuple[str, int]]:
            return [(path.relative_to(tmp_path / "archive").as_posix(), 1)]

    with pytest.raises(OSError, match="cannot be opened"):
        list(Archive(lambda: Dangling(store, 0, lambda: None)).rows(Kind.INTERACTION))


@pytest.mark.usefixtures("redis_server")
async def test_readers_and_rewriting_at_once(redis: Redis, tmp_path: Path) -> None:
    """Threads, as they are: readers of everything and of one answer, while rows are taken out one by one."""
    store = LocalStore(tmp_path / "archive")
    doomed = some(40, model="gone")
    records = await in_parts(redis, store, *chunks([*doomed, *some(40)], 10))
    votes = [thumb(record.id) for record in records]
    await send(redis, *votes)
    await archive(redis, store)
    kept = [record for record in records if record.model != "gone"]

    def take_out() -> None:
        for one in doomed:
            for kind in (Kind.FEEDBACK, Kind.INTERACTION):
                rewrite(store, kind, day_of(one), lambda row, one=one: one.id.encode() not in row.data)  # type: ignore[misc]

    ending = asyncio.create_task(asyncio.to_thread(take_out))
    rounds = 0
    while not ending.done():
        found = Archive(lambda: store)
        reader = streams.interactions(redis, SHARD, found)
        read: list[Record] = [logged.record async for logged in reader.after()]
        assert [one for one in ids(read) if one in set(ids(kept))] == ids(kept)
        told = await streams.votes_of_all(redis, SHARD, ids(kept), found)
        assert told == [[vote] for vote in votes if vote.interaction in set(ids(kept))]
        rounds += 1
    await ending
    assert rounds > 0
    assert archived(store) == ids(kept)


def chunks(records: list[Interaction], size: int) -> Iterator[list[Interaction]]:
    return (records[start : start + size] for start in range(0, len(records), size))
