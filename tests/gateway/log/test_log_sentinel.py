"""A master and a replica that a real Sentinel watches."""

import asyncio
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError, RedisError

from gateway.config import RedisConfig
from gateway.log.connection import connect, redis_address
from gateway.log.keys import archived_key
from gateway.log.sink import redis_run_id
from tests.certificates import Authority
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD
from tests.gateway.log.redis_fleets import MASTER, Watched, asked
from tests.gateway.log.test_log_connection import behind_tls
from tests.waiting import until

PASSWORD = "very-secret-0815"


async def test_commands_go_to_the_master_and_soon_to_the_next_one(watched: Watched) -> None:
    key = archived_key(SHARD)
    async with connect(watched.url) as redis:
        await redis.hset(key, "field", "1")
        run = await redis_run_id(redis, SHARD)
        with asked(watched.other) as replica:
            await until(lambda: replica.hget(key, "field") == "1")
        await asyncio.to_thread(watched.fail_over)

        async def written() -> bool:
            # For a moment more the old master takes what it is given, which it will lose.
            try:
                await redis.hset(key, "field", "2")
            except RedisError:
                return False
            with asked(watched.other) as master:
                return bool(master.hget(key, "field") == "2")

        await until(written, 60)
        assert await redis_run_id(redis, SHARD) != run


async def test_an_unknown_master_is_said_with_those_that_are_known(watched: Watched) -> None:
    async with connect(watched.url.replace("mymaster", "nobody")) as redis:
        with pytest.raises(ConnectionError, match=r"watches no master 'nobody' \(it watches mymaster\)"):
            await redis.get("a")


async def test_without_a_sentinel_the_address_is_told(stopped_redis: RedisServer) -> None:
    async with connect(f"redis+sentinel://127.0.0.1:{stopped_redis.port}/m") as redis:
        with pytest.raises(ConnectionError, match=rf"the Sentinels at 127.0.0.1:{stopped_redis.port} name no master"):
            await redis.get("a")


async def test_master_and_sentinels_have_passwords_of_their_own(watched: Watched, tmp_path: Path) -> None:
    with asked(watched.one) as admin:
        admin.acl_setuser("bestow", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+@all"], keys=["*"])
    watched.ask("ACL", "SETUSER", "default", "resetpass", ">sentinels-own")
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "sentinels").write_text("sentinels-own\n")
    config = RedisConfig(
        url=watched.url,
        username="bestow",
        password_file=tmp_path / "password",
        sentinel_password_file=tmp_path / "sentinels",
    )
    async with connect(redis_address(config)) as redis:
        assert await redis.acl_whoami() == "bestow"
    async with connect(redis_address(config.model_copy(update={"sentinel_password_file": None}))) as redis:
        with pytest.raises(ConnectionError, match="name no master") as caught:
            await redis.get("a")
    assert "secret" not in str(caught.value)


async def test_sentinels_and_the_master_behind_tls_are_verified(watched: Watched, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        behind_tls(watched.one.port, authority.server()) as master,
        behind_tls(watched.port, authority.server()) as sentinel,
    ):
        port = int(master.rpartition(":")[2].removesuffix("/0"))
        watched.ask("SENTINEL", "REMOVE", MASTER)
        watched.ask("SENTINEL", "MONITOR", MASTER, "127.0.0.1", port, 1)
        url = sentinel.replace("rediss://", "rediss+sentinel://").removesuffix("/0") + "/mymaster"
        async with connect(redis_address(RedisConfig(url=url, ca_file=authority.ca_file))) as redis:
            assert await redis.echo("hello") == b"hello"
        async with connect(redis_address(RedisConfig(url=url))) as redis:
            with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                await redis.echo("hello")
