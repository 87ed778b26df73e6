"""The ledger: which orders there are, how far they are, and the legal holds.

Everything is in Redis, where all gateways see it, and in a file an order or hold beside the archive (without an
archive: in data_dir), so that neither of them can be restored to a state before an erasure without the other one
remembering it. `reconcile` puts both right, and opens again whatever one of them had forgotten.

    erasures/<id>.json   holds/<id>.json

A number, the revision, grows whenever there is more to erase; gateways look at it alone, and read on where it has
grown. An interaction's id is written down here before its record is erased: were it the other way round, a crash in
between would leave feedback behind that nothing ties to a person.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from redis.asyncio import Redis

from gateway.config import LogConfig
from gateway.log.archive.opening import archives, store_of
from gateway.log.archive.store import LocalStore, Store
from gateway.log.erase.judge import Holds, Judge
from gateway.log.erase.orders import Hold, Kept, Order, reconciled, reconciled_hold
from gateway.log.keys import erased_counts_key, erased_ids_key, erasures_key, holds_key, journals_key, revisions_key

T = TypeVar("T")

ORDERS_FOLDER = "erasures/"
HOLDS_FOLDER = "holds/"
REVISION = "revision"
_CHUNK = 1000

# Each script begins with a write that cannot take memory, so that a Redis without any lets it through: erasing makes
# room.
# KEYS: a hash. ARGV: field, value.
_SET = """
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""

# KEYS: a hash, revisions. ARGV: id, value, the order that has more to erase. Returns the revision.
_PUT = """
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local revision = redis.call('HINCRBY', KEYS[2], 'revision', 1)
redis.call('HSET', KEYS[2], ARGV[3], revision)
return revision
"""

# KEYS: an order's ids, revisions. ARGV: the order, ids. Returns how many are new.
_ADD_IDS = """
redis.call('SREM', KEYS[1], '')
local added = 0
for i = 2, #ARGV do
  added = added + redis.call('SADD', KEYS[1], ARGV[i])
end
if added > 0 then
  redis.call('HSET', KEYS[2], ARGV[1], redis.call('HINCRBY', KEYS[2], 'revision', 1))
end
return added
"""


# KEYS: a hash. ARGV: field, by how much.
_COUNT = """
redis.call('HDEL', KEYS[1], '')
return redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])
"""


class JournalState(msgspec.Struct, frozen=True):
    """How far a gateway's journal has erased. host: its machine. at: when it last said so. live: it has not stopped."""

    host: str
    revision: int
    at: float
    live: bool = True


