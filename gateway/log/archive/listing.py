"""Which parts there are, at one moment, while others are being replaced.

A listing is not a moment: a part that is written and the one deleted in its favour may both escape it, the first since
it came too late, the second since it went too early. So whoever replaces parts writes the new ones, then a new
`_generation`, and only then deletes the old ones; and whoever lists between two looks at the same generation has seen
all that was there throughout: what was deleted meanwhile had its successor before the first look.
"""

import uuid
from datetime import date

from gateway.log.archive.parts import Part, parse_name, partition
from gateway.log.archive.store import Store
from gateway.log.frames import Kind
from gateway.log.watermarks import entry_order

GENERATION = "_generation"


def listed(store: Store, kind: Kind, day: date | None = None) -> list[Part]:
    """All parts of a kind, or those of one day, in the order of their entries; for whoever alone may replace any."""
    found = [parse_name(name, size) for name, size in store.list(partition(kind, day))]
    return sorted((part for part in found if part is not None), key=lambda part: entry_order(part.first))


def settled(store: Store, kind: Kind, day: date | None = None) -> list[Part]:
    """The same for those who read meanwhile: no kept row is in none of them."""
    generation = _generation(store)
    while True:
        parts = listed(store, kind, day)
        before, generation = generation, _generation(store)
        if generation == before:
            return parts


def replace(store: Store, old: list[Part]) -> None:
    """Delete parts whose rows that are kept are in others by now, durably."""
    if old:
        store.write(GENERATION, uuid.uuid4().hex.encode())
    for part in old:
        store.delete(part.name)


def _generation(store: Store) -> bytes:
    try:
        with store.open(GENERATION) as file:
            return file.read()
    except FileNotFoundError:
        return b""
