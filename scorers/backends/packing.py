"""How inputs lie in one packed row: no padding, and what several of them begin with only once.

    input 0    a b c d        row        f g h i | a b | c d | e
    input 1    a b e          position   0 1 2 3   0 1   2 3   2
    input 2    f g h i

A *segment* is a run of tokens that attend to each other and to their context: `c d` and `e` have the context `a b`. A
context may also be kept from an earlier batch (`scorers.backends.prefixes`). Segments of about one length and of the
same context form a *group*, which attends in one call. Only causal models can share, since there a token depends on
nothing behind it. This module decides; `scorers.backends.attention` computes.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scorers.backends.plans import LEAST_SHARED, common_length
from scorers.backends.prefixes import LEAST_KEPT, Prefix

_DEEPEST = 50

Kept = tuple[Prefix, int]
"""The first so many tokens of a prefix that was run before."""

Find = Callable[[Sequence[int], int], Kept | None]
"""The longest kept beginning of these ids, of at most so many tokens."""


@dataclass(frozen=True, slots=True)
class Context:
    """What each segment of a group attends to before itself: a kept prefix, then the row's tokens [start, end)."""

    kept: Kept | None = None
    start: int = 0
    end: int = 0

    @property
    def length(self) -> int:
        """In tokens."""
        return (self.kept[1] if self.kept else 0) + self.end - self.start


NO_CONTEXT = Context()


@dataclass(frozen=True, slots=True)
class Group:
    """Segments, by their lengths, side by side in the row from `start` on."""

    start: int
    lengths: tuple[int, ...]
    context: Context = NO_CONTEXT


@dataclass(frozen=True, slots=True)
class Store:
    """What is worth keeping: `ids`, whose keys and values are those of the context."""

    ids: list[int]
    context: Context


@dataclass(frozen=True, slots=True)
class _Place:
    """An input's tokens: [kept, shared) are in the row from `shared_at` on, those from `shared` on from `own_at` on."""

    kept: int
    shared: int
    shared_at: int
    own_at: int


@dataclass(slots=True)
class Packing:
    """One row: token ids, their positions, what attends to what, and what to keep of it."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    places: dict[int, _Place] = field(default_factory=dict)

    def index(self, number: int, position: int) -> int:
        """Where the row has the token of an input at `position`. Raises KeyError for one that only a prefix has."""
        place = self.places[number]
        if position < place.kept:
            raise KeyError(position)
        if position < place.shared:
            return place.shared_at + position - place.kept
        return place.own_at + position - place.shared

    def _add(self, segments: Sequence[list[int]], position: int, context: Context = NO_CONTEXT) -> list[int]:
        """One group of segments that begin at `position`; where each begins in the row."""
        starts = []
        group = Group(len(self.ids), tuple(map(len, segments)), context)
        for segment in segments:
            starts.append(len(self.ids))
            self.ids += segment
            self.positions += range(position, position + len(segment))
        self.groups.append(group)
        return starts


@dataclass(frozen=True, slots=True)
class Family:
    """Inputs (their indices) that begin with the same `shared` tokens; 0 for one alone."""

    shared: int
    members: tuple[int, ...]


def families(inputs: Sequence[list[int]]) -> list[Family]:
    """All inputs, each in one family, so that as many tokens as can be are shared.

    Inputs in the order of their ids share most with their neighbours. A run of them is one family, or falls apart
    where neighbours have least in common, whichever saves more: a common system prompt does not break up those who
    have a whole conversation in common.
    """
    order = sorted(range(len(inputs)), key=lambda index: inputs[index])
    common = [common_length(inputs[one], inputs[next_]) for one, next_ in itertools.pairwise(order)]
    found: list[Family] = []
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or common[end - 1] < LEAST_SHARED:
            found += _split(order[begin:end], common[begin : end - 1])[1]
            begin = end
    return found


def _split(members: list[int], common: list[int], depth: int = 0) -> tuple[int, list[Family]]:
    """Tokens saved, and the families of this run. common: what each has in common with the next, enough to share."""
    if not common:
        return 0, [Family(0, tuple(members))]
    least = min(common)
    together = least * len(common), [Family(least, tuple(members))]
    if max(common) == least or depth == _DEEPEST:
        return together
    saved = begin = 0
    apart: list[Family] = []
    for end in [*(at + 1 for at, one in enumerate(common) if one == least), len(members)]:
        part, some = _split(members[begin:end], common[begin : end - 1], depth + 1)
        saved, apart = saved + part, apart + some
        begin = end
    return (saved, apart) if saved > together[0] else together


def pack(inputs: Sequence[list[int]], firsts: Sequence[int], *, share: bool, find: Find | None = None) -> Packing:
    """One row of all inputs, none of them empty.

    firsts: the first position of each input whose hidden state is wanted, which no kept prefix can stand for. find:
    looks up kept prefixes; without it none is used, and nothing is worth keeping.
    """
    row = Packing()
    found = families(inputs) if share else [Family(0, (index,)) for index in range(len(inputs))]
    heads = [inputs[one.members[0]][: one.shared or None] for one in found]
    kept = [
        find(head, min(firsts[member] for member in one.members)) if find else None
        for one, head in zip(found, heads, strict=True)
    ]
    contexts: dict[int, Context] = {}
    roots = sorted((index for index, one in enumerate(kept) if one is None), key=lambda index: len(heads[index]))
    for group in alike([len(heads[index]) for index in roots]):
        numbers = [roots[at] for at in group]
        starts = row._add([heads[number] for number in numbers], 0)
        contexts |= {
            number: Context(None, start, start + len(heads[number]))
            for number, start in zip(numbers, starts, strict=True)
        }
    for number, one in enumerate(kept):
        if one is not None:
            length = one[1]
            rest = heads[number][length:]
            start = row._add([rest], length, Context(one))[0] if rest else 0
            contexts[number] = Context(one, start, start + len(rest))
    for number, one in enumerate(kept):
        length = one[1] if one else 0
        _place_members(row, inputs, found[number], contexts[number])
        if find and len(heads[number]) >= max(LEAST_KEPT, 2 * length + 1):
            row.stores.append(Store(heads[number], contexts[number]))
    return row


def _place_members(row: Packing, inputs: Sequence[list[int]], family: Family, context: Context) -> None:
    """Add what the members of a family have of their own, and say where each one is."""
    kept = context.kept[1] if context.kept else 0
    if family.shared == 0:
        row.places[family.members[0]] = _Place(kept, len(inputs[family.members[0]]), context.start, 0)
        return
    members = sorted(family.members, key=lambda index: len(inputs[index]))
    for member in members:
        row.places[member] = _Place(kept, family.shared, context.start, 0)
    members = [member for member in members if len(inputs[member]) > family.shared]
    owns = [inputs[member][family.shared :] for member in members]
    for group in alike([len(own) for own in owns]):
        starts = row._add([owns[at] for at in group], family.shared, context)
        for at, start in zip(group, starts, strict=True):
            row.places[members[at]] = _Place(kept, family.shared, context.start, start)


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of ascending lengths, in runs of about one length, which cost little padding in the attention."""
    runs: list[list[int]] = []
    for index, length in enumerate(lengths):
        if runs and length <= 1.25 * lengths[runs[-1][0]] + 8:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs
