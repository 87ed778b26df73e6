"""Frames: how a record lies in a journal file, and how damage is survived.

A segment file is `FILE_HEADER` (8 bytes: a name, and the version of the schema of all records in it; a change of the
frames themselves is a new version too) followed by frames. All numbers are little-endian:

    magic    4 bytes  ff 52 45 43; 0xff never occurs in UTF-8, so text cannot imitate it; compressed it might
    kind     u8       1 interaction, 2 feedback, 3 shadow scores, 4 erased: what was any of them, blanked in place
    time     f64      when the record was journaled, seconds since 1970
    length   u32      bytes of payload
    crc      u32      CRC-32 of kind, time, length and payload
    payload           the record as compact JSON, compressed where it is large

A process killed in the middle of a write leaves a torn frame at the end; a machine that loses power may leave holes.
`parse` passes over whatever is not a frame to the next one that is, and counts each such stretch once.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from enum import IntEnum

import msgspec

from gateway.log.records import SCHEMA_VERSION

_FILE_NAME = b"BESTLOG"
FILE_HEADER = _FILE_NAME + bytes([SCHEMA_VERSION])
MAGIC = b"\xffREC"
_HEADER = struct.Struct("<4sBdII")
_CHECKED = struct.Struct("<BdI")


class Kind(IntEnum):
    """ERASED is a record that was, of no kind any more: it takes its place in the journal, and becomes no entry."""

    INTERACTION = 1
    FEEDBACK = 2
    SHADOW = 3
    ERASED = 4


_KINDS = frozenset(Kind)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One encoded record, compressed or not (`records.plain`). `time` is when it was journaled, in seconds since 1970.

    version: of the schema that it was written by.
    """

    kind: Kind
    payload: bytes
    time: float = 0.0
    version: int = SCHEMA_VERSION


class Stretch(msgspec.Struct, frozen=True, gc=False):
    """Bytes from `start` up to `end`: a whole frame, or damage, which has no entry."""

    start: int
    end: int
    entry: Entry | None


class Parsed(msgspec.Struct, frozen=True):
    """What a stretch of a segment holds: whole entries, the bytes they (and damage) took, damaged stretches."""

    entries: list[Entry]
    consumed: int
    torn: int


def frame(kind: Kind, payload: bytes, time: float) -> bytes:
    """The bytes of one record in the journal."""
    return _head(kind, payload, time) + payload


def frames(entries: Iterable[Entry], time: float) -> bytes:
    """The bytes of all of them, each payload copied once."""
    return b"".join([part for one in entries for part in (_head(one.kind, one.payload, time), one.payload)])


def version_of(header: bytes) -> int | None:
    """The schema version that a segment's first bytes say; None where it is none that is read here.

    A process killed while it made the file leaves a part of the header and nothing else.
    """
    if FILE_HEADER.startswith(header):
        return SCHEMA_VERSION
    version = header[-1]
    return version if header[:-1] == _FILE_NAME and 1 <= version < SCHEMA_VERSION else None


def parse(data: bytes, *, final: bool, limit: int | None = None, version: int = SCHEMA_VERSION) -> Parsed:
    """Read up to `limit` frames from the front of `data`, whose segment's records are of `version`.

    final: `data` reaches the end of its segment, so an incomplete frame at the end is damage; otherwise it is left
    for a longer read.
    """
    entries: list[Entry] = []
    consumed = torn = 0
    if limit == 0:
        return Parsed(entries, consumed, torn)
    for stretch in stretches(data, final=final, version=version):
        consumed = stretch.end
        if stretch.entry is None:
            torn += 1
            continue
        entries.append(stretch.entry)
        if len(entries) == limit:
            break
    return Parsed(entries, consumed, torn)


def stretches(data: bytes, *, final: bool, version: int = SCHEMA_VERSION) -> Iterator[Stretch]:
    """What `data` consists of, from its front, each stretch behind the one before; see `parse`."""
    begun = position = 0
    while position < len(data):
        entry, size = _at(data, position, version)
        if entry is not None:
            if begun < position:
                yield Stretch(begun, position, None)
            begun = position + size
            yield Stretch(position, begun, entry)
            position = begun
            continue
        if size and not final:
            break
        following = data.find(MAGIC, position + 1)
        position = following if following >= 0 else len(data)
    if begun < position:
        yield Stretch(begun, position, None)


def blanked(stretch: Stretch) -> bytes:
    """What is written over a stretch to erase it: a frame of the same length and time, and nothing over damage."""
    if stretch.entry is None:
        return bytes(stretch.end - stretch.start)
    return frame(Kind.ERASED, bytes(len(stretch.entry.payload)), stretch.entry.time)


def _at(data: bytes, position: int, version: int) -> tuple[Entry | None, int]:
    """The frame at `position` and its size; (None, 1) where more bytes could complete it, (None, 0) for damage."""
    if len(data) - position < _HEADER.size:
        return None, int(MAGIC.startswith(data[position : position + 4]))
    magic, kind, time, length, crc = _HEADER.unpack_from(data, position)
    if magic != MAGIC or kind not in _KINDS:
        return None, 0
    start = position + _HEADER.size
    if start + length > len(data):
        return None, 1
    payload = data[start : start + length]
    if _checksum(kind, time, payload) != crc:
        return None, 0
    return Entry(Kind(kind), payload, time, version), _HEADER.size + length


def _head(kind: Kind, payload: bytes, time: float) -> bytes:
    return _HEADER.pack(MAGIC, kind, time, len(payload), _checksum(kind, time, payload))


def _checksum(kind: int, time: float, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(kind, time, len(payload))))
