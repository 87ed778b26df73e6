"""A Redis Cluster that loses the server that has the log's shard, under load."""

import asyncio
from pathlib import Path

import pytest

from gateway.log.connection import connect
from gateway.log.keys import interactions_key
from tests.gateway.log.faults.steady import assert_all_there, steady
from tests.gateway.log.log_samples import SHARD
from tests.gateway.log.redis_fleets import Cluster, asked
from tests.waiting import until

KEY = interactions_key(SHARD)


async def test_a_master_is_killed_and_its_replica_takes_over(cluster: Cluster, tmp_path: Path) -> None:
    master = cluster.master_of(KEY)
    replica = cluster.replica_of(master)
    async with connect(cluster.url) as redis:
        async with steady(tmp_path, redis) as load:
            master.kill()
            await until(lambda: not load.log.health().redis)
            await until(lambda: load.log.health().redis, 60)
            assert cluster.master_of(KEY) is replica
        assert load.refused == 0
        await assert_all_there(cluster.url, load)


async def test_a_master_hands_over_to_its_replica(cluster: Cluster, tmp_path: Path) -> None:
    replica = cluster.replica_of(cluster.master_of(KEY))
    async with connect(cluster.url) as redis:
        async with steady(tmp_path, redis) as load:
            with asked(replica) as admin:
                admin.execute_command("CLUSTER", "FAILOVER", "FORCE")
            await until(lambda: cluster.master_of(KEY) is replica)
            await load.more(1.0)
        assert load.refused == 0
        await assert_all_there(cluster.url, load)


@pytest.mark.slow
async def test_a_master_without_a_replica_is_killed_and_restarted(cluster: Cluster, tmp_path: Path) -> None:
    master = cluster.master_of(KEY)
    cluster.replica_of(master).kill()
    async with connect(cluster.url) as redis:
        async with steady(tmp_path, redis) as load:
            master.kill()
            await until(lambda: not load.log.health().redis)
            await load.more(5.0)
            await asyncio.to_thread(cluster.start_server, master)
            await until(lambda: load.log.health().redis, 60)
        assert load.refused == 0
        await assert_all_there(cluster.url, load)
