"""Erasing in place: every offset, mark and count of a segment stays what it was."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.log.frames import FILE_HEADER, Entry, Kind, blanked, frame, parse, stretches
from gateway.log.journal import Journal
from gateway.log.segment import Mark

RECORDS = st.lists(
    st.tuples(st.sampled_from([Kind.INTERACTION, Kind.FEEDBACK, Kind.SHADOW]), st.binary(max_size=60), st.booleans()),
    max_size=8,
)


def opened(folder: Path, segment_bytes: int = 1_000_000) -> Journal:
    return Journal(folder, segment_bytes=segment_bytes, keep_bytes=None, clock=time.time)


def doomed(entry: Entry) -> bool:
    return entry.payload.startswith(b"doomed")


def erase(journal: Journal, revision: int) -> int:
    return journal.erase(journal.doomed(doomed, revision), revision)


def ship(journal: Journal) -> list[bytes]:
    shipped = []
    while batch := journal.read(max_records=3, max_bytes=4096):
        shipped += [entry.payload for entry in batch.entries if entry.kind is not Kind.ERASED]
        journal.acknowledge(batch, Mark(batch.start, len(batch.entries), {"s": "1-1"}, "run"))
    return shipped


def adopt_all(journal: Journal) -> tuple[int, int]:
    found = [journal.adopt(owner) for owner in journal.orphans()]
    return sum(one.records for one in found), sum(one.torn for one in found)


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


@settings(derandomize=True)
@given(RECORDS)
def test_a_blanked_frame_keeps_its_length_and_time_and_its_neighbours(records: list[tuple[Kind, bytes, bool]]) -> None:
    data = b"".join(frame(kind, payload, 12.5) for kind, payload, _ in records)
    found = list(stretches(data, final=True))
    assert [(one.entry.kind, one.entry.payload) for one in found if one.entry] == [one[:2] for one in records]
    after = bytearray(data)
    for stretch, (_, _, erased) in zip(found, records, strict=True):
        if erased:
            after[stretch.start : stretch.end] = blanked(stretch)
    parsed = parse(bytes(after), final=True)
    assert (len(parsed.entries), parsed.consumed, parsed.torn) == (len(records), len(data), 0)
    for entry, (kind, payload, erased) in zip(parsed.entries, records, strict=True):
        assert entry == Entry(Kind.ERASED, bytes(len(payload)), 12.5) if erased else Entry(kind, payload, 12.5)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 12), st.integers(60, 400))
def test_any_subset_is_erased_and_counts_and_offsets_stay(erased: list[bool], shipped: int, segment_bytes: int) -> None:
    with TemporaryDirectory() as folder:
        journal = opened(Path(folder), segment_bytes)
        payloads = [f"{'doomed' if one else 'kept'} {number}".encode() for number, one in enumerate(erased)]
        for payload in payloads:
            journal.append([Entry(Kind.INTERACTION, payload)])
        for _ in range(min(shipped, len(payloads))):
            batch = journal.read(max_records=1, max_bytes=4096)
            assert batch is not None
            journal.acknowledge(batch, Mark(batch.start, 1, {"s": "1-1"}, "run"))
        before = (journal.pending, journal.unarchived, journal.bytes, [one.shipped for one in journal.segments])
        assert erase(journal, 1) == sum(erased)
        assert erase(journal, 1) == 0
        assert (
            journal.pending,
            journal.unarchived,
            journal.bytes,
            [one.shipped for one in journal.segments],
        ) == before
        assert b"doomed" not in contents(Path(folder))
        assert ship(journal) == [payload for payload in payloads[shipped:] if payload.startswith(b"kept")]
        assert journal.pending == 0
        journal.close()


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 400), st.lists(st.sampled_from(["doomed", "kept"]), min_size=1, max_size=6))
def test_a_crash_in_the_middle_of_overwriting_leaves_either_and_the_next_start_erases_it(
    cut: int, records: Sequence[str]
) -> None:
    with TemporaryDirectory() as folder:
        dead = opened(Path(folder))
        dead.append([Entry(Kind.INTERACTION, f"{what} {number}".encode()) for number, what in enumerate(records)])
        path = dead.segments[0].path
        before = path.read_bytes()
        erase(dead, 1)
        after = path.read_bytes()
        dead.close()
        assert len(before) == len(after)
        path.write_bytes(after[:cut] + before[cut:])
        journal = opened(Path(folder))
        found, torn = adopt_all(journal)
        # Of the record that was being overwritten, either the old or the new is there, or none.
        assert found + torn == len(records)
        assert torn <= 1
        erase(journal, 1)
        assert b"doomed" not in contents(Path(folder))
        kept = [f"{what} {number}".encode() for number, what in enumerate(records) if what == "kept"]
        assert ship(journal) == kept
        journal.close()


def test_damage_is_blanked_since_it_may_hold_a_part_of_a_record(tmp_path: Path) -> None:
    dead = opened(tmp_path)
    dead.append([Entry(Kind.INTERACTION, b"kept"), Entry(Kind.INTERACTION, b"doomed and torn")])
    path = dead.segments[0].path
    dead.close()
    os.truncate(path, path.stat().st_size - 3)
    journal = opened(tmp_path)
    assert adopt_all(journal) == (1, 1)
    assert erase(journal, 1) == 0
    assert b"doomed" not in contents(tmp_path)
    assert ship(journal) == [b"kept"]


def test_a_record_larger_than_a_window_is_found_and_erased(tmp_path: Path) -> None:
    journal = opened(tmp_path, 10_000_000)
    journal.append([Entry(Kind.INTERACTION, b"kept"), Entry(Kind.INTERACTION, b"doomed" + b"x" * 3_000_000)])
    journal.append([Entry(Kind.INTERACTION, b"doomed, small"), Entry(Kind.INTERACTION, b"kept too")])
    assert erase(journal, 1) == 2
    assert b"doomed" not in contents(tmp_path)
    assert ship(journal) == [b"kept", b"kept too"]


def test_segments_are_searched_once_for_a_revision_and_new_ones_not_at_all(tmp_path: Path) -> None:
    journal = opened(tmp_path, 100)
    journal.append([Entry(Kind.INTERACTION, b"x" * 100)])
    journal.append([Entry(Kind.INTERACTION, b"y")])
    assert len(journal.doomed(doomed, 1)) == 2
    erase(journal, 1)
    journal.append([Entry(Kind.INTERACTION, b"z" * 100)])
    journal.append([Entry(Kind.INTERACTION, b"judged when it was written")])
    assert journal.doomed(doomed, 1) == []
    assert len(journal.doomed(doomed, 2)) == len(journal.segments) == 3
    journal.search_again()
    assert len(journal.doomed(doomed, 1)) == 3


def test_what_was_erased_is_counted_when_a_lost_redis_is_shipped_to_again(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append([Entry(Kind.INTERACTION, payload) for payload in (b"doomed 1", b"kept", b"doomed 2")])
    assert ship(journal) == [b"doomed 1", b"kept", b"doomed 2"]
    erase(journal, 1)
    assert journal.rewind(journal.segments[0], len(FILE_HEADER)) == 3
    assert ship(journal) == [b"kept"]
    assert (journal.pending, journal.unarchived) == (0, 3)
