"""What operators change about the workers, in front of a real Redis and pools of fake workers: two gateways follow."""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.errors import BadRequest, NotFound, Unavailable
from gateway.shared.note import Note
from gateway.workers import fleet as fleets
from gateway.workers import fleet_state
from gateway.workers.adapters import AdapterNotLoaded, load_everywhere
from gateway.workers.fleet import Fleet
from gateway.workers.fleet_state import FLEET
from gateway.workers.pool import WorkerPool
from scorers.endpoint import Endpoint
from tests.fakes import FakeWorker, serve
from tests.gateway.log.conftest import RedisServer
from tests.gateway.workers.pools import pool_of, worker_of
from tests.waiting import until

POLL_S = 0.02
A = "/adapters/a"
NOTE = Note("key:a", 1000.0, "because")


@asynccontextmanager
async def following(
    redis: Redis, folder: Path, *fakes: FakeWorker, registry: CollectorRegistry | None = None
) -> AsyncIterator[tuple[Fleet, WorkerPool]]:
    """One gateway's fleet with its pool; the fakes, already served, are in its configuration."""
    async with pool_of(check=False) as pool:
        template = Endpoint(fakes[0].url if fakes else "http://127.0.0.1:1")
        fleet = Fleet(
            redis,
            folder,
            {"policy": pool},
            {"policy": template},
            registry or CollectorRegistry(),
            poll_s=POLL_S,
            mend_s=60.0,
            settle_s=0.0,
        )
        fleet.offer("policy", [Endpoint(fake.url) for fake in fakes], "file")
        await fleet.start()
        await pool.check()
        try:
            yield fleet, pool
        finally:
            await fleet.close()


@pytest.fixture
async def fakes() -> AsyncIterator[list[FakeWorker]]:
    async with serve(one := FakeWorker()), serve(two := FakeWorker()):
        yield [one, two]


def urls(pool: WorkerPool) -> set[str]:
    return {worker.client.url for worker in pool.workers}


