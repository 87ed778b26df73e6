"""What lies in this machine's journals, read beside those who write there: nothing is taken over or moved on."""

from collections.abc import Iterator
from pathlib import Path

from gateway.log import ownership
from gateway.log.frames import Entry
from gateway.log.segment import load

_WINDOW_BYTES = 1_048_576


def in_journals(directory: Path) -> Iterator[Entry]:
    """Records that are not known to be archived, shipped ones too. Raises OSError.

    Whoever reads journals, then Redis, then the archive misses nothing: a record comes to the next before it goes.
    """
    if not directory.is_dir():
        return
    for paths in ownership.owners(directory).values():
        for path in paths:
            try:
                yield from _in_segment(path)
            except FileNotFoundError:
                continue  # All of it has come to the archive meanwhile.


def _in_segment(path: Path) -> Iterator[Entry]:
    segment = load(path)
    if segment is None:
        return
    start = segment.archived
    while start < segment.size:
        parsed = segment.read(start, max_bytes=_WINDOW_BYTES)
        if not parsed.consumed:
            return
        yield from parsed.entries
        start += parsed.consumed
