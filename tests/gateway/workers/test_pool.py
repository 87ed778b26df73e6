"""Who is in a pool, who is up, and who gets a request."""

import asyncio

import aiohttp
import pytest

from gateway.errors import Unavailable, WorkerError
from gateway.workers.fan_out import Order
from scorers.endpoint import Endpoint
from tests.fakes import FakeWorker, serve
from tests.gateway.workers.pools import BODY, NOBODY, pool_of, sampled, worker_of
from tests.waiting import until


async def test_a_worker_of_another_model_gets_nothing_and_says_why() -> None:
    other = FakeWorker(model="other")
    async with pool_of(other) as pool:
        assert not pool.ready
        assert "other" in pool.workers[0].reason
        with pytest.raises(Unavailable):
            await sampled(pool, 1)


async def test_what_a_worker_serves_and_its_version_and_limits_are_read_from_it() -> None:
    async with pool_of(FakeWorker(max_model_len=2048, version="0.32.1", adapters={"poet": "/a/poet"})) as pool:
        [worker] = pool.workers
        assert worker.version == "0.32.1"
        assert pool.max_model_len == 2048
        assert set(worker.models) == {"policy", "poet"}
        assert worker.load.engine is not None
        assert worker.load.engine.kv_tokens == 100_000


async def test_changes_in_what_a_worker_serves_are_followed() -> None:
    fake = FakeWorker()
    async with pool_of(fake) as pool:
        fake.adapters["poet"] = "/a/poet"
        await pool.check()
        assert "poet" in pool.workers[0].models
        fake.model = "other"
        await pool.check()
        assert not pool.ready


async def test_a_worker_that_refuses_connections_is_down_at_once_and_back_by_itself() -> None:
    fake = FakeWorker()
    async with pool_of(fake) as pool:
        await pool.start()
        await fake.kill()
        await until(lambda: not pool.ready)
        await fake.restart()
        await until(lambda: pool.ready)


async def test_a_silent_worker_is_down_after_three_questions_not_after_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.workers.health.ANSWER_WITHIN_S", 0.05)
    fake = FakeWorker()
    async with pool_of(fake) as pool:
        fake.hang = True
        seen = []
        for _ in range(3):
            await pool.check()
            seen.append(pool.ready)
        fake.hang = False
        assert seen == [True, True, False]
        await pool.check()
        assert pool.ready


async def test_a_worker_that_is_late_for_questions_while_its_tokens_arrive_stays_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.workers.health.ANSWER_WITHIN_S", 0.05)
    fake = FakeWorker()
    async with pool_of(fake) as pool:
        fake.hang = True
        for _ in range(5):
            asked = asyncio.create_task(pool.check())
            await asyncio.sleep(0.01)
            pool.workers[0].client.heard_at = asyncio.get_running_loop().time()
            await asked
        assert pool.ready
        fake.hang = False


async def test_a_worker_that_was_away_is_trusted_again() -> None:
    fake = FakeWorker(error=(500, {"message": "no"}))
    async with pool_of(fake) as pool:
        for _ in range(5):
            with pytest.raises(WorkerError):
                await sampled(pool, 1)
        assert not pool.workers[0].breaker.allows()
        await fake.kill()
        await pool.check()
        await fake.restart()
        await pool.check()
        assert pool.workers[0].breaker.allows()


async def test_with_every_breaker_open_the_least_bad_is_tried_all_the_same() -> None:
    fake = FakeWorker(error=(500, {"message": "no"}))
    async with pool_of(fake) as pool:
        for _ in range(6):
            with pytest.raises(WorkerError):
                await sampled(pool, 1)
        fake.error = None
        assert await sampled(pool, 1) == ["one"]


async def test_a_draining_worker_finishes_what_it_has_and_gets_nothing_new() -> None:
    fakes = [FakeWorker(delays_s=[0.05]), FakeWorker()]
    async with pool_of(*fakes) as pool:
        worker_of(pool, fakes[1]).load.take(1, 1e9)
        running = asyncio.create_task(sampled(pool, 2))
        await until(lambda: bool(fakes[0].requests))
        pool.drain(worker_of(pool, fakes[0]))
        assert worker_of(pool, fakes[0]).state == "draining"
        for _ in range(5):
            await sampled(pool, 1)
        assert len(await running) == 2
        assert len(fakes[0].requests) == 1
        pool.drain(worker_of(pool, fakes[0]), on=False)
        await sampled(pool, 1)
        assert len(fakes[0].requests) == 2


async def test_a_worker_that_is_named_no_more_goes_when_it_has_finished() -> None:
    fakes = [FakeWorker(delays_s=[0.05]), FakeWorker()]
    async with pool_of(*fakes) as pool:
        worker_of(pool, fakes[1]).load.take(1, 1e9)
        running = asyncio.create_task(sampled(pool, 2))
        await until(lambda: bool(fakes[0].requests))
        pool.put([Endpoint(fakes[1].url)], "file")
        assert len(pool.workers) == 2
        assert len(await running) == 2
        assert [worker.client.url for worker in pool.workers] == [fakes[1].url]