async def test_every_gateway_follows_what_is_added_drained_and_removed(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    one, two = fakes
    async with (
        following(redis, tmp_path / "a", one) as (fleet, pool),
        following(redis, tmp_path / "b", one) as (_, other),
    ):
        added = await fleet.add_worker("policy", two.url + "/", NOTE)
        assert added.source == "admin" and urls(pool) == {one.url, two.url}
        await until(lambda: urls(other) == {one.url, two.url})

        await fleet.drain(worker_of(pool, one).id, True, NOTE)
        assert worker_of(pool, one).draining
        await until(lambda: worker_of(other, one).draining)
        await fleet.drain(worker_of(pool, one).id, False, NOTE)
        await until(lambda: not worker_of(other, one).draining)

        for fake in fakes:
            await fleet.remove(worker_of(pool, fake).id, NOTE)
        await until(lambda: not other.workers)
        assert not pool.workers
        for fake in fakes:
            await fleet.add_worker("policy", fake.url, NOTE)
        await until(lambda: urls(other) == {one.url, two.url})
        assert worker_of(other, one).source == "file"


async def test_a_removed_or_drained_address_is_so_when_dns_names_it_later(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    one, two = fakes
    endpoints = [Endpoint(fake.url) for fake in fakes]
    async with following(redis, tmp_path) as (fleet, pool):
        fleet.offer("policy", endpoints, "dns")
        await fleet.drain(worker_of(pool, one).id, True, NOTE)
        await fleet.remove(worker_of(pool, two).id, NOTE)
        fleet.offer("policy", [], "dns")
        assert not pool.workers
        fleet.offer("policy", endpoints, "dns")
        assert urls(pool) == {one.url} and worker_of(pool, one).draining


async def test_while_redis_is_away_the_last_known_counts_also_after_a_restart(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    one, two = fakes
    registry = CollectorRegistry()
    async with following(redis, tmp_path / "a", one, registry=registry) as (fleet, pool):
        await fleet.add_worker("policy", two.url, NOTE)
        await pool.check()
        await fleet.load_adapter("policy", "a", A, NOTE)
        await fleet.drain(worker_of(pool, two).id, True, NOTE)
        redis_server.kill()
        await until(lambda: (registry.get_sample_value("bestow_fleet_poll_failures_total") or 0) > 0)
        assert urls(pool) == {one.url, two.url} and pool.adapters == {"a": A}
        with pytest.raises(Unavailable):
            await fleet.drain(worker_of(pool, two).id, False, NOTE)
        with pytest.raises(Unavailable):
            await fleet.load_adapter("policy", "b", "/b", NOTE)
        assert set(one.adapters) == set(two.adapters) == {"a"}
    assert stat.S_IMODE((tmp_path / "a" / "fleet.json").stat().st_mode) == 0o600
    async with following(redis, tmp_path / "a", one) as (again, pool):
        assert urls(pool) == {one.url, two.url} and pool.adapters == {"a": A} and worker_of(pool, two).draining
        redis_server.start()
        await fleet_follows(again, redis)


async def fleet_follows(fleet: Fleet, redis: Redis) -> None:
    """Until a change made elsewhere arrives."""
    await FLEET.change(redis, None, fleet_state.drain_workers([("policy", "x")], True, NOTE))
    await until(lambda: "x" in fleet.state.of("policy").drained)


async def test_a_redis_that_lost_everything_gets_it_back(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    one, two = fakes
    async with following(redis, tmp_path / "a", one) as (fleet, pool):
        await fleet.add_worker("policy", two.url, NOTE)
        await redis.flushall()
        fresh = tmp_path / "b"
        async with asyncio.timeout(5):
            while not await FLEET.read_version(redis):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with following(redis, fresh, one) as (_, other):
            assert urls(other) == {one.url, two.url}
        assert urls(pool) == {one.url, two.url}


async def test_a_change_just_after_redis_lost_everything_loses_nothing(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    one, two = fakes
    async with following(redis, tmp_path, one) as (fleet, pool):
        await fleet.add_worker("policy", two.url, NOTE)
        await redis.flushall()
        await fleet.drain(worker_of(pool, one).id, True, NOTE)
        stored = await FLEET.read(redis)
        assert set(stored.of("policy").added) == {two.url} and set(stored.of("policy").drained) == {one.url}


async def test_many_operators_at_once_lose_no_change(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    async with following(redis, tmp_path) as (fleet, pool):
        await asyncio.gather(*(fleet.add_worker("policy", f"http://127.0.0.1:{port}", NOTE) for port in range(1, 9)))
        assert len(pool.workers) == 8 and fleet.state.version == 8


async def test_an_adapter_is_on_all_workers_of_every_gateway_and_goes_from_all(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    one, two = fakes
    async with (
        following(redis, tmp_path / "a", *fakes) as (fleet, pool),
        following(redis, tmp_path / "b", *fakes) as (_, other),
    ):
        await fleet.load_adapter("policy", "a", A, NOTE)
        assert one.adapters == two.adapters == {"a": A}
        assert pool.able("a") == 2 and fleet.state.of("policy").adapters["a"].note == NOTE
        await until(lambda: other.adapters == {"a": A})
        assert (await fleet.load_adapter("policy", "a", A, NOTE)).path == A

        await fleet.unload_adapter("policy", "a", NOTE)
        assert not one.adapters and not two.adapters
        assert pool.able("a") == 0 and not pool.adapters
        await until(lambda: not other.adapters and other.able("a") == 0)
        await fleet.load_adapter("policy", "a", "/adapters/a2", NOTE)
        assert one.adapters == two.adapters == {"a": "/adapters/a2"} and pool.able("a") == 2


async def test_an_adapter_that_one_worker_refuses_is_nowhere_and_may_be_tried_again(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    one, two = fakes
    async with following(redis, tmp_path, *fakes) as (fleet, pool):
        two.broken_adapters.add(A)
        with pytest.raises(AdapterNotLoaded):
            await fleet.load_adapter("policy", "a", A, NOTE)
        assert not one.adapters and not pool.adapters
        two.broken_adapters.clear()
        await fleet.load_adapter("policy", "a", A, NOTE)
        assert one.adapters == two.adapters == {"a": A}


async def test_where_redis_goes_away_half_way_no_worker_keeps_it(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, fakes: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = fakes
    async with following(redis, tmp_path, *fakes) as (fleet, pool):

        async def cut(*given: object) -> None:
            redis_server.kill()
            await load_everywhere(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(fleets, "load_everywhere", cut)
        with pytest.raises(Unavailable):
            await fleet.load_adapter("policy", "a", A, NOTE)
        assert not one.adapters and not two.adapters and not pool.adapters


async def test_a_worker_that_starts_anew_has_its_adapters_before_it_takes_requests(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    one, _ = fakes
    async with following(redis, tmp_path, *fakes) as (fleet, pool):
        await fleet.load_adapter("policy", "a", A, NOTE)
        await one.kill()
        await pool.check()
        one.broken_adapters.add(A)
        await one.restart()
        await pool.check()
        assert not worker_of(pool, one).up
        one.broken_adapters.clear()
        await pool.check()
        assert worker_of(pool, one).up and one.adapters == {"a": A} and "a" in worker_of(pool, one).models


async def test_what_should_be_gone_is_unloaded_where_it_turns_up_later(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    one, two = fakes
    async with following(redis, tmp_path, *fakes) as (fleet, pool):
        await fleet.load_adapter("policy", "a", A, NOTE)
        await one.kill()
        await pool.check()
        await fleet.unload_adapter("policy", "a", NOTE)
        await one.restart()
        one.adapters.update({"a": A, "by hand": "/x"})
        await pool.check()
        assert pool.able("a") == 0
        await fleet.mend()
        assert one.adapters == {"by hand": "/x"} and not two.adapters


async def test_what_a_dead_gateway_left_half_loaded_goes_when_its_claim_runs_out(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    one, _ = fakes
    async with following(redis, tmp_path, *fakes) as (fleet, pool):
        now = fleet.now()
        one.adapters["a"] = A
        claim = fleet_state.claim_adapter
        await FLEET.change(redis, None, claim("policy", "a", A, until=now + 100, now=now))
        await until(lambda: "a" in pool.retired)
        await pool.check()
        await fleet.mend()
        assert one.adapters == {"a": A}
        await FLEET.change(redis, None, fleet_state.give_up_adapter("policy", "a", now=now - 1))
        await until(lambda: fleet.state.of("policy").retired["a"] < now)
        await fleet.mend()
        assert not one.adapters


async def test_unknown_workers_policies_and_adapters_are_named(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    async with following(redis, tmp_path) as (fleet, _):
        with pytest.raises(NotFound, match="w-none"):
            await fleet.drain("w-none", True, NOTE)
        with pytest.raises(BadRequest, match="there is policy"):
            await fleet.add_worker("other", "http://127.0.0.1:1", NOTE)
        with pytest.raises(NotFound, match="there is none"):
            await fleet.unload_adapter("policy", "a", NOTE)
        with pytest.raises(Unavailable, match="no worker of this policy is up"):
            await fleet.load_adapter("policy", "a", A, NOTE)
