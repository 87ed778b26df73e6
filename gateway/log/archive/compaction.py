"""Many small parts of a day become few: what is opened once is read faster, and what is said twice is stored once.

Only days that are over, as the newest one tells, and only parts that belong together: those that overlap, and such
neighbours that a merge is worth what it costs. The caller holds the ArchiverLock; for the rest see `rewriting`.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from itertools import accumulate

import msgspec

from gateway.log.archive import parquet
from gateway.log.archive.listing import listed, replace
from gateway.log.archive.parts import Naming, Part, Row, overlapping
from gateway.log.archive.store import Store
from gateway.log.frames import Kind
from gateway.log.keys import STREAM_NAMES
from gateway.log.watermarks import entry_order

TARGET_BYTES = 67_108_864
# Of files that a round reads; the next one goes on.
ROUND_BYTES = 1_073_741_824
# A merge is worth it where it at least doubles the largest part, or takes so many: rewriting a large part for each late
# vote is not.
_MANY = 8


@dataclass(frozen=True, slots=True)
class Merge:
    """Parts of one kind and day that are to become one, or some of the target's size."""

    kind: Kind
    day: date
    parts: list[Part]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True)
class Merged:
    """Parts that were read, those written in their place, and rows left out since they were there twice."""

    read: int
    written: int
    doubled: int


class _About(msgspec.Struct):
    id: str | None = None
    retracted: bool = False


def merges(store: Store, most_bytes: int | None = ROUND_BYTES, target: int = TARGET_BYTES) -> list[Merge]:
    """What is to be merged, oldest first. most_bytes: of parts, and one merge more at most; None: all there is."""
    found: list[Merge] = []
    for kind in STREAM_NAMES:
        days: dict[date, list[Part]] = {}
        for part in listed(store, kind):
            days.setdefault(part.date, []).append(part)
        found += [Merge(kind, day, group) for day in sorted(days)[:-1] for group in groups(days[day], target)]
    found.sort(key=lambda merge: merge.day)
    before = accumulate((merge.size for merge in found), initial=0)
    return [merge for merge, size in zip(found, before, strict=False) if most_bytes is None or size < most_bytes]


def groups(parts: Iterable[Part], target: int) -> list[list[Part]]:
    """Parts of one day and kind to be merged, in the order of their entries. Pure."""
    found: list[list[Part]] = []
    for together in overlapping(parts):
        if found and sum(part.size for part in [*found[-1], *together]) <= target:
            found[-1] += together
        else:
            found.append(together)
    return [group for group in found if _worth(group)]


def merge(store: Store, what: Merge, target: int = TARGET_BYTES) -> Merged:
    """Do it. A row that is there twice stays where it was first."""
    seen: set[tuple[str, bool]] = set()
    doubled = 0
    written: set[str] = set()
    part = _Growing(what.kind, what.day)
    for row in _in_order(store, what.parts):
        about = _about(row)
        if about.id is not None:
            known = (about.id, about.retracted)
            if known in seen:
                doubled += 1
                continue
            seen.add(known)
        if part.encoder.size >= target and row.entry != part.last:  # Parts of one day do not overlap.
            written.add(part.write(store))
            part = _Growing(what.kind, what.day)
        part.add(row)
    written.add(part.write(store))
    # One that was killed may have left exactly what this has written.
    replace(store, [part for part in what.parts if part.name not in written])
    return Merged(len(what.parts), len(written), doubled)


class _Growing:
    """A part that is being written."""

    def __init__(self, kind: Kind, day: date) -> None:
        self._kind, self._day = kind, day
        self._naming = Naming()
        self.encoder = parquet.Encoder(kind)
        self.last = ""

    def add(self, row: Row) -> None:
        self._naming.add(row)
        self.encoder.add(row)
        self.last = row.entry

    def write(self, store: Store) -> str:
        name = self._naming.name(self._kind, self._day)
        store.write(name, self.encoder.finish())
        return name


def _worth(group: Sequence[Part]) -> bool:
    sizes = [part.size for part in group]
    overlap = len(overlapping(group)) < len(group)
    return len(group) > 1 and (overlap or len(group) >= _MANY or 2 * max(sizes) <= sum(sizes))


def _in_order(store: Store, parts: Iterable[Part]) -> Iterator[Row]:
    for together in overlapping(parts):
        yield from heapq.merge(*(_rows(store, part) for part in together), key=lambda row: entry_order(row.entry))


def _rows(store: Store, part: Part) -> Iterator[Row]:
    with closing(store.open(part.name)) as file, parquet.damage_named(part.name):
        yield from parquet.rows(file)


def _about(row: Row) -> _About:
    try:
        return msgspec.json.decode(row.data, type=_About)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _About()
