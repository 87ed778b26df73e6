"""Orders to erase a person, and the legal holds that forbid it. Pure.

Neither names anybody: a `subject` is a digest of the tenant and of the keyed hash that records have as their user, so
that not even that hash stays when all its records are gone.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import msgspec

from gateway.ids import new_uuid7

Status = Literal[
    "open",  # to be carried out, or to be carried out again
    "held",  # carried out but for what a legal hold keeps
    "done",
]

MAX_REASON = 1000


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """Erase all that is about a subject and was created until `before` (seconds since 1970).

    by, at, reason: who ordered it, when, why. finished: when it was last carried out. outstanding: the journals of
    gateways that had not done their part then. holds: the ids of what held it. counts: records erased, by place.
    replays: how often it was begun again after it was done, since data may have come back.
    """

    id: str
    tenant: str
    subject: str
    before: float
    by: str
    at: float
    reason: str = ""
    status: Status = "open"
    finished: float | None = None
    outstanding: list[str] = []
    holds: list[str] = []
    counts: dict[str, int] = {}
    replays: int = 0


class Hold(msgspec.Struct, frozen=True, omit_defaults=True):
    """A legal hold on what a subject said, on an interaction and all that is about it, or on a whole tenant's records.

    Exactly one of subject and interaction is given, or neither for the tenant. A hold that was taken off is kept, so
    that it does not come back with an old copy.
    """

    id: str
    tenant: str
    by: str
    at: float
    reason: str
    subject: str | None = None
    interaction: str | None = None
    removed_by: str | None = None
    removed_at: float | None = None

    @property
    def active(self) -> bool:
        return self.removed_at is None

    @property
    def target(self) -> str:
        """What is held, in words."""
        if self.interaction is not None:
            return f"interaction {self.interaction}"
        return f"subject {self.subject} of tenant {self.tenant}" if self.subject else f"tenant {self.tenant}"


class Kept(msgspec.Struct, frozen=True):
    """An order as its file has it. ids: the interactions that it erases."""

    order: Order
    ids: list[str] = []


@lru_cache(65_536)
def subject_of(tenant: str, user: str) -> str:
    """user: the keyed hash, as records have it (`signing.Signer.hash_user`). 32 hexadecimal digits."""
    return hashlib.sha256(b"\0".join((b"erasure", tenant.encode(), user.encode()))).hexdigest()[:32]


def new_order(tenant: str, user: str, *, by: str, now: float, reason: str = "") -> Order:
    """An order for all that a user left until now. user: the keyed hash."""
    return Order(new_uuid7(), tenant, subject_of(tenant, user), now, by, now, reason[:MAX_REASON])


def reopened(order: Order) -> Order:
    """The same order, to be carried out again."""
    if order.status == "open":
        return order
    return msgspec.structs.replace(order, status="open", replays=order.replays + 1)


def reconciled(in_redis: Kept | None, in_file: Kept | None) -> Kept:
    """One order out of what Redis and its file say of it; at least one of them is there.

    Where they do not agree, one of the two was restored from a copy that is older than the erasing, and the data with
    it: it is done again.
    """
    first, *others = [kept for kept in (in_redis, in_file) if kept is not None]
    ids = sorted({identifier for kept in (first, *others) for identifier in kept.ids})
    agreed = others and first.order.status == others[0].order.status
    newest = max((first, *others), key=lambda kept: (kept.order.replays, kept.order.finished or 0.0)).order
    return Kept(newest if agreed else reopened(newest), ids)


def reconciled_hold(holds: Iterable[Hold]) -> Hold:
    """One hold out of its copies: one that was taken off stays so."""
    return max(holds, key=lambda hold: hold.removed_at or 0.0)
