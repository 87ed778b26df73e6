import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gateway.log.frames import FILE_HEADER, Entry, Kind
from gateway.log.journal import Journal, Vanished
from gateway.log.segment import Mark


def opened(folder: Path, segment_bytes: int = 1_000_000, keep_bytes: int = 1_000_000) -> Journal:
    return Journal(folder, segment_bytes=segment_bytes, keep_bytes=keep_bytes, clock=lambda: 100.0)


def entries(*payloads: bytes) -> list[Entry]:
    return [Entry(Kind.INTERACTION, payload) for payload in payloads]


def ship_all(journal: Journal) -> list[bytes]:
    shipped = []
    while batch := journal.read(max_records=100, max_bytes=4096):
        shipped += [entry.payload for entry in batch.entries]
        journal.acknowledge(batch, Mark(batch.start, len(batch.entries), {"s": "1-1"}, "run"))
    return shipped


def adopt_all(journal: Journal) -> tuple[int, int]:
    found = [journal.adopt(owner) for owner in journal.orphans()]
    return sum(one.records for one in found), sum(one.torn for one in found)


def test_records_come_back_in_order_across_segments(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=4096)
    written = [f"record {number}".encode() * 20 for number in range(200)]
    for payload in written:
        journal.append(entries(payload))
    assert len(journal.segments) > 3
    assert journal.pending == 200
    assert ship_all(journal) == written
    assert journal.pending == 0


def test_a_record_larger_than_a_batch_is_read_whole(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(entries(b"x" * 100_000, b"y"))
    assert ship_all(journal) == [b"x" * 100_000, b"y"]


def test_shipped_segments_go_oldest_first_and_unshipped_ones_stay(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=4096, keep_bytes=10_000)
    for _ in range(10):
        journal.append(entries(b"x" * 4096))
    assert len(journal.segments) == 10
    names = [segment.path.name for segment in journal.segments]
    ship_all(journal)
    assert [segment.path.name for segment in journal.segments] == names[-2:]
    assert sorted(path.name for path in tmp_path.glob("*.seg")) == names[-2:]


def test_the_next_start_ships_what_a_closed_journal_left_and_nothing_twice(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.append(entries(b"a", b"b", b"c"))
    batch = first.read(max_records=1, max_bytes=4096)
    assert batch is not None
    first.acknowledge(batch, Mark(batch.start, len(batch.entries), {"s": "1-1"}, "run"))
    first.close()
    second = opened(tmp_path)
    second.open()
    assert adopt_all(second) == (2, 0)
    assert ship_all(second) == [b"b", b"c"]
    second.close()
    third = opened(tmp_path)
    assert adopt_all(third) == (0, 0)
    assert ship_all(third) == []


def test_a_live_process_keeps_its_segments_and_only_one_adopts_a_dead_ones(tmp_path: Path) -> None:
    dead = opened(tmp_path)
    dead.append(entries(b"left behind"))
    dead.close()
    one, other = opened(tmp_path), opened(tmp_path)
    one.append(entries(b"mine"))
    other.open()
    assert adopt_all(one) == (1, 0)
    assert adopt_all(other) == (0, 0)
    assert other.read(max_records=10, max_bytes=4096) is None
    assert ship_all(one) == [b"left behind", b"mine"]


@pytest.mark.parametrize("cut", [1, 5, 20, 24])
def test_a_torn_tail_is_passed_over_and_counted(tmp_path: Path, cut: int) -> None:
    dead = opened(tmp_path)
    dead.append(entries(b"whole", b"torn"))
    path = dead.segments[0].path
    dead.close()
    os.truncate(path, path.stat().st_size - cut)
    journal = opened(tmp_path)
    assert adopt_all(journal) == (1, 1)
    assert ship_all(journal) == [b"whole"]
    assert journal.pending == 0


def test_an_unfinished_file_header_is_an_empty_segment(tmp_path: Path) -> None:
    dead = opened(tmp_path)
    dead.append(entries(b"x"))
    path = dead.segments[0].path
    dead.close()
    os.truncate(path, 3)
    journal = opened(tmp_path)
    assert adopt_all(journal)[0] == 0
    assert ship_all(journal) == []


def test_a_segment_of_another_version_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dead = opened(tmp_path)
    dead.append(entries(b"x"))
    path = dead.segments[0].path
    dead.close()
    path.write_bytes(FILE_HEADER[:-1] + b"\x09" + path.read_bytes()[8:])
    journal = opened(tmp_path)
    assert adopt_all(journal) == (0, 0)
    assert journal.orphans() == []
    assert path.exists()
    assert caplog.text.count("left alone") == 1


def test_a_damaged_position_ships_again_rather_than_skipping(tmp_path: Path) -> None:
    dead = opened(tmp_path)
    dead.append(entries(b"a", b"b"))
    ship_all(dead)
    position = dead.segments[0].position_path
    dead.close()
    position.write_bytes(b"\x00" * 256)
    journal = opened(tmp_path)
    assert adopt_all(journal) == (2, 0)


def test_a_killed_writer_leaves_all_it_had_written(tmp_path: Path) -> None:
    script = f"""
        import os, signal, time
        from pathlib import Path
        from gateway.log.frames import Entry, Kind
        from gateway.log.journal import Journal, Vanished
        journal = Journal(Path({str(tmp_path)!r}), segment_bytes=1_000_000, keep_bytes=0, clock=time.time)
        journal.append([Entry(Kind.FEEDBACK, b"%d" % number) for number in range(500)])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False).returncode == -9
    journal = opened(tmp_path)
    assert adopt_all(journal) == (500, 0)
    assert ship_all(journal) == [b"%d" % number for number in range(500)]


def test_a_failed_write_leaves_no_half_frame_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(tmp_path)
    journal.append(entries(b"before"))
    real = os.pwrite
    calls = []

    def failing(descriptor: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) == 1:
            return real(descriptor, bytes(data)[:10], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", failing)
    with pytest.raises(OSError, match="No space"):
        journal.append(entries(b"refused" * 10))
    monkeypatch.undo()
    journal.append(entries(b"after"))
    assert ship_all(journal) == [b"before", b"after"]


def test_a_rewound_segment_is_shipped_again_from_there(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(entries(b"a", b"b", b"c"))
    starts = []
    while batch := journal.read(max_records=1, max_bytes=4096):
        starts.append(batch.start)
        journal.acknowledge(batch, Mark(batch.start, len(batch.entries), {"s": f"{batch.start}-0"}, "run"))
    assert journal.rewind(journal.segments[0], starts[1]) == 2
    assert ship_all(journal) == [b"b", b"c"]
    assert journal.rewind(journal.segments[0], starts[0]) == 3


def test_deleted_files_are_noticed_and_writing_goes_on(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal")
    journal.append(entries(b"a", b"b"))
    for path in (tmp_path / "journal").iterdir():
        path.unlink()
    (tmp_path / "journal").rmdir()
    with pytest.raises(FileNotFoundError):
        journal.read(max_records=1, max_bytes=4096)
    assert journal.forget_vanished() == Vanished(unshipped=2, unarchived=2)
    journal.append(entries(b"c"))
    assert ship_all(journal) == [b"c"]


def test_a_batch_of_which_all_was_erased_waits_for_no_archive(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=1_000_000, keep_bytes=None, clock=lambda: 100.0)
    journal.append(entries(b"a"))
    batch = journal.read(max_records=10, max_bytes=4096)
    assert batch is not None
    journal.acknowledge(batch, Mark(batch.start, 1, {}, "run"))
    assert (journal.archived, journal.unarchived, journal.bytes) == (1, 0, 0)
