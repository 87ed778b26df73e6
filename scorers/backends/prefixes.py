"""Keys and values of beginnings that were run before, so that what comes later with the same beginning is cheaper.

Candidates of one request often arrive one by one, as each is finished, and share their conversation.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from scorers.backends.plans import common_length

LEAST_KEPT = 64
"""Tokens. Running fewer again is as cheap as looking them up."""


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """Token ids, and of each layer the keys and the values, [tokens, heads, head size]."""

    ids: list[int]
    layers: list[tuple[torch.Tensor, torch.Tensor]]

    @property
    def bytes(self) -> int:
        """Memory held."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)


class Prefixes:
    """The prefixes used last, of at most so many bytes. For one thread at a time."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._used: OrderedDict[int, Prefix] = OrderedDict()
        self._by_start: defaultdict[tuple[int, ...], dict[int, Prefix]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._used)

    @property
    def bytes(self) -> int:
        """Memory held."""
        return self._bytes

    def find(self, ids: Sequence[int], most: int) -> tuple[Prefix, int] | None:
        """The prefix that shares most tokens with the beginning of these, and how many: from 64 to `most`."""
        best: tuple[Prefix, int] | None = None
        if most < LEAST_KEPT:
            return None
        for prefix in self._by_start.get(_start(ids), {}).values():
            length = min(common_length(prefix.ids, ids), most)
            if best is None or length > best[1]:
                best = prefix, length
        if best is not None:
            self._used.move_to_end(id(best[0]))
        return best

    def keep(self, prefix: Prefix) -> None:
        """Keep it, at the cost of those not used for longest. One too large for the bound is not kept."""
        size = prefix.bytes
        if size > self._most_bytes or len(prefix.ids) < LEAST_KEPT:
            return
        while self._bytes + size > self._most_bytes:
            _, oldest = self._used.popitem(last=False)
            alike = self._by_start[_start(oldest.ids)]
            del alike[id(oldest)]
            if not alike:
                del self._by_start[_start(oldest.ids)]
            self._bytes -= oldest.bytes
        self._used[id(prefix)] = prefix
        self._by_start[_start(prefix.ids)][id(prefix)] = prefix
        self._bytes += size


def _start(ids: Sequence[int]) -> tuple[int, ...]:
    return tuple(ids[:LEAST_KEPT])
