"""All open orders carried out, in a process of its own: `python -m gateway.log.erase`, started by `runner`.

See `own_process`; standard output is a list of `erasing.Receipt`.
"""

import sys
import time

from gateway.config import parse
from gateway.log.archive.archiver import keeping
from gateway.log.archive.lock import ArchiverLock
from gateway.log.connection import connect, redis_address
from gateway.log.erase.erasing import Eraser, Receipt
from gateway.log.erase.runner import Task
from gateway.log.own_process import do
from gateway.signing import signer_of

# As long as the store or Redis may take for one thing.
_SOCKET_TIMEOUT_S = 30.0


async def erase(task: Task) -> list[Receipt]:
    """Raises BestowError, RedisError, OSError and what the store's package raises."""
    config = parse(task.config)
    hash_user = signer_of(config).hash_user
    async with connect(redis_address(config.redis), socket_timeout_s=_SOCKET_TIMEOUT_S) as redis:
        lock = ArchiverLock(redis, config.log.shard, task.token)
        async with keeping(lock):
            eraser = Eraser(redis, config.log, config.data_dir, lock, hash_user=hash_user, clock=time.time)
            return await eraser.carry_out()


if __name__ == "__main__":
    sys.exit(do(Task, erase))
