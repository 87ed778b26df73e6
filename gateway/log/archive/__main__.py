"""One round of archiving in a process of its own: `python -m gateway.log.archive`, started by `runner`.

Standard input: a line of JSON (`Order`), and then nothing until the starter is gone; this process ends with it.
Standard output: a line of JSON, `archiver.Report`. A failure is one sentence on standard error and exit code 1.
"""

import asyncio
import logging
import os
import sys
import threading
import time

import msgspec
from redis.exceptions import RedisError

from gateway.config import ArchiveConfig, parse
from gateway.errors import BestowError
from gateway.log.archive.archiver import Archiver, Report, keeping
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.opening import store_of
from gateway.log.archive.redaction import redaction
from gateway.log.archive.runner import Order
from gateway.log.connection import connect, redis_address

# Requests go first.
_NICENESS = 10
# As long as the store or Redis may take for one thing.
_SOCKET_TIMEOUT_S = 30.0


async def archive(order: Order) -> Report:
    """Raises BestowError, RedisError, OSError and what the store's package raises."""
    config = parse(order.config)
    settings: ArchiveConfig = config.log.archive
    store = store_of(settings, config.data_dir)
    async with connect(redis_address(config.redis), socket_timeout_s=_SOCKET_TIMEOUT_S) as redis:
        lock = ArchiverLock(redis, config.log.shard, order.token)
        async with keeping(lock):
            treat = redaction(config)
            archiver = Archiver(redis, config.log.shard, store, settings, lock, clock=time.time, treat=treat)
            return await archiver.round()


def main() -> int:
    os.nice(_NICENESS)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    threading.Thread(target=_end_with_starter, daemon=True).start()
    try:
        report = asyncio.run(archive(order))
    except (BestowError, RedisError, OSError) as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(msgspec.json.encode(report).decode())
    return 0


def _end_with_starter() -> None:
    # Not through sys.stdin, which the interpreter could then not close at its end.
    while os.read(0, 4096):
        pass
    os._exit(1)  # At any moment: what is half done is done again.


if __name__ == "__main__":
    sys.exit(main())
