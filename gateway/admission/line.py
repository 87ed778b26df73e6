"""Who waits for a place, and whose turn it is. Pure; what an operation costs does not grow with how many wait.

    between classes   the highest first; but every AGEING-th turn is the oldest's of all, so none waits for ever
    within a class    the tenants take turns, so a burst of one holds up none of the others
    within a tenant   first come, first served

Nobody passes whoever's turn it is, however small: a request for many candidates would never find the room.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.admission.tiers import TIERS, Tier

AGEING = 8


@dataclass(slots=True, eq=False)
class Waiter:
    """One who waits for places for `least` sequences, and would like `n`."""

    tier: Tier
    tenant: str
    n: int
    least: int


W = TypeVar("W", bound=Waiter)


class Line(Generic[W]):
    """The waiting, in order. `first` says whose turn it is; that one is `served` when it got its places."""

    def __init__(self) -> None:
        self._all: OrderedDict[W, None] = OrderedDict()
        self._classes = {tier: _Class[W]() for tier in TIERS}
        self._turns = 0

    def __len__(self) -> int:
        return len(self._all)

    def count(self, tier: Tier) -> int:
        return self._classes[tier].count

    def join(self, waiter: W) -> None:
        self._all[waiter] = None
        self._classes[waiter.tier].join(waiter)

    def leave(self, waiter: W) -> None:
        """Gone without a turn. It may have gone already."""
        if waiter in self._all:
            del self._all[waiter]
            self._classes[waiter.tier].leave(waiter)

    def first(self) -> W | None:
        """Whose turn it is."""
        if (self._turns + 1) % AGEING == 0:
            return next(iter(self._all), None)
        return next((one.first() for tier in reversed(TIERS) if (one := self._classes[tier]).count), None)

    def served(self, waiter: W) -> None:
        """It got its places: off the line, and its tenant goes behind the others of its class."""
        self._turns += 1
        self.leave(waiter)
        self._classes[waiter.tier].move_back(waiter.tenant)

    def last(self) -> W:
        """Who is turned away where too many wait: of the lowest class, of the tenant most of it is, the newest."""
        lowest = next(one for tier in TIERS if (one := self._classes[tier]).count)
        return lowest.last()

    def before(self, tier: Tier) -> int:
        """Sequences that wait in this class and those above."""
        return sum(self._classes[one].least for one in TIERS[TIERS.index(tier) :])


class _Class(Generic[W]):
    """Those who wait in one class, by tenant, in the order of their turns. least: sequences that all need together."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, OrderedDict[W, None]] = OrderedDict()
        self.count = 0
        self.least = 0

    def join(self, waiter: W) -> None:
        self._tenants.setdefault(waiter.tenant, OrderedDict())[waiter] = None
        self.count += 1
        self.least += waiter.least

    def leave(self, waiter: W) -> None:
        waiting = self._tenants[waiter.tenant]
        del waiting[waiter]
        if not waiting:
            del self._tenants[waiter.tenant]
        self.count -= 1
        self.least -= waiter.least

    def first(self) -> W:
        return next(iter(next(iter(self._tenants.values()))))

    def move_back(self, tenant: str) -> None:
        if tenant in self._tenants:
            self._tenants.move_to_end(tenant)

    def last(self) -> W:
        # The tenant that came last, of several with as many.
        longest = max(reversed(self._tenants.values()), key=len)
        return next(reversed(longest))
