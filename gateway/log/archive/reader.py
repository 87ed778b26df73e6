"""The archive, read. Synchronous but for `in_thread`: an archive may be far away.

At least once, as everywhere in the log: the same record may be in it twice, and whoever reads de-duplicates by its id.
Raises OSError where files cannot be read.
"""

import asyncio
import heapq
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import date
from functools import cached_property
from typing import Any, BinaryIO, TypeVar

from gateway.log.archive.parts import Part, Row, day_of_id, overlapping, parse_name, partition
from gateway.log.archive.store import Store
from gateway.log.frames import Kind
from gateway.log.watermarks import entry_order

T = TypeVar("T")

# Which days of an archive to read.
Days = Callable[[date], bool]

_THREADS = 2


def every_day(_: date) -> bool:
    return True


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
        found = [parse_name(name, size) for name, size in self._store.list(partition(kind, day))]
        parts = [part for part in found if part is not None]
        return sorted(parts, key=lambda part: entry_order(part.first))

    def count(self, part: Part) -> int:
        """How many rows a part has."""
        with self._file(part) as file:
            return int(_parquet().count(file))

    def rows(
        self,
        kind: Kind,
        *,
        after: str | None = None,
        newest_first: bool = False,
        days: Days = every_day,
    ) -> Iterator[Row]:
        """Rows in the order of their entries, or the other way round; those behind `after`, about interactions of
        these days.
        """
        behind = entry_order(after) if after else (-1, 0)
        parts = [part for part in self.parts(kind) if days(part.date) and entry_order(part.last) > behind]
        groups = overlapping(parts)
        for group in reversed(groups) if newest_first else groups:
            each = [self._rows(part, newest_first) for part in group]
            for row in heapq.merge(*each, key=lambda row: entry_order(row.entry), reverse=newest_first):
                if entry_order(row.entry) > behind:
                    yield row

    def about(self, kind: Kind, interactions: Collection[str]) -> list[Row]:
        """The rows about some interactions, of whatever days. What is no id has none."""
        days: dict[date, set[str]] = {}
        for identifier in interactions:
            try:
                days.setdefault(day_of_id(identifier), set()).add(identifier)
            except ValueError:
                continue
        found: list[Row] = []
        for day, ids in days.items():
            least, most = min(ids), max(ids)
            for part in self.parts(kind, day):
                with self._file(part) as file:
                    found += _parquet().rows_about(file, kind, ids, least, most)
        return found

    def _rows(self, part: Part, newest_first: bool) -> Iterator[Row]:
        with self._file(part) as file:
            yield from _parquet().rows(file, newest_first=newest_first)

    @contextmanager
    def _file(self, part: Part) -> Iterator[BinaryIO]:
        with closing(self._store.open(part.name)) as file:
            try:
                yield file
            except _parquet().ArrowException as error:
                raise OSError(f"{part.name} is damaged: {error}") from error


def _parquet() -> Any:
    from gateway.log.archive import parquet  # noqa: PLC0415  # see the package

    return parquet
