"""Frames: how a record lies in a journal file, and how damage is survived.

A segment file is `FILE_HEADER` (8 bytes: a name and the format's version) followed by frames. All numbers are
little-endian:

    magic    4 bytes  ff 52 45 43; 0xff never occurs in UTF-8, so text cannot imitate it
    kind     u8       1 interaction, 2 feedback, 3 shadow scores
    time     f64      when the record was journaled, seconds since 1970
    length   u32      bytes of payload
    crc      u32      CRC-32 of kind, time, length and payload
    payload           the record as compact JSON

A process killed in the middle of a write leaves a torn frame at the end; a machine that loses power may leave holes.
`parse` passes over whatever is not a frame to the next one that is, and counts each such stretch once.
"""

import struct
import zlib
from enum import IntEnum

import msgspec

FILE_HEADER = b"BESTLOG\x01"
MAGIC = b"\xffREC"
_HEADER = struct.Struct("<4sBdII")
_CHECKED = struct.Struct("<BdI")


class Kind(IntEnum):
    INTERACTION = 1
    FEEDBACK = 2
    SHADOW = 3


_KINDS = frozenset(Kind)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One encoded record. `time` is when it was journaled, in seconds since 1970."""

    kind: Kind
    payload: bytes
    time: float = 0.0


class Parsed(msgspec.Struct, frozen=True):
    """What a stretch of a segment holds: whole entries, the bytes they (and damage) took, damaged stretches."""

    entries: list[Entry]
    consumed: int
    torn: int


def frame(kind: Kind, payload: bytes, time: float) -> bytes:
    """The bytes of one record in the journal."""
    return _HEADER.pack(MAGIC, kind, time, len(payload), _checksum(kind, time, payload)) + payload


def parse(data: bytes, *, final: bool, limit: int | None = None) -> Parsed:
    """Read up to `limit` frames from the front of `data`.

    final: `data` reaches the end of its segment, so an incomplete frame at the end is damage; otherwise it is left
    for a longer read.
    """
    entries: list[Entry] = []
    position, torn, in_damage = 0, 0, False
    while position < len(data) and (limit is None or len(entries) < limit):
        entry, size = _at(data, position)
        if entry is not None:
            entries.append(entry)
            position, in_damage = position + size, False
            continue
        if size and not final:
            break
        torn += not in_damage
        in_damage = True
        following = data.find(MAGIC, position + 1)
        position = following if following >= 0 else len(data)
    return Parsed(entries, position, torn)


def _at(data: bytes, position: int) -> tuple[Entry | None, int]:
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
    return Entry(Kind(kind), payload, time), _HEADER.size + length


def _checksum(kind: int, time: float, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(kind, time, len(payload))))
