"""Which of a stream's entries lie in one node with others. Pure.

Redis keeps a stream as a row of nodes of several entries. XDEL and XTRIM only mark an entry in its node as deleted: its
bytes stay, in memory and in Redis's files, until the last entry of the node has gone. So whoever erases an entry moves
all that may be its neighbours to the stream's end, and deletes them together with it.

Nobody tells where a node ends, but what it holds is bounded: Redis begins a new one where the last has `max_bytes` or
more (Redis 7: where it would have more), or `max_entries` that are not deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

HUGE = 1 << 62


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """Redis's stream-node-max-bytes and stream-node-max-entries, as it has them if nobody changed them. 0: no limit."""

    max_bytes: int = 4096
    max_entries: int = 100


@dataclass(frozen=True, slots=True)
class Moves:
    """moved: indices of the entries that are to be moved, in order.

    tail: None where what comes next cannot get into a node with anything that is erased or moved. Otherwise all from
    this index on, and what has come since, is to be moved in one piece, before any others.
    """

    moved: list[int]
    tail: int | None


def moves(sizes: Sequence[int], erased: Sequence[int], limits: NodeLimits, *, head: bool) -> Moves:
    """sizes: the bytes that each entry takes in its node, or fewer. erased: indices, in order.

    head: entries that were before the first may be in its node still: it is treated as if one of them was erased.
    """
    max_bytes, max_entries = limits.max_bytes or HUGE, limits.max_entries or HUGE
    near: set[int] = set()
    for index in [*([-1] if head else []), *erased]:
        size = 0 if index < 0 else sizes[index]
        other, most = index + 1, max_entries + (index < 0)
        while other < len(sizes) and size < max_bytes and other - index < most:
            near.add(other)
            size += sizes[other]
            other += 1
        size, other = 0, index - 1
        while other >= 0 and index - other < max_entries:
            size += sizes[other]
            if size >= max_bytes:
                break
            near.add(other)
            other -= 1
    touched = near.union(erased)
    tail = last_node(sizes, max_bytes, max_entries)
    if not touched or max(touched) < tail:
        return Moves(sorted(near.difference(erased)), None)
    # When the last node has gone, the one before it takes what is appended: it must have nothing in it that is to go.
    while tail > 0 and tail - 1 in touched:
        tail -= 1
    return Moves(sorted(near.difference(erased)), tail)


def last_node(sizes: Sequence[int], max_bytes: int, max_entries: int) -> int:
    """The first index that may be in the stream's last node."""
    size, index = 0, len(sizes)
    while index > 0 and len(sizes) - index < max_entries and size < max_bytes:
        index -= 1
        size += sizes[index]
    return index
