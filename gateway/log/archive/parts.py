"""Parts: the archive's files, by kind and day. Pure.

The day is that of the interaction (UTC; its id, a UUIDv7, tells it), for feedback and shadow scores too: all that was
ever said of an answer is found in one partition, however late it came. A part's name is a function of what it holds, so
writing the same again after a crash overwrites it.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime

import msgspec

from gateway.ids import unix_seconds
from gateway.log.frames import Kind
from gateway.log.keys import STREAM_NAMES
from gateway.log.records import plain
from gateway.log.watermarks import entry_order

_NAME = re.compile(
    r"kind=(?P<kind>[a-z]+)/date=(?P<date>\d{4}-\d\d-\d\d)/"
    r"part-(?P<first>\d+-\d+)-(?P<last>\d+-\d+)-[0-9a-f]{16}\.parquet"
)
_KINDS = {name: kind for kind, name in STREAM_NAMES.items()}


class Row(msgspec.Struct, frozen=True, gc=False):
    """A stream's entry: its id, its fields v, and d as plain JSON. version: 0 where it was no number."""

    entry: str
    version: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """One file. name: relative to the archive. first, last: the entries between which all of its rows are."""

    name: str
    kind: Kind
    date: date
    first: str
    last: str
    size: int


class _About(msgspec.Struct):
    """What every kind's record says of whom it is about."""

    id: str = ""
    interaction: str | None = None


def parse_name(name: str, size: int) -> Part | None:
    """None for whatever else lies there."""
    match = _NAME.fullmatch(name)
    if match is None or match["kind"] not in _KINDS:
        return None
    try:
        day = date.fromisoformat(match["date"])
    except ValueError:
        return None
    return Part(name, _KINDS[match["kind"]], day, match["first"], match["last"], size)


def partition(kind: Kind, day: date | None = None) -> str:
    """The folder of a kind, or of one of its days."""
    return f"kind={STREAM_NAMES[kind]}/" + (f"date={day.isoformat()}/" if day else "")


class Naming:
    """A part's name, from its rows as they are added: at least one, in the order of their entries."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._first = self._last = ""

    def add(self, row: Row) -> None:
        self._first, self._last = self._first or row.entry, row.entry
        self._digest.update(f"{row.entry} {row.version} {len(row.data)} ".encode())
        self._digest.update(row.data)

    def name(self, kind: Kind, day: date) -> str:
        digest = self._digest.hexdigest()[:16]
        return f"{partition(kind, day)}part-{self._first}-{self._last}-{digest}.parquet"


def part_name(kind: Kind, day: date, rows: Sequence[Row]) -> str:
    """The name of a part with these rows."""
    naming = Naming()
    for row in rows:
        naming.add(row)
    return naming.name(kind, day)


def by_day(rows: Iterable[Row]) -> dict[date, list[Row]]:
    """Rows by the day of the interaction that they are about; what cannot be read, by when Redis got it."""
    found: dict[date, list[Row]] = {}
    for row in rows:
        found.setdefault(_day_of(row), []).append(row)
    return found


def day_of_id(identifier: str) -> date:
    """Raises ValueError where it is no id."""
    return datetime.fromtimestamp(unix_seconds(identifier), UTC).date()


def row_of(entry: str, fields: dict[bytes, bytes]) -> Row:
    """An entry as Redis gave it, whatever is in it."""
    version, data = fields.get(b"v", b""), fields.get(b"d")
    if data is None:  # Nobody's record; kept, and passed over by whoever reads.
        return Row(entry, 0, msgspec.json.encode({repr(key): repr(value) for key, value in fields.items()}))
    with suppress(ValueError):  # Damaged: kept as it is, and passed over.
        data = plain(data)
    return Row(entry, int(version) if version.isdigit() and len(version) < 10 else 0, data)


def overlapping(parts: Iterable[Part]) -> list[list[Part]]:
    """In the order of their entries: groups of parts, each group wholly behind the one before it."""
    ordered = sorted(parts, key=lambda part: entry_order(part.first))
    reached = (0, 0)
    groups: list[list[Part]] = []
    for part in ordered:
        if not groups or entry_order(part.first) > reached:
            groups.append([])
        groups[-1].append(part)
        reached = max(reached, entry_order(part.last))
    return groups


def _day_of(row: Row) -> date:
    try:
        about = msgspec.json.decode(row.data, type=_About)
        return day_of_id(about.interaction or about.id)
    except (msgspec.DecodeError, ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(min(entry_order(row.entry)[0] / 1000, 253_402_300_799), UTC).date()
