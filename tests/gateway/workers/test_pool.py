import aiohttp
import pytest

from gateway.errors import BadRequest, ContextTooLong, Unavailable, WorkerError
from gateway.workers.client import WorkerClient, error_of
from gateway.workers.pool import WorkerPool
from gateway.workers.stream import Choice, SampleEnd
from tests.fakes import FakeWorker, serve

BODY = {"messages": [{"role": "user", "content": "hi"}]}


async def sampled(pool: WorkerPool, n: int) -> list[str]:
    return [one.message["content"] async for one in pool.sample(BODY, n) if isinstance(one, Choice)]


async def test_choices_arrive_as_they_finish_and_usage_last() -> None:
    worker = FakeWorker(texts=["slow", "fast"], delays_s=[0.1, 0.0])
    async with serve(worker), aiohttp.ClientSession() as session:
        pool = WorkerPool("policy", [WorkerClient(worker.url, session)])
        await pool.check()
        found = [one async for one in pool.sample(BODY, 2)]
    assert [one.message["content"] for one in found if isinstance(one, Choice)] == ["fast", "slow"]
    assert found[-1] == SampleEnd(7, 2)


async def test_a_worker_that_cannot_be_reached_is_skipped_and_marked_down() -> None:
    alive = FakeWorker()
    async with serve(alive), aiohttp.ClientSession() as session:
        pool = WorkerPool("policy", [WorkerClient("http://127.0.0.1:1", session), WorkerClient(alive.url, session)])
        for worker in pool.workers:
            worker.up = True
        assert len(await sampled(pool, 2)) == 2
        assert [worker.up for worker in pool.workers] == [False, True]
        assert all(worker.in_flight == 0 for worker in pool.workers)


async def test_a_worker_that_is_up_may_miss_a_question_but_not_three() -> None:
    worker = FakeWorker()
    async with aiohttp.ClientSession() as session:
        async with serve(worker):
            pool = WorkerPool("policy", [WorkerClient(worker.url, session)])
            await pool.check()
        seen = []
        for _ in range(3):
            await pool.check()
            seen.append(pool.ready)
    assert seen == [True, True, False]


async def test_a_worker_of_another_model_gets_nothing_and_says_why() -> None:
    other = FakeWorker(model="other")
    async with serve(other), aiohttp.ClientSession() as session:
        pool = WorkerPool("policy", [WorkerClient(other.url, session)])
        await pool.check()
        assert not pool.ready
        assert "other" in pool.workers[0].reason
        with pytest.raises(Unavailable):
            await sampled(pool, 1)


async def test_load_is_counted_before_sending_and_spreads_requests() -> None:
    async with aiohttp.ClientSession() as session:
        pool = WorkerPool("policy", [WorkerClient("http://a", session), WorkerClient("http://b", session)])
        for worker in pool.workers:
            worker.up = True
        first = pool.choose()
        first.in_flight += 8
        assert pool.choose() is not first


async def test_a_broken_connection_is_an_error_and_does_not_sample_twice() -> None:
    worker = FakeWorker(texts=["one", None])
    async with serve(worker), aiohttp.ClientSession() as session:
        pool = WorkerPool("policy", [WorkerClient(worker.url, session)])
        await pool.check()
        with pytest.raises(WorkerError):
            await sampled(pool, 2)
        assert len(worker.requests) == 1


def test_a_workers_400_is_the_clients_mistake_in_plain_words() -> None:
    raw = (
        b"{\"error\":{\"message\":\"1 validation error:\\n  {'type': 'float_parsing', 'loc': 'body.top_p', 'msg': "
        b'\'Input should be a valid number\', \'input\': \'x\'}","type":"Bad Request","param":"body.top_p","code":400}}'
    )
    error = error_of(400, raw)
    assert isinstance(error, BadRequest)
    assert error.param == "top_p"
    assert error.message == "top_p: Input should be a valid number"


def test_a_prompt_beyond_the_context_has_openais_code() -> None:
    error = error_of(400, b'{"error":{"message":"the maximum context length is 8","param":"input_tokens"}}')
    assert isinstance(error, ContextTooLong)


@pytest.mark.parametrize("status", [404, 500, 502])
def test_what_only_an_operator_can_mend_is_a_502_without_the_workers_address(status: int) -> None:
    error = error_of(status, b"<html>")
    assert isinstance(error, WorkerError)
    assert "http" not in error.message
