"""A model of Redis's streams, in which a deleted entry stays in its node until the node has gone."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.log.erase.nodes import NodeLimits, moves


@dataclass
class Node:
    """entries: id -> whether it is still there. size: of all that were ever in it."""

    entries: dict[int, bool] = field(default_factory=dict)
    size: int = 0


class Stream:
    """As Redis 6.2 fills nodes (strict: as 7 does). overhead: what an entry takes beside its record."""

    def __init__(self, limits: NodeLimits, *, strict: bool, overhead: int) -> None:
        self.limits = limits
        self.strict = strict
        self.overhead = overhead
        self.nodes: list[Node] = []
        self.sizes: dict[int, int] = {}
        self.last = 0

    def add(self, size: int) -> int:
        self.last += 1
        whole = size + self.overhead
        self.sizes[self.last] = size
        node = self.nodes[-1] if self.nodes else None
        if node is not None and self.limits.max_bytes:
            full = node.size + whole >= self.limits.max_bytes if self.strict else node.size >= self.limits.max_bytes
            node = None if full else node
        if node is not None and self.limits.max_entries and sum(node.entries.values()) >= self.limits.max_entries:
            node = None
        if node is None:
            node = Node()
            self.nodes.append(node)
        node.entries[self.last] = True
        node.size += whole
        return self.last

    def delete(self, identifier: int) -> None:
        for node in self.nodes:
            if identifier in node.entries:
                node.entries[identifier] = False
        self.nodes = [node for node in self.nodes if any(node.entries.values())]

    def there(self) -> list[int]:
        return [identifier for node in self.nodes for identifier, there in node.entries.items() if there]

    def traces(self) -> set[int]:
        return {identifier for node in self.nodes for identifier in node.entries}


@pytest.mark.parametrize("strict", [False, True])
@settings(max_examples=1500, deadline=None, derandomize=True)
@given(
    limits=st.builds(NodeLimits, st.sampled_from([0, 1, 50, 200]), st.sampled_from([0, 1, 2, 5])),
    sizes=st.lists(st.integers(0, 90), max_size=30),
    overhead=st.integers(0, 20),
    trimmed=st.integers(0, 6),
    data=st.data(),
)
def test_no_node_keeps_an_entry_that_was_erased(
    strict: bool, limits: NodeLimits, sizes: list[int], overhead: int, trimmed: int, data: st.DataObject
) -> None:
    stream = Stream(limits, strict=strict, overhead=overhead)
    for size in sizes:
        stream.add(size)
    before = stream.there()
    gone = before[:trimmed]
    for identifier in gone:
        stream.delete(identifier)
    ids = stream.there()
    erased = data.draw(st.lists(st.sampled_from(range(len(ids))), unique=True).map(sorted)) if ids else []
    plan = moves([stream.sizes[identifier] for identifier in ids], erased, limits, head=bool(gone))
    # Others append while the plan is made.
    late = [stream.add(data.draw(st.integers(0, 90))) for _ in range(data.draw(st.integers(0, 3)))]
    rest = len(ids) if plan.tail is None else plan.tail
    moved: dict[int, int] = {}

    def run(takes: list[int], going: list[int]) -> None:
        for identifier in takes + going:
            stream.delete(identifier)
        for identifier in takes:
            moved[identifier] = stream.add(stream.sizes[identifier])

    if plan.tail is not None:
        going = [ids[index] for index in erased if index >= plan.tail]
        run([one for one in [*ids[plan.tail :], *late] if one not in going], going)
    for index in sorted({*erased, *plan.moved}):
        if index < rest:
            run([], [ids[index]]) if index in erased else run([ids[index]], [])
    doomed = {ids[index] for index in erased} | set(gone)
    assert not stream.traces() & doomed
    kept = [identifier for identifier in [*ids, *late] if identifier not in doomed]
    assert len(stream.there()) == len(kept)
    assert set(stream.there()) == {moved.get(identifier, identifier) for identifier in kept}


def test_a_node_that_becomes_the_last_again_has_nothing_in_it_that_is_to_go() -> None:
    """Nodes [0, 1] and [2]: were 1 and 2 moved before 0 was erased, they would be appended to its node."""
    assert moves([0, 0, 0], [0], NodeLimits(0, 2), head=False).tail == 0


def test_what_cannot_share_a_node_with_what_is_erased_is_left_alone() -> None:
    assert moves([5000] * 20, [10], NodeLimits(), head=False).moved == []
    assert moves([3000] * 20, [10], NodeLimits(), head=False).moved == [9, 11]
    assert moves([10] * 1000, [500], NodeLimits(4096, 3), head=False).moved == [498, 499, 501, 502]
    assert moves([10] * 1000, [], NodeLimits(), head=False) == moves([], [], NodeLimits(), head=True)
