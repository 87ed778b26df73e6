"""Records beyond their retention: not moved into the archive, and taken out of it. Synchronous; raises OSError.

Feedback and shadow scores go with their interaction. They do not name its model, so that is looked up in the day's own
partition, where the interaction is too; they are gone before it is, so that none is left behind by a crash in between.
What was looked at and stays is remembered in `_retention`, by part: whatever a part's name is, its rows are the same.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import date
from functools import partial
from hashlib import blake2b

import msgspec

from gateway.log.archive.listing import listed, replace
from gateway.log.archive.parts import Part, Row, partition
from gateway.log.archive.reader import Archive
from gateway.log.archive.retention import Retention
from gateway.log.archive.rewriting import rewrite_each
from gateway.log.archive.store import Store
from gateway.log.frames import Kind
from gateway.log.keys import STREAM_NAMES

SETTLED = "_retention"

# Whether a record must not be deleted, however old it is.
Held = Callable[[Kind, Row], bool]

_INTERACTIONS_LAST = (Kind.FEEDBACK, Kind.SHADOW, Kind.INTERACTION)


class _About(msgspec.Struct):
    """What a record says of whom it is about."""

    id: str = ""
    interaction: str | None = None
    model: str | None = None
    tenant: str = "default"


class Retiring:
    """now: seconds since 1970. held: what legal holds say; None: there are none. stamp: another for other holds."""

    def __init__(
        self, store: Store, retention: Retention, now: float, *, held: Held | None = None, stamp: str = ""
    ) -> None:
        self._store = store
        self._archive = Archive(lambda: store)
        self._retention = retention
        self._now = now
        self._held = held
        self._stamp = stamp
        self._settled: dict[str, str] | None = None

    def keeps(self, kind: Kind, day: date, rows: Sequence[Row]) -> list[bool]:
        """For each row of a day that is to be moved into the archive, whether it still is.

        What is about an interaction that is not there yet is: it may be on its way.
        """
        over = self._retention.over(day, self._now)
        if over.least is None:
            return [True] * len(rows)
        return self._verdicts(over, kind, rows, orphans=True)

    def days(self) -> list[date]:
        """Those of which anything may have to go, oldest first."""
        days = {part.date for kind in STREAM_NAMES for part in listed(self._store, kind)}
        return sorted(day for day in days if self._retention.over(day, self._now).least is not None)

    def retire(self, day: date) -> dict[Kind, int]:
        """Take what is beyond its retention out of a day. How many rows of each kind that is."""
        over = self._retention.over(day, self._now)
        settled = self._read_settled()
        if over.overall is not None and self._held is None:
            removed = {kind: self._discard(kind, day) for kind in _INTERACTIONS_LAST}
            self._settle(day, settled, {})
            return removed
        said = msgspec.json.encode([over, self._stamp], order="deterministic")
        rules = blake2b(said, digest_size=8).hexdigest()
        removed = {}
        for kind in _INTERACTIONS_LAST:
            verdicts = partial(self._verdicts, over, kind, orphans=False)
            done = rewrite_each(self._store, kind, day, verdicts, alone=lambda part: settled.get(part.name) == rules)
            removed[kind] = done.removed
        self._settle(
            day, settled, {part.name: rules for kind in STREAM_NAMES for part in listed(self._store, kind, day)}
        )
        return removed

    def _verdicts(self, over: Retention, kind: Kind, rows: Sequence[Row], *, orphans: bool) -> list[bool]:
        """orphans: whether what is about an interaction that is nowhere stays."""
        about = [_about(row) for row in rows]
        interactions: dict[str, Row] = {}
        if kind is not Kind.INTERACTION and (over.models or self._held is not None):
            interactions = self._interactions({one.interaction for one in about if one.interaction is not None})
        verdicts = []
        for row, one in zip(rows, about, strict=True):
            its = row if kind is Kind.INTERACTION else interactions.get(one.interaction or "")
            model = None if its is None else _about(its).model
            if model is not None:
                days = over.of(model, one.tenant)
            else:
                days = over.of_any_model(one.tenant) if orphans else over.of_unknown(one.tenant)
            verdicts.append(days is None or self._is_held(kind, row, its))
        return verdicts

    def _is_held(self, kind: Kind, row: Row, interaction: Row | None) -> bool:
        if self._held is None:
            return False
        return self._held(kind, row) or (interaction is not None and self._held(Kind.INTERACTION, interaction))

    def _interactions(self, identifiers: Collection[str]) -> dict[str, Row]:
        return {_about(row).id: row for row in self._archive.about(Kind.INTERACTION, identifiers)}

    def _discard(self, kind: Kind, day: date) -> int:
        """A whole day, unread."""
        self._store.sweep(partition(kind, day))
        parts = listed(self._store, kind, day)
        rows = sum(self._count(part) for part in parts)
        replace(self._store, parts)
        return rows

    def _count(self, part: Part) -> int:
        try:
            return self._archive.count(part)
        except OSError:  # It is damaged, and goes all the same.
            return 0

    def _read_settled(self) -> dict[str, str]:
        if self._settled is None:
            try:
                with self._store.open(SETTLED) as file:
                    self._settled = msgspec.json.decode(file.read(), type=dict[str, str])
            except (FileNotFoundError, msgspec.DecodeError):
                self._settled = {}
        return self._settled

    def _settle(self, day: date, before: dict[str, str], stay: dict[str, str]) -> None:
        folders = tuple(partition(kind, day) for kind in STREAM_NAMES)
        self._settled = {name: rules for name, rules in before.items() if not name.startswith(folders)} | stay
        if self._settled != before:
            self._store.write(SETTLED, msgspec.json.encode(self._settled, order="deterministic"))


def _about(row: Row) -> _About:
    try:
        return msgspec.json.decode(row.data, type=_About)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _About()
