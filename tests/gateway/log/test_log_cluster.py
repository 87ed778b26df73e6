"""A real Redis Cluster: what a client of it does, and that all that a gateway keeps in Redis works there."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError, RedisError

from gateway.config import RedisConfig
from gateway.launch.checks import check_redis
from gateway.log import streams
from gateway.log.cluster import key_of, servers
from gateway.log.connection import RedisAddress, connect, redis_address
from gateway.log.keys import archived_key, interactions_key
from gateway.log.sink import redis_run_id
from gateway.shared.transaction import transact
from tests.certificates import Authority
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD, interaction, thumb
from tests.gateway.log.redis_fleets import Cluster, asked
from tests.gateway.log.running import accept_many, running
from tests.gateway.log.test_log_connection import behind_tls
from tests.waiting import until

# Of three servers, each has some.
TAGS = "abcdefgh"


async def test_commands_go_to_whoever_has_the_key(cluster: Cluster) -> None:
    async with connect(cluster.url) as redis:
        for tag in TAGS:
            await redis.set(f"{{{tag}}}:one", tag)
        assert [await redis.get(f"{{{tag}}}:one") for tag in TAGS] == [tag.encode() for tag in TAGS]
        assert await redis.mget([f"{{{TAGS[0]}}}:one", f"{{{TAGS[0]}}}:two"]) == [b"a", None]
        assert await redis.xread({"{a}:stream": "0"}, block=10) in ([], {}, None)
        assert await redis.ping()
        assert {key async for key in redis.scan_iter("*:one")} == {f"{{{tag}}}:one".encode() for tag in TAGS}
        assert len(await servers(redis)) == 3


async def test_scripts_are_loaded_on_every_server(cluster: Cluster) -> None:
    async with connect(cluster.url) as redis:
        double = redis.register_script("return redis.call('APPEND', KEYS[1], ARGV[1])")
        assert [await double(keys=[f"{{{tag}}}"], args=["ab"]) for tag in TAGS] == [2] * len(TAGS)
        pipeline = redis.pipeline(transaction=False)
        for _ in range(2):
            await double(keys=["{a}"], args=["c"], client=pipeline)
        assert await pipeline.execute() == [3, 4]


async def test_transactions_see_each_others_changes(cluster: Cluster) -> None:
    async with connect(cluster.url) as redis, connect(cluster.url) as other:
        for tag in TAGS:
            key = f"{{{tag}}}:count"
            tries: list[int] = []

            async def attempt(pipe: Any, key: str = key, tries: list[int] = tries) -> int:
                found = int(await pipe.get(key) or 0)
                tries.append(found)
                if len(tries) == 1:
                    await other.set(key, 10)
                pipe.multi()
                pipe.set(key, found + 1)
                return found

            assert await transact(redis, key, attempt, "the count") == 10
            assert (tries, await redis.get(key)) == ([0, 10], b"11")


async def test_a_pipeline_over_two_hash_tags_is_refused(cluster: Cluster) -> None:
    async with connect(cluster.url) as redis:
        pipeline = redis.pipeline()
        pipeline.get("{a}:one")
        with pytest.raises(RedisError, match="one hash tag"):
            pipeline.get("{b}:one")


async def test_a_slot_that_another_server_takes_over_is_followed_at_once(cluster: Cluster) -> None:
    key = archived_key(SHARD)
    async with connect(cluster.url) as redis:
        await redis.hset(key, "field", "1")
        run = await redis_run_id(redis, SHARD)
        master = cluster.master_of(key)
        replica = cluster.replica_of(master)
        with asked(replica) as admin:
            admin.execute_command("CLUSTER", "FAILOVER")
        await until(lambda: cluster.master_of(key) is replica)
        # The connections to the old master are still there, and it still answers.
        assert await redis.hget(key, "field") == b"1"
        pipeline = redis.pipeline(transaction=True)
        pipeline.hset(key, "field", "2")
        pipeline.hgetall(key)
        assert await pipeline.execute() == [0, {b"field": b"2"}]
        assert await redis_run_id(redis, SHARD) != run


async def test_a_server_that_stands_still_is_not_asked_for_ever(cluster: Cluster) -> None:
    key = archived_key(SHARD)
    async with connect(cluster.url, socket_timeout_s=0.5) as redis:
        await redis.hset(key, "field", "1")
        stopped = cluster.master_of(key)
        stopped.signal(signal.SIGSTOP)

        async def answered() -> bool:
            try:
                return await redis.hget(key, "field") == b"1"
            except RedisError:
                return False

        try:
            await until(answered, 60)
        finally:
            stopped.signal(signal.SIGCONT)


async def test_users_of_its_access_list_and_tls_are_the_same_in_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("very-secret-0815")
    authority = Authority(tmp_path)
    nodes = [RedisServer(tmp_path / f"node{number}") for number in range(3)]
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(behind_tls(node.port, authority.server())) for node in nodes]
        cluster = Cluster(nodes, announced=[int(url.rpartition(":")[2].removesuffix("/0")) for url in urls])
        stack.callback(cluster.kill)
        await asyncio.to_thread(cluster.start)
        for node in nodes:
            with asked(node) as admin:
                admin.acl_setuser(
                    "bestow", enabled=True, passwords=["+very-secret-0815"], commands=["+@all"], keys=["bestow:*"]
                )
        url = urls[0].replace("rediss://", "rediss+cluster://")
        settings = RedisConfig(
            url=url, username="bestow", password_file=tmp_path / "password", ca_file=authority.ca_file
        )
        async with connect(redis_address(settings)) as redis:
            for tag in TAGS:
                await redis.set(f"bestow:{{{tag}}}", tag)
                assert await redis.get(f"bestow:{{{tag}}}") == tag.encode()
            with pytest.raises(RedisError, match="permission"):
                await redis.set("{a}:other", "1")
        async with connect(redis_address(RedisConfig(url=url))) as redis:
            with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                await redis.get("a")


async def test_the_doctor_looks_at_every_server(cluster: Cluster) -> None:
    found = await check_redis(RedisAddress(cluster.url))
    assert [one.level for one in found] == ["ok"] * 3
    assert {one.what.rpartition(", 127.0.0.1:")[2] for one in found} == {str(one.port) for one in cluster.servers[:3]}


async def test_without_any_server_the_address_is_told(stopped_redis: RedisServer) -> None:
    async with connect(f"redis+cluster://127.0.0.1:{stopped_redis.port}") as redis:
        with pytest.raises(ConnectionError, match=rf"no server of the cluster answers: .*{stopped_redis.port}"):
            await redis.get("{a}")


async def test_a_server_that_is_in_no_cluster_is_named(redis_server: RedisServer) -> None:
    async with connect(f"redis+cluster://127.0.0.1:{redis_server.port}") as redis:
        with pytest.raises(RedisError, match=r"is no server of a cluster: leave \+cluster out"):
            await redis.get("{a}")


async def test_the_log_keeps_and_reads_records_in_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    async with connect(cluster.url) as redis:
        async with running(tmp_path, redis) as (log, _):
            ids = accept_many(log, 700)
            voted = interaction()
            log.accept(voted)
            vote = thumb(voted.id)
            log.accept(vote)
            assert await log.drained(15)
            assert (await log.votes(voted.id)).feedback == [vote]
        reader = streams.interactions(redis, SHARD)
        assert {logged.record.id async for logged in reader.after()} == {*ids, voted.id}
        assert reader.duplicates == 0
        follower = streams.Follower(
            redis,
            SHARD,
            interactions=streams.interactions(redis, SHARD),
            feedback=streams.feedback(redis, SHARD),
            after=("0-0", "0-0"),
        )
        assert len(await follower.next(block_ms=50)) == streams.PAGE + 1


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "a"), "a"),
        (("EVALSHA", "sha", 2, "a", "b", "argument"), "a"),
        (("EVAL", "return 1", 0), None),
        (("XREAD", b"COUNT", 10, b"STREAMS", "a", "b", "0", "0"), "a"),
        (("XREADGROUP", "GROUP", "g", "c", "STREAMS", interactions_key("0"), ">"), interactions_key("0")),
        (("XGROUP CREATE", "a", "group", "0"), "a"),
        (("SCRIPT LOAD", "return 1"), None),
        (("INFO", "server"), None),
        (("MULTI",), None),
        (("WATCH", "a"), "a"),
    ],
)
def test_the_key_of_a_command_is_found(command: tuple[object, ...], key: str | None) -> None:
    assert key_of(command) == key
