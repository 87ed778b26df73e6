"""Redis's own files: after an erasure it has them written anew, since they hold all that it ever had.

The append-only file is rewritten (BGREWRITEAOF), and the snapshot too where there is one (BGSAVE). Replicas and backups
have files of their own, and some servers forbid both: then the operator is told what to do.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.log.cluster import servers

WITHIN_S = 3600.0
_LOOK_EVERY_S = 0.2

Say = Callable[[str], None]


async def compact(redis: Redis, say: Say, *, within_s: float = WITHIN_S) -> list[str]:
    """Have the files rewritten, of every server, and wait for it. What is left to do by hand, a sentence each.

    Raises redis.exceptions.RedisError.
    """
    left: list[str] = []
    for address, server in (await servers(redis)).items():
        left += [
            f"{address}: {sentence}" if address else sentence for sentence in await _compact(server, say, within_s)
        ]
    return left


async def _compact(redis: Redis, say: Say, within_s: float) -> list[str]:
    left: list[str] = []
    facts = await _persistence(redis)
    if facts is None:
        return [
            "Redis does not tell whether it keeps files (INFO is forbidden): have its append-only file and its "
            "snapshots rewritten, or their provider's backups deleted."
        ]
    if facts.get("aof_enabled"):
        left += await _done(redis, "BGREWRITEAOF", "append-only file", "aof_last_bgrewrite_status", say, within_s)
    # Or somebody has had one written by hand since Redis started.
    if await _saves(redis) or int(facts.get("rdb_last_bgsave_time_sec", -1)) >= 0:
        left += await _done(redis, "BGSAVE", "snapshot", "rdb_last_bgsave_status", say, within_s)
    try:
        replicas = int((await redis.info("replication")).get("connected_slaves", 0))
    except ResponseError:
        replicas = 0
    if replicas:
        left.append(f"Redis has {replicas} replicas, with files of their own: run BGREWRITEAOF and BGSAVE on each.")
    return left


async def _done(redis: Redis, command: str, what: str, status: str, say: Say, within_s: float) -> list[str]:
    """Begin it, once whatever else Redis writes is written, and wait for its end."""
    by_hand = f"run {command} on Redis, and wait until INFO persistence says that it is done."
    try:
        async with asyncio.timeout(within_s):
            await _idle(redis, what, say)
            await cast(Any, redis).execute_command(command)
            await asyncio.sleep(_LOOK_EVERY_S / 4)
            await _idle(redis, what, say)
    except ResponseError as error:
        return [f"Redis did not rewrite its {what} ({error}): {by_hand}"]
    except TimeoutError:
        return [f"Redis did not finish its {what} within {within_s:.0f} s: {by_hand}"]
    facts = await _persistence(redis) or {}
    if facts.get(status) != "ok":
        return [f"Redis could not write its {what}, most likely for want of disk or memory: mend that, and {by_hand}"]
    return []


async def _idle(redis: Redis, what: str, say: Say) -> None:
    while True:
        facts = await _persistence(redis) or {}
        busy = [name for name in _BUSY if facts.get(name)]
        if not busy:
            return
        say(f"Redis rewrites its {what}")
        await asyncio.sleep(_LOOK_EVERY_S)


_BUSY = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")


async def _persistence(redis: Redis) -> dict[str, Any] | None:
    try:
        return await redis.info("persistence")
    except ResponseError:
        return None


async def _saves(redis: Redis) -> bool:
    """Whether Redis writes snapshots; yes where it will not tell."""
    try:
        found: Any = await redis.config_get("save")
    except ResponseError:
        return True
    return bool(found.get("save"))
