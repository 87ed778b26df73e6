"""The archive, read. Synchronous but for `in_thread`: an archive may be far away.

At least once, as everywhere in the log: the same record may be in it twice, and whoever reads de-duplicates by its id.
Raises OSError where files cannot be read.
"""

import asyncio
import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import date
from functools import cached_property
from typing import Any, BinaryIO, TypeVar

from gateway.log.archive import audit_files
from gateway.log.archive.listing import settled
from gateway.log.archive.parts import Part, Row, day_of_id, overlapping
from gateway.log.archive.store import Store
from gateway.log.frames import Kind
from gateway.log.watermarks import entry_order

T = TypeVar("T")

# Which days of an archive to read.
Days = Callable[[date], bool]

_THREADS = 2


def every_day(_: date) -> bool:
    return True


class Replaced(Exception):
    """A part was deleted between listing and reading it; others have what is kept of it."""

    def __init__(self, part: Part) -> None:
        super().__init__(part.name)
        self.part = part


class Archive:
    """opened: makes the store when it is first needed; what it raises is raised there (ConfigError)."""

    def __init__(self, opened: Callable[[], Store]) -> None:
        self._opened = opened
        # Its own threads: a store that hangs must not take those that others wait for.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="bestow-archive")

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run a function that reads here."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    @cached_property
    def _store(self) -> Store:
        return self._opened()

    def parts(self, kind: Kind, day: date | None = None) -> list[Part]:
        """All of a kind, or those of one day, in the order of their entries."""
        return settled(self._store, kind, day)

    def count(self, part: Part) -> int:
        """How many rows a part has."""
        with self._file(part) as file:
            return int(_parquet().count(file))

    def total(self, kind: Kind, days: Days = every_day) -> int:
        """How many rows there are of these days."""
        parts = self.parts(kind)
        while True:
            try:
                return sum(self.count(part) for part in parts if days(part.date))
            except Replaced as replaced:
                parts = self._parts_after(replaced)

    def rows(
        self,
        kind: Kind,
        *,
        after: str | None = None,
        before: str | None = None,
        newest_first: bool = False,
        days: Days = every_day,
    ) -> Iterator[Row]:
        """Rows in the order of their entries, or the other way round; those behind `after` and before `before`, about
        interactions of these days. Parts that are replaced meanwhile change nothing but that rows taken out may be
        missing already.
        """
        behind = entry_order(after) if after else (-1, 0)
        end = entry_order(before) if before else (1 << 64, 0)
        reached: list[Row] = []  # Those of the last entry.
        passed: list[Row] = []  # The same, when parts were last replaced.
        parts = self.parts(kind)
        while True:
            parts = [part for part in parts if days(part.date) and entry_order(part.last) > behind]
            parts = [part for part in parts if entry_order(part.first) < end]
            try:
                for row in self._merged(_from(parts, passed, newest_first), newest_first):
                    if not behind < entry_order(row.entry) < end or _passed(row, passed, newest_first):
                        continue
                    reached = [*reached, row] if reached and reached[0].entry == row.entry else [row]
                    yield row
                return
            except Replaced as replaced:
                parts, passed = self._parts_after(replaced), reached

    def about(self, kind: Kind, interactions: Collection[str]) -> list[Row]:
        """The rows about some interactions, of whatever days. What is no id has none."""
        days: dict[date, set[str]] = {}
        for identifier in interactions:
            try:
                days.setdefault(day_of_id(identifier), set()).add(identifier)
            except ValueError:
                continue
        return [row for day, ids in days.items() for row in self._about(kind, day, ids)]

    def audited(self) -> list[bytes]:
        """What was copied of the audit log; see `audit_files`."""
        return audit_files.lines(self._store)

    def _about(self, kind: Kind, day: date, ids: Collection[str]) -> list[Row]:
        least, most = min(ids), max(ids)
        parts = self.parts(kind, day)
        while True:
            found: list[Row] = []
            try:
                for part in parts:
                    with self._file(part) as file:
                        found += _parquet().rows_about(file, kind, ids, least, most)
                return found
            except Replaced as replaced:
                parts = self._parts_after(replaced, day)

    def _merged(self, parts: list[Part], newest_first: bool) -> Iterator[Row]:
        groups = overlapping(parts)
        for group in reversed(groups) if newest_first else groups:
            each = [self._rows(part, newest_first) for part in group]
            yield from heapq.merge(*each, key=lambda row: entry_order(row.entry), reverse=newest_first)

    def _rows(self, part: Part, newest_first: bool) -> Iterator[Row]:
        with self._file(part) as file:
            yield from _parquet().rows(file, newest_first=newest_first)

    def _parts_after(self, replaced: Replaced, day: date | None = None) -> list[Part]:
        """Raises OSError where the part is still listed, and so was not replaced."""
        parts = self.parts(replaced.part.kind, day)
        if any(part.name == replaced.part.name for part in parts):
            raise OSError(f"{replaced.part.name} is listed and cannot be opened")
        return parts

    @contextmanager
    def _file(self, part: Part) -> Iterator[BinaryIO]:
        try:
            with closing(self._store.open(part.name)) as file, _parquet().damage_named(part.name):
                yield file
        except FileNotFoundError:
            raise Replaced(part) from None


def _from(parts: list[Part], reached: Sequence[Row], newest_first: bool) -> list[Part]:
    """The parts that may have rows from the last one on."""
    if not reached:
        return parts
    last = entry_order(reached[0].entry)
    return [
        part for part in parts if (entry_order(part.first) <= last if newest_first else entry_order(part.last) >= last)
    ]


def _passed(row: Row, reached: Sequence[Row], newest_first: bool) -> bool:
    """Whether a row was given out already, going by its place: before the last ones, or one of them."""
    if not reached:
        return False
    place, last = entry_order(row.entry), entry_order(reached[0].entry)
    return row in reached if place == last else (place > last) == newest_first


def _parquet() -> Any:
    from gateway.log.archive import parquet  # noqa: PLC0415  # see the package

    return parquet
