"""The gateway's part in what others have ordered: it has open orders carried out, and looks for what came back.

Ledger and files are compared when the gateway starts and when Redis does, since either may have been restored from a
copy that is older than an erasure. An order that is open is carried out in a process of its own (`__main__`): looking
through everything would keep requests waiting. Of all gateways, the one that gets the archiver's lock does it.
"""

import asyncio
import logging
import random
import uuid
from contextlib import suppress
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.config import Config
from gateway.errors import ConfigError
from gateway.log.archive.lock import ArchiverLock
from gateway.log.erase.erasing import Receipt, ready
from gateway.log.erase.ledger import Ledger
from gateway.log.outage import Outage
from gateway.log.own_process import ProcessFailed, have_done
from gateway.tasks import being_cancelled, end

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
_TIMEOUT_S = 4 * 3600.0


class Task(msgspec.Struct):
    """What the process is told. config: what it needs of the configuration. token: of the archiver's lock it gets."""

    config: dict[str, Any]
    token: str


class EraseRunner:
    """redis: the gateway's; the caller closes it."""

    def __init__(
        self, config: Config, redis: Redis, registry: CollectorRegistry, *, rng: random.Random | None = None
    ) -> None:
        self._shard = config.log.shard
        self._plain = config.model_dump(mode="json", include={"data_dir", "gateway", "redis", "log"})
        self._redis = redis
        self._ledger = Ledger(redis, config.log, config.data_dir)
        self._rng = rng or random.Random()
        self._outage = Outage("What was ordered to be erased cannot be erased yet", self._rng)
        self._compare = True
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._done = Counter(
            "bestow_erasures", "Orders to erase a person that this gateway had carried out.", ["status"],
            registry=registry,
        )  # fmt: skip
        self._open = Gauge("bestow_erasures_open", "Orders to erase a person that are not done.", registry=registry)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="bestow-erase")

    async def close(self) -> None:
        await end(self._task)

    def redis_changed(self) -> None:
        """Redis has restarted, or another took over: it may have forgotten orders."""
        self._compare = True
        self._wanted.set()

    def look_now(self) -> None:
        """There is a new order."""
        self._wanted.set()

    async def look(self) -> list[Receipt]:
        """Have open orders carried out, where that brings them further and nobody else does it.

        Raises redis.exceptions.RedisError, OSError, ConfigError, TimeoutError and ProcessFailed.
        """
        if self._compare:
            await self._ledger.reconcile()
            self._compare = False
        orders = await self._ledger.orders()
        self._open.set(sum(order.status != "done" for order in orders))
        if not any(order.status == "open" for order in orders):
            return []
        journals, revision = await self._ledger.journals(), await self._ledger.revision()
        if not any(ready(order, journals, revision) for order in orders):
            return []
        lock = ArchiverLock(self._redis, self._shard, uuid.uuid4().hex)
        if not await lock.take():
            return []
        try:
            out = await have_done("gateway.log.erase", Task(self._plain, lock.token), _TIMEOUT_S)
        finally:
            with suppress(RedisError, OSError):  # It expires by itself.
                await lock.release()
        receipts = msgspec.json.decode(out, type=list[Receipt])
        for receipt in receipts:
            self._done.labels(receipt.order.status).inc()
            logger.warning("The order to erase %s was carried out: %s.", receipt.order.id, receipt.order.status)
            for sentence in receipt.by_hand:
                logger.warning("%s", sentence)
        return receipts

    async def _run(self) -> None:
        while not being_cancelled():
            self._wanted.clear()
            try:
                await self.look()
                self._outage.worked()
            except (RedisError, OSError, ConfigError, TimeoutError, ProcessFailed) as error:
                self._outage.failed(error)
            except Exception:  # A bug must not end erasing for good.
                logger.exception("Erasing failed")
            try:
                # Gateways that are started together do not look together.
                async with asyncio.timeout(LOOK_EVERY_S * self._rng.uniform(0.5, 1.0)):
                    await self._wanted.wait()
            except TimeoutError:
                pass
