"""A segment: one journal file, and how much of it Redis has acknowledged.

Beside `<name>.seg` lies `<name>.seg.shipped`: the offset up to which records were acknowledged and the last stream
entry they became. It is one short block written in place, after the acknowledgement, so a crash between the two
ships a batch twice and never skips one.
"""

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from gateway.log.frames import FILE_HEADER, Parsed, parse

POSITION_BYTES = 256
MARKS_KEPT = 1024


class Mark(msgspec.Struct, frozen=True):
    """The records from `start` on became, as their last, this entry of this stream.

    If Redis loses that entry (a crash before its fsync, a failover), the records from `start` are shipped again.
    """

    start: int
    stream: str
    entry: str


class Position(msgspec.Struct, frozen=True):
    """The content of a `.shipped` file."""

    offset: int
    stream: str = ""
    entry: str = ""


@dataclass(eq=False)
class Segment:
    """size: bytes written whole. shipped: offset of the first unacknowledged byte. pending: records from there on."""

    path: Path
    size: int = len(FILE_HEADER)
    shipped: int = len(FILE_HEADER)
    pending: int = 0
    closed: bool = False
    marks: deque[Mark] = field(default_factory=lambda: deque(maxlen=MARKS_KEPT))

    @property
    def position_path(self) -> Path:
        return self.path.with_name(self.path.name + ".shipped")

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
                parsed = parse(data, final=final, limit=limit)
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

    def save_position(self) -> None:
        """Write how far it is shipped. Raises OSError."""
        last = self.marks[-1] if self.marks else Mark(0, "", "")
        block = msgspec.json.encode(Position(self.shipped, last.stream, last.entry)).ljust(POSITION_BYTES - 1) + b"\n"
        descriptor = os.open(self.position_path, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.pwrite(descriptor, block, 0)
        finally:
            os.close(descriptor)

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        self.position_path.unlink(missing_ok=True)


def load(path: Path) -> Segment | None:
    """A segment that another process left; None where the file is of no version we read. Raises OSError.

    `pending` is not known yet: see `Segment.count`.
    """
    with path.open("rb") as file:
        header = file.read(len(FILE_HEADER))
    # A process killed while it made the file leaves a part of the header and nothing else.
    if not FILE_HEADER.startswith(header):
        return None
    start = len(FILE_HEADER)
    segment = Segment(path, size=max(path.stat().st_size, start), closed=True)
    try:
        position = msgspec.json.decode(segment.position_path.read_bytes(), type=Position)
    except (FileNotFoundError, msgspec.DecodeError):
        return segment  # Not shipped as far as we can tell; shipping twice is harmless.
    segment.shipped = min(max(position.offset, start), segment.size)
    if position.entry and segment.shipped > start:
        segment.marks.append(Mark(start, position.stream, position.entry))
    return segment
