"""One round of archiving in a process of its own: `python -m gateway.log.archive`, started by `runner`.

See `own_process`; standard output is an `archiver.Report`.
"""

import sys

from gateway.config import parse
from gateway.log.archive.archiver import Report, keeping
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.rounds import run_round
from gateway.log.archive.runner import Order
from gateway.log.connection import connect, redis_address
from gateway.log.own_process import do

# As long as the store or Redis may take for one thing.
_SOCKET_TIMEOUT_S = 30.0


async def archive(order: Order) -> Report:
    """Raises BestowError, RedisError, OSError and what the store's package raises."""
    config = parse(order.config)
    async with connect(redis_address(config.redis), socket_timeout_s=_SOCKET_TIMEOUT_S) as redis:
        lock = ArchiverLock(redis, config.log.shard, order.token)
        async with keeping(lock):
            return await run_round(redis, config, lock, order.models)


if __name__ == "__main__":
    sys.exit(do(Order, archive))