class Ledger:
    """Methods raise redis.exceptions.RedisError; those that touch files OSError, and ConfigError for the archive's.

    settings, data_dir: where the files are.
    """

    def __init__(self, redis: Redis, settings: LogConfig, data_dir: Path) -> None:
        self._redis = redis
        self._shard = settings.shard
        self._settings = settings
        self._data_dir = data_dir

    async def place(self, order: Order) -> None:
        """A new order, or one that is to be carried out again. From here on gateways erase by it."""
        await self._write(ORDERS_FOLDER, order.id, Kept(order, sorted(await self.ids(order.id))))
        await self._eval(
            _PUT, [erasures_key(self._shard), revisions_key(self._shard)], order.id, _json(order), order.id
        )

    async def settle(self, order: Order) -> None:
        """How an order went: for those who look at it; there is nothing more to erase."""
        await self._set(erasures_key(self._shard), order.id, _json(order))
        await self._write(ORDERS_FOLDER, order.id, Kept(order, sorted(await self.ids(order.id))))

    async def hold(self, hold: Hold) -> None:
        """Lay a hold on something, or take it off."""
        await self._write(HOLDS_FOLDER, hold.id, hold)
        await self._eval(_PUT, [holds_key(self._shard), revisions_key(self._shard)], hold.id, _json(hold), "holds")

    async def orders(self) -> list[Order]:
        """All there are, oldest first."""
        found: Any = await self._redis.hgetall(erasures_key(self._shard))
        return sorted((msgspec.json.decode(value, type=Order) for value in found.values()), key=lambda one: one.id)

    async def holds(self) -> list[Hold]:
        """All there ever were, oldest first."""
        found: Any = await self._redis.hgetall(holds_key(self._shard))
        return sorted((msgspec.json.decode(value, type=Hold) for value in found.values()), key=lambda one: one.id)

    async def ids(self, order: str) -> set[str]:
        """The interactions that an order erases."""
        found: Any = await self._redis.smembers(erased_ids_key(self._shard, order))
        return {value.decode() for value in found}

    async def erased_ids(self) -> dict[str, set[str]]:
        """Every interaction that was ever erased, by the order's id: what was derived from them is to be marked."""
        return {order.id: await self.ids(order.id) for order in await self.orders()}

    async def add_ids(self, found: Mapping[str, Collection[str]]) -> int:
        """Interactions that were found to be erased, by the order's id. How many were not known."""
        added = 0
        for order, ids in found.items():
            listed = sorted(ids)
            for start in range(0, len(listed), _CHUNK):
                keys = [erased_ids_key(self._shard, order), revisions_key(self._shard)]
                added += int(await self._eval(_ADD_IDS, keys, order, *listed[start : start + _CHUNK]))
        return added

    async def count(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Records that were erased: order -> place -> how many."""
        for order, by_place in counts.items():
            for place, number in by_place.items():
                await self._eval(_COUNT, [erased_counts_key(self._shard, order)], place, str(number))

    async def counts(self, order: str) -> dict[str, int]:
        found: Any = await self._redis.hgetall(erased_counts_key(self._shard, order))
        return {place.decode(): int(number) for place, number in sorted(found.items())}

    async def revision(self) -> int:
        """0: nothing was ever ordered."""
        return int(await cast(Any, self._redis.hget(revisions_key(self._shard), REVISION)) or 0)

    async def judge(self, ids: dict[str, set[str]] | None = None, since: int = 0) -> tuple[int, Judge]:
        """The revision, and who judges by it. ids: those known at the revision `since`, which are brought up to date.

        The revision is read first: what is added meanwhile makes it grow, and is read once more.
        """
        found: Any = await self._redis.hgetall(revisions_key(self._shard))
        revisions = {name.decode(): int(value) for name, value in found.items()}
        known = {} if ids is None else ids
        orders = await self.orders()
        for order in orders:
            if order.id not in known or revisions.get(order.id, 0) > since:
                known[order.id] = await self.ids(order.id)
        return revisions.get(REVISION, 0), Judge(orders, known, Holds(await self.holds()))

    async def say(self, owner: str, host: str, revision: int, *, live: bool) -> None:
        """A journal's owner tells how far it is."""
        state = JournalState(host, revision, await self.now(), live)
        await self._set(journals_key(self._shard), owner, _json(state))

    async def forget(self, owners: Sequence[str]) -> None:
        """These owners have no journal any more: nothing is left in it, or another has adopted it."""
        if owners:
            await cast(Any, self._redis.hdel(journals_key(self._shard), *owners))

    async def journals(self) -> dict[str, JournalState]:
        """Who has a journal that may hold records, and how far each is."""
        found: Any = await self._redis.hgetall(journals_key(self._shard))
        return {owner.decode(): msgspec.json.decode(value, type=JournalState) for owner, value in found.items()}

    async def now(self) -> float:
        """Redis's clock, by which `JournalState.at` goes."""
        seconds, microseconds = await self._redis.time()
        return int(seconds) + int(microseconds) / 1e6

    async def reconcile(self) -> list[Order]:
        """Let Redis and the files agree. The orders that are to be carried out, those opened again included."""
        orders, holds = await asyncio.to_thread(self._read)
        for hold in await self.holds():
            holds.setdefault(hold.id, []).append(hold)
        in_redis = {hold.id: hold for hold in await self.holds()}
        for identifier, copies in holds.items():
            hold = reconciled_hold(copies)
            if in_redis.get(identifier) != hold or len(copies) < 2:
                await self.hold(hold)
        known = {order.id: order for order in await self.orders()}
        for identifier in sorted({*orders, *known}):
            ours = Kept(known[identifier], sorted(await self.ids(identifier))) if identifier in known else None
            theirs = orders.get(identifier)
            if ours is None or theirs is None or ours.order.status != theirs.order.status or ours.ids != theirs.ids:
                kept = reconciled(ours, theirs)
                await self.add_ids({identifier: kept.ids})
                await self.place(kept.order)
        return [order for order in await self.orders() if order.status == "open"]

    def _read(self) -> tuple[dict[str, Kept], dict[str, list[Hold]]]:
        store = self._store()
        orders = [self._decoded(store, name, Kept) for name, _ in store.list(ORDERS_FOLDER)]
        holds = [self._decoded(store, name, Hold) for name, _ in store.list(HOLDS_FOLDER)]
        return {kept.order.id: kept for kept in orders}, {hold.id: [hold] for hold in holds}

    def _decoded(self, store: Store, name: str, kind: type[T]) -> T:
        with closing(store.open(name)) as file:
            try:
                return msgspec.json.decode(file.read(), type=kind)
            except msgspec.DecodeError as error:
                raise OSError(f"{name} is no file of the erasures' ledger: {error}") from None

    def _store(self) -> Store:
        if archives(self._settings.archive):
            return store_of(self._settings.archive, self._data_dir)
        return LocalStore(self._data_dir)

    async def _write(self, folder: str, identifier: str, value: Any) -> None:
        await asyncio.to_thread(lambda: self._store().write(f"{folder}{identifier}.json", _json(value)))

    async def _set(self, key: str, field: str, value: bytes) -> None:
        await self._eval(_SET, [key], field, value)

    async def _eval(self, script: str, keys: list[str], *arguments: str | bytes) -> Any:
        return await cast(Any, self._redis.eval(script, len(keys), *keys, *arguments))


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