async def test_a_worker_that_is_named_again_stays() -> None:
    fake = FakeWorker(delays_s=[0.05])
    async with pool_of(fake) as pool:
        running = asyncio.create_task(sampled(pool, 2))
        await until(lambda: bool(fake.requests))
        pool.put([], "file")
        pool.put([Endpoint(fake.url)], "file")
        await running
        assert pool.ready


async def test_a_source_names_its_own_workers_only() -> None:
    async with pool_of(FakeWorker()) as pool:
        pool.put([Endpoint(NOBODY)], "admin")
        pool.put([Endpoint("http://127.0.0.1:2"), Endpoint(NOBODY)], "dns")
        assert [worker.source for worker in pool.workers] == ["file", "admin", "dns"]
        pool.put([], "dns")
        assert [worker.source for worker in pool.workers] == ["file", "admin"]


async def test_a_worker_that_joins_a_running_pool_is_asked_and_used() -> None:
    first, second = FakeWorker(), FakeWorker()
    async with serve(second), pool_of(first) as pool:
        await pool.start()
        pool.put([Endpoint(first.url), Endpoint(second.url)], "file")
        await until(lambda: worker_of(pool, second).up)
        await asyncio.gather(*(sampled(pool, 4) for _ in range(4)))
        assert second.requests


async def test_requests_for_an_adapter_go_only_where_it_is() -> None:
    fakes = [FakeWorker(), FakeWorker(adapters={"poet": "/a/poet"}), FakeWorker()]
    async with pool_of(*fakes) as pool:
        for _ in range(6):
            await sampled(pool, 1, adapter="poet")
    assert [len(fake.requests) for fake in fakes] == [0, 6, 0]
    assert {asked["model"] for asked in fakes[1].requests} == {"poet"}


async def test_an_adapter_that_no_worker_has_is_unavailable() -> None:
    async with pool_of(FakeWorker()) as pool:
        with pytest.raises(Unavailable):
            await sampled(pool, 1, adapter="poet")


async def test_a_worker_gets_its_adapters_before_it_takes_traffic() -> None:
    fake = FakeWorker()
    async with pool_of(fake, check=False) as pool:
        pool.adapters = {"poet": "/a/poet"}
        await pool.check()
        assert fake.adapters == {"poet": "/a/poet"}
        assert "poet" in pool.workers[0].models
        await fake.kill()
        await pool.check()
        await fake.restart()
        await pool.check()
        assert fake.adapters == {"poet": "/a/poet"}
        assert pool.ready


async def test_a_worker_that_cannot_have_its_adapters_takes_no_traffic() -> None:
    fake = FakeWorker(broken_adapters={"/a/poet"})
    async with pool_of(fake, check=False) as pool:
        pool.adapters = {"poet": "/a/poet"}
        await pool.check()
        assert not pool.ready


async def test_the_capacity_is_what_usable_workers_have() -> None:
    fakes = [FakeWorker(running_elsewhere=3, waiting=2, kv_usage=0.5), FakeWorker(model="other")]
    async with pool_of(*fakes, max_sequences=10) as pool:
        await pool.check()  # what waits is a queue where it still waits the next time
        full = pool.capacity()
        assert (full.places, full.running, full.others, full.waiting, full.kv_usage) == (10, 0, 5, 2, 0.5)
        pool.drain(worker_of(pool, fakes[0]))
        assert pool.capacity().places == 0


async def test_a_question_goes_to_another_worker_where_one_fails() -> None:
    gone, well = FakeWorker(), FakeWorker()
    async with pool_of(gone, well) as pool:
        await gone.kill()
        for _ in range(10):
            assert await pool.detokenize([1, 2]) == "t1 t2"


async def test_metrics_that_nobody_knows_are_counted_and_not_read_as_idle() -> None:
    async with pool_of(FakeWorker(metrics="engine:sequences 3\n")) as pool:
        assert pool.ready
        [worker] = pool.workers
        assert worker.load.engine is None
        assert pool.metrics.unknown_metrics.labels("policy", worker.id)._value.get() == 1


async def test_no_name_of_a_worker_tells_its_address() -> None:
    async with pool_of(FakeWorker(), FakeWorker()) as pool:
        ids = [worker.id for worker in pool.workers]
        assert len(set(ids)) == 2
        for worker in pool.workers:
            assert worker.client.url.rpartition(":")[2] not in worker.id


async def test_an_abandoned_request_frees_its_worker() -> None:
    fake = FakeWorker(delays_s=[0.0, 60.0])
    async with pool_of(fake) as pool:
        items = pool.sample(Order(BODY, 2))
        async for _ in items:
            break
        await items.aclose()
        assert pool.workers[0].load.sequences == 0
        await until(lambda: fake.running == 0)


async def test_a_session_is_the_callers_and_stays_open() -> None:
    async with pool_of(FakeWorker()) as pool:
        session: aiohttp.ClientSession = pool._session
        await pool.close()
        assert not session.closed
