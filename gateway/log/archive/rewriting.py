"""Rows taken out of the archive for good, by writing their day's parts anew without them.

The caller holds the ArchiverLock. New parts are durable before the old ones are deleted, so a row that is kept is in a
file at every moment. Stopped in between, some rows are there twice, which readers know how to handle, and the next call
finishes: a part's name is a function of its rows, so it writes the same files. Synchronous; raises OSError.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import BinaryIO

from gateway.log.archive import parquet
from gateway.log.archive.listing import listed, replace
from gateway.log.archive.parts import Naming, Part, Row, partition
from gateway.log.archive.store import Store
from gateway.log.frames import Kind

Keep = Callable[[Row], bool]

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Rows that were read and stay, rows that are gone, and how many parts were written anew or deleted."""

    kept: int
    removed: int
    parts: int


def rewrite(store: Store, kind: Kind, day: date, keep: Keep) -> Rewritten:
    """Take the rows that `keep` refuses out of a day. It is asked once for each row; parts without any are left alone.

    What killed writers left half-written of that day goes too.
    """
    return rewrite_each(store, kind, day, lambda rows: [keep(row) for row in rows])


def rewrite_each(
    store: Store,
    kind: Kind,
    day: date,
    keeps: Callable[[Sequence[Row]], Sequence[bool]],
    *,
    alone: Callable[[Part], bool] = lambda _: False,
) -> Rewritten:
    """`rewrite`, for whom it is cheaper to judge many rows at once. alone: parts of which all rows stay, unread."""
    store.sweep(partition(kind, day))
    kept = removed = 0
    changed: list[Part] = []
    for part in listed(store, kind, day):
        if alone(part):
            continue
        with closing(store.open(part.name)) as file, parquet.damage_named(part.name):
            rows = parquet.rows(file)
            verdicts: list[bool] = []
            while page := list(islice(rows, _PAGE)):
                verdicts += keeps(page)
            stay = sum(verdicts)
            if stay < len(verdicts):
                changed.append(part)
                if stay:
                    _write_some(store, kind, day, file, verdicts)
        kept, removed = kept + stay, removed + len(verdicts) - stay
    replace(store, changed)
    return Rewritten(kept, removed, len(changed))


def _write_some(store: Store, kind: Kind, day: date, file: BinaryIO, verdicts: list[bool]) -> None:
    naming, encoder = Naming(), parquet.Encoder(kind)
    for row, stays in zip(parquet.rows(file), verdicts, strict=True):
        if stays:
            naming.add(row)
            encoder.add(row)
    store.write(naming.name(kind, day), encoder.finish())
