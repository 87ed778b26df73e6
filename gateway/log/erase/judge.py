"""Whether a record is to be erased. Pure, but that a judge remembers which holds it met.

To be erased are a person's interactions, whatever was ever said of these (feedback of anybody, shadow scores), and the
feedback that the person gave on anybody's; but nothing that is under a legal hold.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from gateway.log.erase.orders import Hold, Order, subject_of
from gateway.log.records import Record, plain


class About(msgspec.Struct, frozen=True, gc=False):
    """What every record says of whom it is about, of whatever version. interaction: None for an interaction's own."""

    id: str = ""
    interaction: str | None = None
    created: float = 0.0
    tenant: str = "default"
    user: str | None = None

    @property
    def of(self) -> str:
        """The interaction's id."""
        return self.interaction or self.id


_decode = msgspec.json.Decoder(About).decode


def about(payload: bytes) -> About | None:
    """What a record, compressed or not, is about; None where it cannot be read."""
    try:
        return _decode(plain(payload))
    except (ValueError, msgspec.DecodeError):
        return None


def about_record(record: Record) -> About:
    return About(record.id, getattr(record, "interaction", None), record.created, record.tenant, _user(record))


def _user(record: Record) -> str | None:
    user: str | None = getattr(record, "user", None)
    return user


class Holds:
    """The legal holds in force."""

    def __init__(self, holds: Sequence[Hold] = ()) -> None:
        active = [hold for hold in holds if hold.active]
        self._interactions = {hold.interaction: hold for hold in active if hold.interaction is not None}
        self._subjects = {hold.subject: hold for hold in active if hold.subject is not None}
        self._tenants = {hold.tenant: hold for hold in active if hold.subject is None and hold.interaction is None}

    def __bool__(self) -> bool:
        return bool(self._interactions or self._subjects or self._tenants)

    def held(self, about: About) -> Hold | None:
        """The hold that a record is under."""
        if not self:
            return None
        found = self._interactions.get(about.of) or self._tenants.get(about.tenant)
        if found is None and self._subjects and about.user is not None:
            found = self._subjects.get(subject_of(about.tenant, about.user))
        return found

    def of_order(self, order: Order) -> Hold | None:
        """The hold that forbids all of an order."""
        return self._subjects.get(order.subject) or self._tenants.get(order.tenant)


class Judge:
    """orders: all there are. ids: the interactions that each of them is known to erase.

    met: the ids of the holds that kept something so far, by the order that would have erased it.
    """

    def __init__(
        self, orders: Sequence[Order] = (), ids: Mapping[str, Collection[str]] | None = None, holds: Holds | None = None
    ) -> None:
        self.holds = holds or Holds()
        self.met: dict[str, set[str]] = {}
        self._orders = {order.id: order for order in orders}
        self._subjects: dict[str, Order] = {}
        for order in sorted(orders, key=lambda order: order.before):
            self._subjects[order.subject] = order
        self._erased = {identifier: order for order, its in (ids or {}).items() for identifier in its}

    def __bool__(self) -> bool:
        return bool(self._orders)

    def order_of(self, about: About) -> str | None:
        """The order by which a record is to be erased; None: it stays."""
        order = self._ordered(about)
        return None if order is None or self._held(order, about) else order.id

    def order_of_id(self, interaction: str) -> str | None:
        """The order by which all that mentions an interaction is to be erased; None: it stays."""
        order = self._orders.get(self._erased.get(interaction, ""))
        return None if order is None or self._held(order, About(interaction, tenant=order.tenant)) else order.id

    def knowing(self, ids: Mapping[str, Collection[str]]) -> "Judge":
        """The same, knowing of more interactions."""
        known: dict[str, set[str]] = {order: set(its) for order, its in ids.items()}
        for identifier, order in self._erased.items():
            known.setdefault(order, set()).add(identifier)
        return Judge(list(self._orders.values()), known, self.holds)

    def order_of_user(self, user: str) -> str | None:
        """The order by which all that names a user is to be erased, whatever the tenant. user: the keyed hash."""
        for order in self._subjects.values():
            if subject_of(order.tenant, user) == order.subject:
                return None if self._held(order, About(tenant=order.tenant, user=user)) else order.id
        return None

    def erases(self, payload: bytes) -> bool:
        """Of a record's bytes, compressed or not. What cannot be read stays."""
        if not self._orders:
            return False
        found = about(payload)
        return found is not None and self.order_of(found) is not None

    def _held(self, order: Order, about: About) -> bool:
        hold = self.holds.of_order(order) or self.holds.held(about)
        if hold is not None:
            self.met.setdefault(order.id, set()).add(hold.id)
        return hold is not None

    def _ordered(self, about: About) -> Order | None:
        if not self._orders:
            return None
        if about.user is not None:
            order = self._subjects.get(subject_of(about.tenant, about.user))
            if order is not None and about.created <= order.before:
                return order
        return self._orders.get(self._erased.get(about.of, ""))
