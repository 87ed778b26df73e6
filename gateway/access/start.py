"""Before a gateway listens: may it, where it was told to?"""

import asyncio
import time

from redis.exceptions import RedisError

from gateway.access import cache, store
from gateway.access.snapshot import Snapshot, succeed
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.log.connection import connect, redis_address
from scorers.local import is_loopback

TIMEOUT_S = 5.0

_FIX = (
    "Make one first (`bestow keys create --name NAME --scope admin`; where `bestow up` runs Redis, start it on "
    "127.0.0.1 for that), or use 127.0.0.1, or set gateway.allow_anonymous: true where something in front checks who "
    "calls."
)


def check_address(config: Config) -> None:
    """Raises ConfigError where other machines could reach a gateway that nobody has a key for."""
    host = config.gateway.host
    if is_loopback(host) or config.gateway.allow_anonymous:
        return
    found = asyncio.run(_read(config))
    known = cache.load(cache.cache_file(config.data_dir))
    if found is None and known is None:
        where = "Redis does not answer" if config.redis.url else "redis.url names no Redis"
        raise ConfigError(
            f"gateway.host is {host}, which other machines can reach, and whether there are API keys is not known: "
            f"{where}, and there is no copy in {config.data_dir}. {_FIX}"
        )
    held = known if found is None else succeed(known, found)[0]
    assert held is not None
    if not held.has_usable_key(time.time()):
        raise ConfigError(f"gateway.host is {host}, which other machines can reach, and there are no API keys. {_FIX}")


def keys_on_disk(config: Config) -> bool:
    """Whether the copy in the data directory has a usable key."""
    known = cache.load(cache.cache_file(config.data_dir))
    return known is not None and known.has_usable_key(time.time())


async def _read(config: Config) -> Snapshot | None:
    if config.redis.url is None:
        return None
    redis = connect(redis_address(config.redis))
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await store.read(redis)
    except (RedisError, TimeoutError, OSError):
        return None
    finally:
        await redis.aclose()
