"""LoRA adapters on fake workers: on all of them or on none, and back after a restart."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from gateway.errors import ApiError, Conflict, Unavailable
from gateway.workers.adapters import AdapterNotLoaded, ensure, load_everywhere, unload_everywhere, unload_from
from gateway.workers.breaker import CircuitBreaker
from gateway.workers.client import WorkerClient
from gateway.workers.worker import Worker
from tests.fakes import FakeWorker, serve

A = "/adapters/a"


@pytest.fixture
async def fakes() -> AsyncIterator[list[FakeWorker]]:
    async with serve(one := FakeWorker()), serve(two := FakeWorker()):
        yield [one, two]


@pytest.fixture
async def workers(fakes: list[FakeWorker]) -> AsyncIterator[list[Worker]]:
    async with aiohttp.ClientSession() as session:
        yield [
            Worker(WorkerClient(fake.url, session), "file", CircuitBreaker(asyncio.get_running_loop().time), up=True)
            for fake in fakes
        ]


async def nothing() -> None:
    pass


async def test_all_workers_have_it_before_it_is_in_force(fakes: list[FakeWorker], workers: list[Worker]) -> None:
    seen: list[list[dict[str, str]]] = []

    async def commit() -> None:
        seen.append([dict(fake.adapters) for fake in fakes])

    workers[1].draining = True
    await load_everywhere(workers, "a", A, commit)
    assert seen == [[{"a": A}, {"a": A}]]


async def test_where_one_fails_none_has_it_and_the_error_names_it(
    fakes: list[FakeWorker], workers: list[Worker]
) -> None:
    fakes[1].broken_adapters.add(A)
    with pytest.raises(AdapterNotLoaded) as refused:
        await load_everywhere(workers, "a", A, nothing)
    assert not fakes[0].adapters and not fakes[1].adapters
    message = refused.value.message
    assert workers[1].id in message and workers[0].id not in message and "127.0.0.1" not in message


async def test_a_worker_that_is_gone_undoes_it_and_its_address_is_not_told(
    fakes: list[FakeWorker], workers: list[Worker]
) -> None:
    await fakes[1].kill()
    with pytest.raises(AdapterNotLoaded) as refused:
        await load_everywhere(workers, "a", A, nothing)
    assert not fakes[0].adapters
    assert f"worker {workers[1].id}: it does not answer" in refused.value.message
    assert "127.0.0.1" not in refused.value.message


async def test_a_worker_that_takes_no_adapters_is_told_how_to(fakes: list[FakeWorker]) -> None:
    async with serve(without := FakeWorker(lora=False)), aiohttp.ClientSession() as session:
        worker = Worker(WorkerClient(without.url, session), "file", CircuitBreaker(asyncio.get_running_loop().time))
        worker.up = True
        with pytest.raises(Conflict, match="--enable-lora"):
            await load_everywhere([worker], "a", A, nothing)


async def test_where_it_cannot_come_into_force_none_has_it(fakes: list[FakeWorker], workers: list[Worker]) -> None:
    async def commit() -> None:
        raise Unavailable("Redis does not answer")

    with pytest.raises(Unavailable):
        await load_everywhere(workers, "a", A, commit)
    assert not fakes[0].adapters and not fakes[1].adapters


async def test_one_that_had_it_already_keeps_it_when_another_fails(
    fakes: list[FakeWorker], workers: list[Worker]
) -> None:
    fakes[0].adapters["a"] = A
    fakes[1].broken_adapters.add(A)
    with pytest.raises(AdapterNotLoaded):
        await load_everywhere(workers, "a", A, nothing)
    assert fakes[0].adapters == {"a": A}


async def test_one_of_that_name_from_elsewhere_is_replaced(fakes: list[FakeWorker], workers: list[Worker]) -> None:
    fakes[0].adapters["a"] = "/elsewhere"
    await load_everywhere(workers, "a", A, nothing)
    assert fakes[0].adapters == fakes[1].adapters == {"a": A}


async def test_workers_that_are_down_or_going_are_not_asked(fakes: list[FakeWorker], workers: list[Worker]) -> None:
    workers[0].up = False
    await load_everywhere(workers, "a", A, nothing)
    assert not fakes[0].adapters and fakes[1].adapters
    workers[1].leaving = True
    with pytest.raises(Unavailable):
        await load_everywhere(workers, "b", A, nothing)


async def test_a_worker_gets_what_it_lacks_and_no_more(fakes: list[FakeWorker], workers: list[Worker]) -> None:
    client, fake = workers[0].client, fakes[0]
    fake.adapters.update({"a": A, "other": "/other", "moved": "/from"})

    async def ensured() -> bool:
        served = {model.id: model for model in await client.served_models()}
        return await ensure(client, served, {"a": A, "b": "/b", "moved": "/to"})

    assert await ensured()
    assert fake.adapters == {"a": A, "b": "/b", "moved": "/to", "other": "/other"}
    assert not await ensured()


async def test_two_gateways_that_mend_the_same_worker_agree(fakes: list[FakeWorker], workers: list[Worker]) -> None:
    client = workers[0].client
    changed = await asyncio.gather(ensure(client, {}, {"a": A}), ensure(client, {}, {"a": A}))
    assert all(changed)
    assert fakes[0].adapters == {"a": A}


async def test_an_adapter_that_cannot_be_loaded_keeps_a_worker_from_getting_ready(
    fakes: list[FakeWorker], workers: list[Worker]
) -> None:
    fakes[0].broken_adapters.add(A)
    with pytest.raises(ApiError):
        await ensure(workers[0].client, {}, {"a": A})


async def test_unloading_goes_on_where_one_worker_is_gone(fakes: list[FakeWorker], workers: list[Worker]) -> None:
    fakes[1].adapters["a"] = A
    await fakes[0].kill()
    await unload_everywhere(workers, "a")
    assert not fakes[1].adapters


async def test_unloading_what_is_not_there_changes_nothing(fakes: list[FakeWorker], workers: list[Worker]) -> None:
    fakes[0].adapters["b"] = "/b"
    await unload_from(workers[0].client, "a")
    assert fakes[0].adapters == {"b": "/b"}
