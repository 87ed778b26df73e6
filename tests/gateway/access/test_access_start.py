"""Where a gateway may listen."""

import asyncio
import time
from pathlib import Path

import pytest

from gateway.access import cache, store
from gateway.access.changes import create_key, revoke_key
from gateway.access.snapshot import Snapshot
from gateway.access.start import check_address
from gateway.config import Config, parse
from gateway.errors import ConfigError
from gateway.log.connection import connect
from tests.gateway.log.conftest import RedisServer


def at(host: str, folder: Path, url: str | None = None, **gateway: bool) -> Config:
    return parse({"data_dir": str(folder), "gateway": {"host": host, **gateway}, "redis": {"url": url}})


async def make_key(url: str, *, revoked: bool = False) -> None:
    async with connect(url) as redis:
        now = time.time()
        made = await store.change(
            redis, create_key(name="n", tenant="default", scopes=["admin"], expires=None, created_by="", now=now)
        )
        if revoked:
            await store.change(redis, revoke_key(made.record.id, now=now))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_key(host: str, tmp_path: Path) -> None:
    check_address(at(host, tmp_path))


def test_other_machines_are_served_without_keys_only_where_that_is_allowed(tmp_path: Path) -> None:
    check_address(at("0.0.0.0", tmp_path, allow_anonymous=True))


def test_without_redis_and_copy_it_is_not_known_whether_there_are_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Redis does not answer, and there is no copy"):
        check_address(at("0.0.0.0", tmp_path, "redis://127.0.0.1:1/0"))


def test_a_usable_key_in_redis_is_needed(redis_server: RedisServer, tmp_path: Path) -> None:
    config = at("0.0.0.0", tmp_path, redis_server.url)
    with pytest.raises(ConfigError, match=r"there are no API keys.*bestow keys create --name NAME --scope admin"):
        check_address(config)
    asyncio.run(make_key(redis_server.url, revoked=True))
    with pytest.raises(ConfigError, match="there are no API keys"):
        check_address(config)
    asyncio.run(make_key(redis_server.url))
    check_address(config)


def test_the_copy_counts_while_redis_is_away(redis_server: RedisServer, tmp_path: Path) -> None:
    asyncio.run(make_key(redis_server.url))

    async def read() -> Snapshot:
        async with connect(redis_server.url) as redis:
            return await store.read(redis)

    cache.save(cache.cache_file(tmp_path), asyncio.run(read()))
    redis_server.kill()
    check_address(at("0.0.0.0", tmp_path, redis_server.url))
