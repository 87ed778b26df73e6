"""One candidate in parts of so many tokens: what its worker is asked for, and what comes back."""

from gateway.workers.fan_out import Order
from gateway.workers.stream import Choice, Item, Part, SampleEnd, SampleStart
from tests.fakes import FakeWorker
from tests.gateway.workers.pools import BODY, pool_of
from tests.gateway.workers.test_fan_out import send_to

TEN = "a b c d e f g h i j"


def parts_of(items: list[Item]) -> list[str]:
    return [str(item.delta["content"]) for item in items if isinstance(item, Part) and item.tokens]


async def test_parts_are_as_long_as_was_asked_for_but_for_the_first_and_the_last() -> None:
    worker = FakeWorker(texts=[TEN])
    async with pool_of(worker) as pool:
        found = [item async for item in pool.sample(Order(BODY, 1, interval=4))]
    assert parts_of(found) == ["a ", "b c d e ", "f g h i ", "j"]
    assert [item.message["content"] for item in found if isinstance(item, Choice)] == [TEN]
    assert worker.requests[0]["stream_interval"] == 4


async def test_without_an_interval_one_candidate_comes_token_by_token_and_many_in_few_parts() -> None:
    worker = FakeWorker(texts=[TEN])
    async with pool_of(worker) as pool:
        for n in (1, 2):
            assert [item async for item in pool.sample(Order(BODY, n))]
    assert [body.get("stream_interval") for body in worker.requests] == [None, 16]


async def test_one_that_is_sampled_again_elsewhere_says_that_its_parts_begin_anew() -> None:
    broken, well = FakeWorker(texts=[TEN], break_after=6), FakeWorker(texts=["other", TEN])
    async with pool_of(broken, well) as pool:
        send_to(pool, broken)
        found = [item async for item in pool.sample(Order({**BODY, "seed": 5}, 1, interval=4))]
    kinds = [type(item) for item in found if not isinstance(item, Part) or item.tokens]
    assert kinds == [SampleStart, Part, Part, SampleStart, Part, Part, Part, Part, Choice, SampleEnd]
    assert parts_of(found) == ["a ", "b c d e ", "a ", "b c d e ", "f g h i ", "j"]
    assert [body["seed"] for body in (*broken.requests, *well.requests)] == [5, 5]
    assert [item.message["content"] for item in found if isinstance(item, Choice)] == [TEN]
    # What the lost worker had sent was spent too.
    assert found[-1] == SampleEnd(7, 15, {}, {"prompt_token_ids": list(range(7))})
