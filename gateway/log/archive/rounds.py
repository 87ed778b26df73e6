"""One whole round, as gateways have it done and as `bestow log archive` does it: old records are moved into the
archive, and what is there is put in order, where that is due.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing

import msgspec
from redis.asyncio import Redis

from gateway.access import store as access
from gateway.config import Config
from gateway.log.archive.archiver import Archiver, Report
from gateway.log.archive.due import housekeeping_due
from gateway.log.archive.housekeeping import Housekeeping
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.opening import store_of
from gateway.log.archive.parts import Row
from gateway.log.archive.redaction import redaction
from gateway.log.archive.retention import Retention
from gateway.log.archive.retiring import Held, Retiring
from gateway.log.archive.store import Store
from gateway.log.erase.judge import Holds, about
from gateway.log.erase.ledger import HOLDS_FOLDER, Ledger
from gateway.log.erase.orders import Hold, reconciled_hold
from gateway.log.frames import Kind

logger = logging.getLogger(__name__)


async def run_round(
    redis: Redis,
    config: Config,
    lock: ArchiverLock,
    models: Mapping[str, int],
    *,
    everything: bool = False,
    compact: bool | None = None,
    clock: Callable[[], float] = time.time,
) -> Report:
    """The caller holds the lock. config: `data_dir`, `redis` and `log` of it are read. models: their retention.

    everything: see `Archiver.round`. compact: merge small parts, all there are; None: some, from time to time.
    Raises BestowError, redis.exceptions.RedisError, OSError and what the store's package raises.
    """
    settings, shard, now = config.log.archive, config.log.shard, clock()
    store = store_of(settings, config.data_dir)
    retention = await _retention(redis, settings.retain_days, models)
    unreadable = 0
    try:
        retiring = await _retiring(redis, config, store, retention, now)
    except OSError as error:
        logger.warning("The legal holds cannot be read, so nothing is removed from the archive: %s", error)
        retiring, unreadable = Retiring(store, Retention(), now), 1
    archiver = Archiver(redis, shard, store, settings, lock, clock=clock, treat=redaction(config), retiring=retiring)
    report = await archiver.round(everything=everything)
    report.unreadable += unreadable
    due = await housekeeping_due(redis, shard, now)
    keeping = Housekeeping(redis, shard, store, lock, report)
    if due or compact is not None:
        await keeping.retire(retiring)
        if compact is not False:
            await keeping.compact(everything=compact is True)
            await keeping.finish(now)
    return report


async def _retention(redis: Redis, overall: int | None, models: Mapping[str, int]) -> Retention:
    tenants = (await access.read(redis)).all_tenants()
    own = {tenant.name: tenant.log.retain_days for tenant in tenants}
    return Retention(overall, models, {name: days for name, days in own.items() if days is not None})


async def _retiring(redis: Redis, config: Config, store: Store, retention: Retention, now: float) -> Retiring:
    copies: dict[str, list[Hold]] = {}
    # A Redis that has lost its data does not know of a hold, and what is deleted does not come back.
    for hold in [*await Ledger(redis, config.log, config.data_dir).holds(), *await asyncio.to_thread(_filed, store)]:
        copies.setdefault(hold.id, []).append(hold)
    holds = [hold for hold in map(reconciled_hold, copies.values()) if hold.active]
    if not holds:
        return Retiring(store, retention, now)
    stamp = hashlib.sha256(" ".join(sorted(hold.id for hold in holds)).encode()).hexdigest()
    return Retiring(store, retention, now, held=_held(Holds(holds)), stamp=stamp)


def _filed(store: Store) -> list[Hold]:
    """Raises OSError where one cannot be read."""
    holds = []
    for name, _ in store.list(HOLDS_FOLDER):
        with closing(store.open(name)) as file:
            try:
                holds.append(msgspec.json.decode(file.read(), type=Hold))
            except msgspec.DecodeError as error:
                raise OSError(f"{name} is no legal hold that can be read: {error}") from None
    return holds


def _held(holds: Holds) -> Held:
    def held(_: Kind, row: Row) -> bool:
        said = about(row.data)
        return said is not None and holds.held(said) is not None

    return held
