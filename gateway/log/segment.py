"""A segment: one journal file, how much of it Redis has acknowledged, and how much the archive has.

    header | archived | shipped, not known to be archived (`marks`) | not shipped | size

Beside `<name>.seg` lies `<name>.seg.shipped` with both offsets and the stream entries that the middle part became. It
is one short block written in place, after the acknowledgement, so a crash between the two ships a batch twice and
never skips one.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from gateway.log.frames import FILE_HEADER, Parsed, Stretch, blanked, parse, stretches, version_of
from gateway.log.records import SCHEMA_VERSION
from gateway.log.watermarks import Watermarks, entry_order

POSITION_BYTES = 1024
MARKS_KEPT = 64
_WINDOW_BYTES = 1_048_576


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `records` from offset `start` on became entries of streams, up to these: stream -> its last entry's id.

    run: Redis's run id when it took them, or when they were last seen there. If Redis loses one of the entries before
    it is archived (a crash before its fsync, a failover), the records from `start` are shipped again. Streams whose
    entries are archived are left out.
    """

    start: int
    records: int
    entries: dict[str, str]
    run: str = ""

    def without_archived(self, watermarks: Watermarks) -> "Mark":
        left = {
            stream: entry for stream, entry in self.entries.items() if not watermarks.cover(self.run, stream, entry)
        }
        return self if len(left) == len(self.entries) else Mark(self.start, self.records, left, self.run)


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of a `.shipped` file. mark: of all that lies between the offsets `archived` and `offset`."""

    offset: int
    archived: int = 0
    mark: Mark | None = None


@dataclass(eq=False)
class Segment:
    """size: bytes written whole. archived, shipped: offsets, see above. pending: records that are not shipped.

    version: of the schema of its records: that of the program which wrote it.
    searched: the ledger's revision (`erase.ledger`) up to which nothing is left in it that was ordered to be erased.
    """

    path: Path
    size: int = len(FILE_HEADER)
    archived: int = len(FILE_HEADER)
    shipped: int = len(FILE_HEADER)
    pending: int = 0
    closed: bool = False
    marks: list[Mark] = field(default_factory=list)
    version: int = SCHEMA_VERSION
    searched: int = 0

    @property
    def position_path(self) -> Path:
        return self.path.with_name(self.path.name + ".shipped")

    @property
    def unarchived(self) -> int:
        """Records that are not known to be archived, unshipped ones included."""
        return self.pending + sum(mark.records for mark in self.marks)

    def add(self, mark: Mark) -> None:
        """The records behind the last mark were shipped."""
        self.marks.append(mark)
        if len(self.marks) > MARKS_KEPT:
            marks = list(self.marks)
            pairs = zip(marks[::2], marks[1::2], strict=False)
            odd = marks[-1:] if len(marks) % 2 else []
            self.marks = [*(merged(first, second) for first, second in pairs), *odd]

    def settle(self, watermarks: Watermarks) -> int:
        """Give up the marks in front whose records are archived. How many records those are."""
        marks = [mark.without_archived(watermarks) for mark in self.marks]
        known = next((i for i, mark in enumerate(marks) if mark.entries), len(marks))
        records = sum(mark.records for mark in marks[:known])
        self.marks = marks[known:]
        self.archived = self.marks[0].start if self.marks else self.shipped
        return records

    def read(self, start: int, *, max_bytes: int, limit: int | None = None, end: int | None = None) -> Parsed:
        """Entries from offset `start`: about `max_bytes`, at least one where there is one. Raises OSError.

        end: where to stop; without it, where the last whole write ended.
        """
        end = self.size if end is None else end
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            while True:
                wanted = min(max_bytes, end - start)
                data = os.pread(descriptor, wanted, start)
                final = start + len(data) >= end or len(data) < wanted
                parsed = parse(data, final=final, limit=limit, version=self.version)
                if parsed.consumed or final:
                    return parsed
                max_bytes *= 2  # One record larger than the window, or a damaged length.
        finally:
            os.close(descriptor)

    def count(self, start: int, end: int) -> tuple[int, int]:
        """Records and damaged stretches between two offsets. Raises OSError."""
        records = torn = 0
        while start < end:
            parsed = self.read(start, max_bytes=1_048_576, end=end)
            if not parsed.consumed:
                break
            start += parsed.consumed
            records += len(parsed.entries)
            torn += parsed.torn
        return records, torn

    def walk(self) -> Iterator[Stretch]:
        """All that is in it, shipped or not, by offsets in the file. Raises OSError."""
        start, window = len(FILE_HEADER), _WINDOW_BYTES
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            while start < self.size:
                data = os.pread(descriptor, min(window, self.size - start), start)
                final = not data or start + len(data) >= self.size
                consumed = 0
                for found in stretches(data, final=final, version=self.version):
                    consumed = found.end
                    yield Stretch(start + found.start, start + found.end, found.entry)
                if final:
                    return
                start += consumed
                window = _WINDOW_BYTES if consumed else window * 2
        finally:
            os.close(descriptor)

    def blank(self, found: Sequence[Stretch]) -> None:
        """Erase stretches in place, durably: every offset, mark and count stays what it is. Raises OSError."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            for stretch in found:
                data = memoryview(blanked(stretch))
                while data:
                    data = data[os.pwrite(descriptor, data, stretch.end - len(data)) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def save_position(self) -> None:
        """Write how far it is archived and shipped. Raises OSError."""
        mark = None
        for one in self.marks:
            mark = one if mark is None else merged(mark, one)
        position = Position(self.shipped, self.archived, mark)
        block = msgspec.json.encode(position).ljust(POSITION_BYTES - 1) + b"\n"
        descriptor = os.open(self.position_path, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.pwrite(descriptor, block, 0)
        finally:
            os.close(descriptor)

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        self.position_path.unlink(missing_ok=True)


def merged(first: Mark, second: Mark) -> Mark:
    """One mark for what two cover, the second behind the first.

    Where they are of different runs it is of none, so that only finding its entries in Redis proves anything.
    """
    entries = dict(first.entries)
    for stream, entry in second.entries.items():
        entries[stream] = max(entries.get(stream, entry), entry, key=entry_order)
    run = first.run if first.run == second.run else "?"
    return Mark(first.start, first.records + second.records, entries, run)


def load(path: Path) -> Segment | None:
    """A segment that another process left; None where the file is of no version we read. Raises OSError.

    `pending` is not known yet: see `Segment.count`.
    """
    with path.open("rb") as file:
        header = file.read(len(FILE_HEADER))
    version = version_of(header)
    if version is None:
        return None
    start = len(FILE_HEADER)
    segment = Segment(path, size=max(path.stat().st_size, start), closed=True, version=version)
    try:
        position = msgspec.json.decode(segment.position_path.read_bytes(), type=Position)
    except (FileNotFoundError, msgspec.DecodeError):
        return segment  # Not shipped as far as we can tell; shipping twice is harmless.
    segment.shipped = min(max(position.offset, start), segment.size)
    segment.archived = min(max(position.archived, start), segment.shipped)
    if segment.archived < segment.shipped:
        if position.mark is None:  # Written by an earlier version, which did not say: find out by shipping again.
            segment.shipped = segment.archived
        else:
            segment.marks.append(msgspec.structs.replace(position.mark, start=segment.archived))
    return segment
