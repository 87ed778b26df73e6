"""Many small parts of a day become few, and nothing else changes."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.archive import compaction
from gateway.log.archive.compaction import Merged, groups, merge, merges
from gateway.log.archive.listing import listed
from gateway.log.archive.parquet import encode as encode_part
from gateway.log.archive.parts import Part, Row, by_day, overlapping, part_name
from gateway.log.archive.reader import Archive
from gateway.log.archive.store import LocalStore, Store
from gateway.log.frames import Kind
from gateway.log.keys import archived_key
from gateway.log.records import SCHEMA_VERSION, Interaction, Record, encode
from gateway.log.watermarks import entry_order
from tests.gateway.log.archive.archiving import (
    Killed,
    archive,
    archive_in,
    ids,
    interactions_read,
    made,
    send,
    store_in,
)
from tests.gateway.log.archive.test_archive_rewriting import Stopping
from tests.gateway.log.log_samples import SHARD, thumb

SERVER = pytest.mark.usefixtures("redis_server")
DAY = 86_400.0
WHEN = datetime(2025, 3, 1, 12, tzinfo=UTC).timestamp()
MEBI = 1 << 20


def part(first: int, last: int, size: int) -> Part:
    return Part(f"{first}-{last}-{size}", Kind.INTERACTION, date(2025, 3, 1), f"{first}-0", f"{last}-0", size)


def in_a_row(*sizes: int) -> list[Part]:
    return [part(10 * index, 10 * index + 5, size) for index, size in enumerate(sizes)]


def write(store: Store, kind: Kind, rows: list[Row]) -> None:
    for day, its in by_day(rows).items():
        store.write(part_name(kind, day, its), encode_part(kind, its))


def row(number: int, record: Record) -> Row:
    return Row(f"{number}-0", SCHEMA_VERSION, encode(record))


def compact(store: Store, target: int = compaction.TARGET_BYTES) -> list[Merged]:
    return [merge(store, what, target) for what in merges(store, None, target)]


def read(store: Store, kind: Kind = Kind.INTERACTION) -> list[Row]:
    return list(Archive(lambda: store).rows(kind))


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9), st.integers(1, 50)), max_size=30))
def test_groups_are_whole_stretches_of_the_day_each_worth_merging(drawn: list[tuple[int, int, int]]) -> None:
    parts = [part(first, first + length, size) for first, length, size in drawn]
    found = groups(parts, 100)
    ordered = [one for group in overlapping(parts) for one in group]
    flat = [one for group in found for one in group]
    assert [one for one in ordered if one in flat] == flat
    for group in found:
        stretches = overlapping(group)
        assert all(stretch in overlapping(parts) for stretch in stretches)
        assert len(group) > 1
        assert len(stretches) == 1 or sum(one.size for one in group) <= 100
    # Of what overlaps, nothing is left as it is.
    assert all(stretch[0] in flat for stretch in overlapping(parts) if len(stretch) > 1)


def test_a_large_part_is_not_rewritten_for_each_late_vote() -> None:
    assert groups(in_a_row(50, 1, 1), 100) == []
    assert len(groups(in_a_row(50, *[1] * 7), 100)) == 1
    assert [len(group) for group in groups(in_a_row(40, 30, 20), 100)] == [3]
    # What is as large as it should be is left alone.
    assert [[one.size for one in group] for group in groups(in_a_row(100, 40, 30, 20, 100), 100)] == [[40, 30, 20]]


def test_parts_of_past_days_become_one_in_order_and_the_newest_day_waits(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    records = [made(WHEN + index) for index in range(40)]
    for index, record in enumerate(records):
        write(store, Kind.INTERACTION, [row(index, record)])
    newest = made(WHEN + DAY)
    write(store, Kind.INTERACTION, [row(100, newest)])
    write(store, Kind.INTERACTION, [row(101, newest)])
    before = read(store)
    assert compact(store) == [Merged(40, 1, 0)]
    assert [part.date.day for part in listed(store, Kind.INTERACTION)] == [1, 2, 2]
    assert read(store) == before
    assert compact(store) == []


def test_a_part_of_the_target_size_is_closed_and_the_next_begun(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    rows = [row(index, made(WHEN + index, reference=f"{index}" * 300)) for index in range(3000)]
    write(store, Kind.INTERACTION, [*rows[::2]])
    write(store, Kind.INTERACTION, [*rows[1::2]])
    write(store, Kind.INTERACTION, [row(9999, made(WHEN + DAY))])
    (merged,) = compact(store, target=20_000)
    assert merged.read == 2
    assert merged.written > 2
    parts = listed(store, Kind.INTERACTION)[:-1]
    assert [len(group) for group in overlapping(parts)] == [1] * merged.written
    assert read(store)[:-1] == rows
    assert compact(store, target=20_000) == []


def test_what_is_there_twice_stays_where_it_was_first(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    one, two = made(WHEN), made(WHEN + 1)
    damaged = Row("5-0", 1, b"{nobody can read this")
    write(store, Kind.INTERACTION, [row(1, one), row(2, two)])
    write(store, Kind.INTERACTION, [row(2, two), row(3, one), row(4, made(WHEN + 2))])
    store.write(part_name(Kind.INTERACTION, date(2025, 3, 1), [damaged]), encode_part(Kind.INTERACTION, [damaged]))
    again = Row("6-0", 1, damaged.data)
    store.write(part_name(Kind.INTERACTION, date(2025, 3, 1), [again]), encode_part(Kind.INTERACTION, [again]))
    write(store, Kind.INTERACTION, [row(9, made(WHEN + DAY))])
    assert compact(store) == [Merged(4, 1, 2)]
    assert [entry_order(found.entry)[0] for found in read(store)] == [1, 2, 4, 5, 6, 9]
    # A vote that was given and one of the same id that was taken back are two things.
    vote = thumb(one.id)
    taken_back = thumb(one.id, id=vote.id, retracted=True)
    for number, feedback in enumerate((vote, taken_back, vote, taken_back)):
        write(store, Kind.FEEDBACK, [row(number, feedback)])
    write(store, Kind.FEEDBACK, [row(50, thumb(made(WHEN + DAY).id))])
    assert compact(store) == [Merged(4, 1, 2)]
    assert [entry_order(found.entry)[0] for found in read(store, Kind.FEEDBACK)] == [0, 1, 50]


def test_killed_at_any_step_nothing_is_missing_and_the_next_merge_finishes(tmp_path: Path) -> None:
    rows = [row(index, made(WHEN + index, reference=f"{index}" * 200)) for index in range(1600)]
    last = row(9999, made(WHEN + DAY))
    whole = [found.data for found in [*rows, last]]
    finished = 0
    for at in range(1, 9):
        for after in (False, True):
            store = LocalStore(tmp_path / f"{at}-{after}")
            for start in range(4):
                write(store, Kind.INTERACTION, rows[start::4])
            write(store, Kind.INTERACTION, [last])
            (what,) = merges(store, None, 30_000)
            try:
                merge(Stopping(store, at, after), what, 30_000)
                finished += 1
            except Killed:
                pass
            assert list(dict.fromkeys(found.data for found in read(store))) == whole
            compact(store, 30_000)
            assert [found.data for found in read(store)] == whole
            parts = listed(store, Kind.INTERACTION)
            assert len(overlapping(parts)) == len(parts)
    assert 0 < finished < 8


def test_a_round_does_a_bounded_part_of_the_work_and_the_next_goes_on(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for day in range(4):
        for index in range(3):
            write(store, Kind.INTERACTION, [row(100 * day + index, made(WHEN + day * DAY + index))])
    assert [what.day.day for what in merges(store, None)] == [1, 2, 3]
    (what,) = merges(store, most_bytes=1)
    assert what.day.day == 1
    merge(store, what)
    assert [what.day.day for what in merges(store, most_bytes=1)] == [2]


@SERVER
async def test_readers_and_watermarks_do_not_notice(redis: Redis, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    records: list[Interaction] = []
    for day in (0, 1):
        for index in range(9):
            new = [made(WHEN + day * DAY + 30 * index + one) for one in range(30)]
            await send(redis, *new, *(votes := [thumb(record.id) for record in new[:2]]))
            await archive(redis, store)
            records += new
    assert votes
    watermarks = await redis.hgetall(archived_key(SHARD))
    reader = streams.interactions(redis, SHARD, archive_in(tmp_path))
    seen = []
    async for logged in reader.after():
        seen.append(logged.record.id)
        if len(seen) == 205:
            assert {merged.read for merged in compact(store)} == {9}
    assert (seen, reader.duplicates) == (ids(records), 0)
    assert await redis.hgetall(archived_key(SHARD)) == watermarks
    assert await interactions_read(redis, archive_in(tmp_path)) == (records, 0)
    told = await streams.votes_of_all(redis, SHARD, ids(records), archive_in(tmp_path))
    assert [len(votes) for votes in told[:30]] == [1, 1, *[0] * 28]
