"""Orders carried out, from what is found to what is left to do. Needs no terminal.

Whoever does it holds the archiver's lock, so that nothing moves between stream and archive. In this order:

 1. which interactions are a person's: found in streams and archive, and by gateways in their journals; written down;
 2. entries, votes, stored responses, kept answers and archived rows erased;
 3. the gateways waited for, which erase in their journals and memory and then say so;
 4. 1 and 2 again, for what had been on its way, until nothing new is found;
 5. Redis's files rewritten.

Stopped anywhere in between, the order stays open, and is carried out from the beginning.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.config import LogConfig
from gateway.log import audit
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.opening import MISSING, store_of
from gateway.log.archive.parts import partition
from gateway.log.archive.store import Store
from gateway.log.erase.caches import Caches, HashUser
from gateway.log.erase.compacting import compact
from gateway.log.erase.entries import erase_entries, found_entries, found_interactions
from gateway.log.erase.judge import Holds, Judge
from gateway.log.erase.ledger import JournalState, Ledger
from gateway.log.erase.orders import Order, new_order
from gateway.log.keys import STREAM_NAMES

# How long a journal's owner is believed to live since it last said so, and to exist at all.
BELIEVED_S = 20.0
EXISTS_S = 30 * 86_400.0
WAIT_S = 60.0
_LOOK_EVERY_S = 0.1

# Told what is being done, in words; for a person who waits.
Say = Callable[[str], None]
ByPlace = Mapping[str, Mapping[str, int]]


class Receipt(msgspec.Struct, frozen=True):
    """What became of an order. journals: how many gateways' journals there are. by_hand: what an operator has to do."""

    order: Order
    journals: int = 0
    by_hand: list[str] = []


async def order_erasure(
    redis: Redis, settings: LogConfig, data_dir: Path, tenant: str, user: str, *, by: str, now: float, reason: str = ""
) -> Order:
    """Order that all is erased that a user left until now; gateways begin at once, and finish it within minutes.

    user: the keyed hash (`signing.Signer.hash_user`). by: as the audit log names who does something. Raises
    gateway.errors.BestowError, redis.exceptions.RedisError and OSError, and then nothing was ordered.
    """
    order = new_order(tenant, user, by=by, now=now, reason=reason)
    entry = audit.AuditEntry(
        at=now, actor=by, action="erase", tenant=tenant, target=f"subject {order.subject}", detail=f"order {order.id}"
    )
    await audit.note(redis, settings.shard, entry)
    await Ledger(redis, settings, data_dir).place(order)
    return order


