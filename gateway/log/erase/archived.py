"""A person's rows out of the archive, for whoever holds the archiver's lock. Synchronous; raises OSError.

All parts' columns are looked at, which are small; days in which something is found are written anew.
"""

from collections.abc import Callable
from contextlib import closing
from datetime import date

from gateway.log.archive import parquet
from gateway.log.archive.listing import listed
from gateway.log.archive.parts import Row
from gateway.log.archive.rewriting import rewrite
from gateway.log.archive.store import Store
from gateway.log.erase.judge import About, Judge, about
from gateway.log.frames import Kind
from gateway.log.keys import STREAM_NAMES

# Parts looked at, of how many.
Progress = Callable[[int, int], None]


def archived_interactions(store: Store, judge: Judge, progress: Progress) -> dict[str, set[str]]:
    """The interactions in the archive that are to be erased, by the order."""
    found: dict[str, set[str]] = {}
    parts = listed(store, Kind.INTERACTION)
    for number, part in enumerate(parts):
        with closing(store.open(part.name)) as file, parquet.damage_named(part.name):
            for interaction, tenant, user, created in parquet.people(file, Kind.INTERACTION):
                record = About(interaction, created=created, tenant=tenant, user=user)
                if (order := judge.order_of(record)) is not None:
                    found.setdefault(order, set()).add(interaction)
        progress(number + 1, len(parts))
    return found


def archived_counts(store: Store, judge: Judge, progress: Progress) -> dict[str, int]:
    """How many rows there are to be erased, by the order."""
    counts: dict[str, int] = {}
    for order in _judged(store, judge, progress).values():
        for one in order:
            counts[one] = counts.get(one, 0) + 1
    return counts


def erase_archived(store: Store, judge: Judge, progress: Progress) -> dict[str, int]:
    """Erase; how many rows, by the order."""
    counts: dict[str, int] = {}

    def keep(row: Row) -> bool:
        record = about(row.data)
        order = judge.order_of(record) if record else None
        if order is not None:
            counts[order] = counts.get(order, 0) + 1
        return order is None

    for kind, day in _judged(store, judge, progress):
        rewrite(store, kind, day, keep)
    return counts


def _judged(store: Store, judge: Judge, progress: Progress) -> dict[tuple[Kind, date], list[str]]:
    """The days in which something is to be erased, and by which order each row there."""
    found: dict[tuple[Kind, date], list[str]] = {}
    parts = [part for kind in STREAM_NAMES for part in listed(store, kind)]
    for number, part in enumerate(parts):
        with closing(store.open(part.name)) as file, parquet.damage_named(part.name):
            for interaction, tenant, user, created in parquet.people(file, part.kind):
                record = About(interaction, created=created, tenant=tenant, user=user)
                if (order := judge.order_of(record)) is not None:
                    found.setdefault((part.kind, part.date), []).append(order)
        progress(number + 1, len(parts))
    return found