class Eraser:
    """Carries out all open orders. lock: taken, and kept, by the caller. hash_user: by the gateways' secret.

    wait_s: how long to wait for gateways that live. Raises redis.exceptions.RedisError, LockLost, OSError, ConfigError.
    """

    def __init__(
        self,
        redis: Redis,
        settings: LogConfig,
        data_dir: Path,
        lock: ArchiverLock,
        *,
        hash_user: HashUser,
        clock: Callable[[], float],
        say: Say = lambda _: None,
        wait_s: float = WAIT_S,
    ) -> None:
        self._redis = redis
        self._shard = settings.shard
        self._lock = lock
        self._hash_user = hash_user
        self._clock = clock
        self._say = say
        self._wait_s = wait_s
        self._ledger = Ledger(redis, settings, data_dir)
        # Whether anything is archived now or not: something may have been.
        store = store_of(settings.archive, data_dir)
        self._store: Store | None = store if find_spec("pyarrow") else None
        self._by_hand: list[str] = []
        if self._store is None and any(store.list(partition(kind)) for kind in STREAM_NAMES):
            self._by_hand.append(f"There is an archive, and {MISSING}: install it, and run bestow erase --replay.")
        self._archive_done_at: int | None = None
        self._met: dict[str, set[str]] = {}

    async def carry_out(self) -> list[Receipt]:
        """A receipt for each order that was open, those included that came back with old data."""
        orders = await self._ledger.reconcile()
        if not orders:
            return []
        revision, journals = await self._sweep_until_clean()
        self._say("Redis rewrites its files")
        by_hand = self._by_hand + await compact(self._redis, self._say)
        return [await self._settle(order, revision, journals, by_hand) for order in orders]

    async def would_erase(self, judge: Judge) -> dict[str, int]:
        """How many records there are to erase, by place; what is in journals alone is not known here."""
        found: dict[str, int] = {}
        ids = await self._found(judge)
        judge = judge.knowing(ids)
        for kind, number in (await found_entries(self._redis, self._shard, judge)).items():
            found[kind] = number
        caches = Caches(self._redis, self._shard, judge, self._hash_user, dry=True)
        await caches.erase()
        for by_place in caches.counts.values():
            for place, number in by_place.items():
                found[place] = found.get(place, 0) + number
        if self._store is not None:
            counts = await self._archive("archived_counts", judge)
            found["archive"] = sum(counts.values())
        return found

    async def _sweep_until_clean(self) -> tuple[int, dict[str, JournalState]]:
        """Until a sweep that began after all gateways had done their part has found nothing new.

        The ledger's revision that it was about, and all journals, those included that were waited for in vain.
        """
        revision = await self._ledger.revision()
        waited_for = None if _behind(await self._journals(), revision) else revision
        head = True
        while True:
            revision = await self._sweep(head=head)
            journals = await self._wait_for_journals(revision)
            if waited_for == revision == await self._ledger.revision():
                return revision, journals
            waited_for, head = revision, False

    async def _sweep(self, *, head: bool) -> int:
        """Erase whatever is found. Returns the ledger's revision of which all is erased."""
        while True:
            revision, judge = await self._ledger.judge()
            if not await self._ledger.add_ids(await self._found(judge, revision)):
                break
        self._say("erasing from the streams")
        entries = await erase_entries(self._redis, self._shard, judge, self._lock, head=head)
        await self._ledger.count({order: {"streams": number} for order, number in entries.items()})
        self._say("erasing votes, stored responses and kept answers")
        caches = Caches(self._redis, self._shard, judge, self._hash_user)
        await caches.erase()
        await self._ledger.count(caches.counts)
        if self._store is not None and self._archive_done_at != revision:
            rows = await self._archive("erase_archived", judge)
            await self._ledger.count({order: {"archive": number} for order, number in rows.items()})
            self._archive_done_at = revision
        for order, holds in judge.met.items():
            self._met.setdefault(order, set()).update(holds)
        return revision

    async def _found(self, judge: Judge, revision: int | None = None) -> dict[str, set[str]]:
        """The interactions to be erased that are to be seen, by the order."""
        self._say("looking through the streams")
        found = await found_interactions(self._redis, self._shard, judge)
        if self._store is not None and (revision is None or self._archive_done_at != revision):
            for order, ids in (await self._archive("archived_interactions", judge)).items():
                found.setdefault(order, set()).update(ids)
        return found

    async def _archive(self, what: str, judge: Judge) -> Any:
        """A function of `archived`, in a thread."""
        from gateway.log.erase import archived  # noqa: PLC0415  # pyarrow: 0.3 s

        assert self._store is not None
        said = {"archived_interactions": "looking through", "archived_counts": "counting in"}.get(what, "erasing from")

        def progress(done: int, of: int) -> None:
            self._say(f"{said} the archive: file {done} of {of}")

        return await asyncio.to_thread(getattr(archived, what), self._store, judge, progress)

    async def _wait_for_journals(self, revision: int) -> dict[str, JournalState]:
        """Until all gateways that live have erased, or have been waited for long enough."""
        try:
            async with asyncio.timeout(self._wait_s):
                while True:
                    journals = await self._journals()
                    now = await self._ledger.now()
                    behind = _behind(journals, revision)
                    if not any(state.live and now - state.at <= BELIEVED_S for state in behind.values()):
                        return journals
                    self._say(
                        f"{len(journals) - len(behind)} of {len(journals)} gateways have erased from their journals"
                    )
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            return await self._journals()

    async def _journals(self) -> dict[str, JournalState]:
        journals, now = await self._ledger.journals(), await self._ledger.now()
        await self._ledger.forget([owner for owner, state in journals.items() if now - state.at > EXISTS_S])
        return {owner: state for owner, state in journals.items() if now - state.at <= EXISTS_S}

    async def _settle(
        self, order: Order, revision: int, journals: dict[str, JournalState], by_hand: list[str]
    ) -> Receipt:
        holds = set(self._met.get(order.id, ()))
        if (whole := Holds(await self._ledger.holds()).of_order(order)) is not None:
            holds.add(whole.id)
        outstanding = sorted(_behind(journals, revision))
        settled = msgspec.structs.replace(
            order,
            status="held" if holds else "open" if outstanding else "done",
            finished=self._clock(),
            outstanding=outstanding,
            holds=sorted(holds),
            counts=await self._ledger.counts(order.id),
        )
        await self._ledger.settle(settled)
        return Receipt(settled, len(journals), by_hand)


def ready(order: Order, journals: Mapping[str, JournalState], revision: int) -> bool:
    """Whether carrying out an open order can bring it further: whom it waited for has erased, or is no more."""
    if order.status != "open":
        return False
    behind = _behind(journals, revision)
    return not any(owner in behind for owner in order.outstanding)


def _behind(journals: Mapping[str, JournalState], revision: int) -> dict[str, JournalState]:
    return {owner: state for owner, state in journals.items() if state.revision < revision}


async def taken(lock: ArchiverLock, say: Say, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Take the archiver's lock, waiting for who has it."""
    while not await lock.take():
        say("waiting for a round of archiving to end")
        await sleep(_LOOK_EVERY_S)
