"""One sampling request over several workers: what is lost with one is sampled by another."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.errors import ApiError, BadRequest, Unavailable, WorkerError
from gateway.workers.fan_out import Order
from gateway.workers.pool import WorkerPool
from gateway.workers.stream import Choice, Part, SampleEnd, SampleStart
from tests.fakes import FakeWorker, logprob
from tests.gateway.workers.pools import BODY, pool_of, sampled, worker_of
from tests.waiting import until


def send_to(pool: WorkerPool, fake: FakeWorker) -> None:
    """Make the other workers less attractive."""
    for worker in pool.workers:
        if worker.client.url != fake.url:
            worker.load.take(1, 1e9)


async def test_choices_arrive_as_they_finish_and_usage_last() -> None:
    worker = FakeWorker(texts=["slow", "fast"], delays_s=[0.1, 0.0])
    async with pool_of(worker) as pool:
        found = [one async for one in pool.sample(Order(BODY, 2))]
    assert [one.message["content"] for one in found if isinstance(one, Choice)] == ["fast", "slow"]
    assert found[-1] == SampleEnd(7, 2)


async def test_candidates_lost_with_a_worker_come_from_another_one() -> None:
    broken, well = FakeWorker(break_after=2), FakeWorker(texts=["a", "b", "c", "d"])
    async with pool_of(broken, well) as pool:
        send_to(pool, broken)
        found = [one async for one in pool.sample(Order(BODY, 4))]
    choices = [one for one in found if isinstance(one, Choice)]
    assert sorted(one.index for one in choices) == [0, 1, 2, 3]
    assert sum(one.message["content"] in ("one", "two") for one in choices) == 2
    assert well.requests[0]["n"] == 2
    assert sum(isinstance(one, SampleStart) for one in found) == 1
    end = found[-1]
    assert isinstance(end, SampleEnd)
    assert end.completion_tokens == 4


async def test_a_seeded_candidate_keeps_its_seed_elsewhere() -> None:
    broken = FakeWorker(texts=["one", "two", "three", "four", "five"], delays_s=[0.01, 0.0, 0.02, 0.0, 0.03])
    broken.break_after = 2
    well = FakeWorker()
    async with pool_of(broken, well) as pool:
        send_to(pool, broken)
        assert len(await sampled(pool, 5, body={"seed": 100})) == 5
    # Candidates 1 and 3 had come; vLLM counts seeds upwards, so each gap is a request of its own.
    assert sorted((asked["seed"], asked["n"]) for asked in well.requests) == [(100, 1), (102, 1), (104, 1)]


async def test_a_worker_that_is_gone_is_skipped_and_marked_down_at_once() -> None:
    gone, well = FakeWorker(), FakeWorker()
    async with pool_of(gone, well) as pool:
        send_to(pool, gone)
        await gone.kill()
        assert len(await sampled(pool, 2)) == 2
        assert [worker.up for worker in pool.workers] == [False, True]
        assert worker_of(pool, gone).load.sequences == 0


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_a_worker_that_fails_by_itself_is_not_the_last_word(status: int) -> None:
    failing = FakeWorker(error=(status, {"message": "no", "type": "x", "code": status}))
    well = FakeWorker()
    async with pool_of(failing, well) as pool:
        send_to(pool, failing)
        assert len(await sampled(pool, 2)) == 2
    assert len(failing.requests) == len(well.requests) == 1


async def test_a_clients_mistake_is_not_tried_again_and_does_not_count_against_the_worker() -> None:
    strict = FakeWorker(error=(400, {"message": "top_p: must be a number", "type": "x", "param": "top_p", "code": 400}))
    other = FakeWorker()
    async with pool_of(strict, other) as pool:
        send_to(pool, strict)
        for _ in range(10):
            with pytest.raises(BadRequest):
                await sampled(pool, 2)
        assert worker_of(pool, strict).breaker.state == "closed"
    assert not other.requests


async def test_a_request_that_breaks_two_workers_does_not_get_a_third() -> None:
    fakes = [FakeWorker(break_after=0) for _ in range(4)]
    async with pool_of(*fakes) as pool:
        with pytest.raises(WorkerError):
            await sampled(pool, 2)
    assert sum(len(fake.requests) for fake in fakes) == 2


async def test_no_more_than_three_attempts_are_made() -> None:
    fakes = [FakeWorker(error=(500, {"message": "no"})) for _ in range(5)]
    async with pool_of(*fakes) as pool:
        with pytest.raises(WorkerError):
            await sampled(pool, 2)
    assert sum(len(fake.requests) for fake in fakes) == 3


async def test_where_all_fail_retries_stay_within_their_budget() -> None:
    fakes = [FakeWorker(error=(500, {"message": "no"})) for _ in range(2)]
    async with pool_of(*fakes) as pool:

        async def one() -> None:
            with pytest.raises(ApiError):
                await sampled(pool, 1)

        for _ in range(40):
            await asyncio.gather(*(one() for _ in range(10)))
        refused = pool.metrics.exhausted.labels("policy")._value.get()
    asked = sum(len(fake.requests) for fake in fakes)
    assert refused > 0
    # 400 first attempts, a fifth of them again, and what a quiet gateway may: 5 a second for 10 seconds.
    assert 400 < asked <= 400 + 80 + 51


async def test_what_the_survivors_gave_is_not_lost_where_the_rest_cannot_be_had() -> None:
    worker = FakeWorker(break_after=2)
    async with pool_of(worker) as pool:
        found = []
        with pytest.raises(WorkerError):
            async for item in pool.sample(Order(BODY, 4, deadline=asyncio.get_running_loop().time())):
                if isinstance(item, Choice):
                    found.append(item.index)
    assert found == [0, 1]


async def test_without_a_worker_that_is_up_it_says_so_at_once() -> None:
    async with pool_of(FakeWorker(model="other")) as pool:
        with pytest.raises(Unavailable):
            await sampled(pool, 1)


async def test_many_candidates_are_split_over_workers_that_have_room() -> None:
    fakes = [FakeWorker(texts=[str(i) for i in range(40)]) for _ in range(3)]
    async with pool_of(*fakes, split_n=8) as pool:
        found = [one async for one in pool.sample(Order({**BODY, "seed": 5}, 20))]
    assert sorted(one.index for one in found if isinstance(one, Choice)) == list(range(20))
    assert sorted((asked["seed"], asked["n"]) for fake in fakes for asked in fake.requests) == [
        (5, 6),
        (11, 7),
        (18, 7),
    ]
    end = found[-1]
    assert isinstance(end, SampleEnd)
    assert (end.prompt_tokens, end.completion_tokens) == (7, 20)


async def test_few_candidates_stay_together() -> None:
    fakes = [FakeWorker(), FakeWorker()]
    async with pool_of(*fakes, split_n=8) as pool:
        await sampled(pool, 8)
    assert sorted(len(fake.requests) for fake in fakes) == [0, 1]


async def test_load_is_counted_before_sending_so_that_a_burst_spreads() -> None:
    fakes = [FakeWorker(delays_s=[0.05]) for _ in range(2)]
    async with pool_of(*fakes) as pool:
        await asyncio.gather(*(sampled(pool, 4) for _ in range(8)))
        assert all(worker.load.sequences == 0 and worker.load.score() == 0 for worker in pool.workers)
    assert [len(fake.requests) for fake in fakes] == [4, 4]


async def test_the_turns_of_a_conversation_meet_the_same_worker() -> None:
    fakes = [FakeWorker() for _ in range(8)]
    messages = [{"role": "user", "content": "Tell me of the sea, " * 10}]
    async with pool_of(*fakes) as pool:
        for _ in range(4):
            await sampled(pool, 2, body={"messages": messages})
            messages = [*messages, {"role": "assistant", "content": "one"}, {"role": "user", "content": "More."}]
    assert sorted(len(fake.requests) for fake in fakes) == [0] * 7 + [4]


async def live(pool: WorkerPool, **body: object) -> tuple[str, Choice, SampleEnd]:
    """The text as it came, the choice at its end, and what was used."""
    text = ""
    choice, end = None, None
    async for item in pool.sample(Order({**BODY, **body}, 1, live=True)):
        if isinstance(item, Part):
            text += item.delta.get("content") or ""
        elif isinstance(item, Choice):
            choice = item
        elif isinstance(item, SampleEnd):
            end = item
    assert choice is not None
    assert end is not None
    return text, choice, end


def words_of(pool: WorkerPool) -> None:
    """What the fake's token ids stand for: its words, each with its space."""

    async def detokenize(tokens: Sequence[int]) -> str:
        return "".join(f"w{token} " for token in tokens)

    pool.detokenize = detokenize  # type: ignore[method-assign]


async def test_a_live_stream_goes_on_elsewhere_from_its_token_ids() -> None:
    broken, well = FakeWorker(texts=["w0 w1 w2 w3 w4"], break_after=3), FakeWorker(texts=["and on"], lenient=True)
    async with pool_of(broken, well) as pool:
        words_of(pool)
        send_to(pool, broken)
        text, choice, end = await live(pool)
    assert text == choice.message["content"] == "w0 w1 w2 and on"
    assert well.requests[0]["prompt"] == [*range(7), 0, 1, 2]
    assert well.requests[0]["max_tokens"] == 61
    assert choice.token_ids == [0, 1, 2, 0, 1]
    assert (end.prompt_tokens, end.completion_tokens) == (7, 5)


async def test_a_live_stream_that_goes_on_elsewhere_has_the_log_probabilities_of_all_its_tokens() -> None:
    broken, well = FakeWorker(texts=["w0 w1 w2 w3 w4"], break_after=3), FakeWorker(texts=["and on"], lenient=True)
    async with pool_of(broken, well) as pool:
        words_of(pool)
        send_to(pool, broken)
        found = [one async for one in pool.sample(Order(BODY, 1, live=True, logprobs=True))]
    [choice] = [one for one in found if isinstance(one, Choice)]
    assert (broken.requests[0]["logprobs"], well.requests[0]["logprobs"]) == (True, 0)
    assert choice.token_ids == [0, 1, 2, 0, 1]
    assert choice.token_logprobs == [logprob(one) for one in choice.token_ids]
    assert all(one.logprobs is None for one in found if isinstance(one, Part | Choice))


async def test_a_live_stream_that_cannot_go_on_ends_in_its_error() -> None:
    broken, well = FakeWorker(texts=["w0 w1 w2 w3 w4"], break_after=3), FakeWorker()
    async with pool_of(broken, well) as pool:
        words_of(pool)
        send_to(pool, broken)
        with pytest.raises(WorkerError):
            await live(pool, stop=["x"])
    assert not well.requests


async def test_a_live_stream_that_had_not_begun_begins_elsewhere() -> None:
    broken, well = FakeWorker(break_after=0), FakeWorker(texts=["all of it"])
    async with pool_of(broken, well) as pool:
        send_to(pool, broken)
        text, _, _ = await live(pool, stop=["x"])
    assert text == "all of it"


@pytest.mark.parametrize(("silent_after", "limits"), [(0, {"first_token_s": 0.1}), (2, {"token_s": 0.1})])
async def test_a_silent_worker_is_given_up_by_the_limit_of_the_phase(
    silent_after: int, limits: dict[str, float]
) -> None:
    silent, well = FakeWorker(silent_after=silent_after), FakeWorker()
    async with pool_of(silent, well, limits=limits) as pool:
        send_to(pool, silent)
        assert len(await sampled(pool, 4)) == 4
        silent.silent_after = None


async def test_what_waits_for_a_worker_that_is_taken_for_dead_is_sampled_elsewhere_at_once() -> None:
    hung, well = FakeWorker(), FakeWorker()
    async with pool_of(hung, well) as pool:
        send_to(pool, hung)
        hung.hang = True
        asked = asyncio.create_task(sampled(pool, 2))
        worker = worker_of(pool, hung)
        await until(lambda: worker.load.sequences == 2)
        pool._health.mark(worker, False, "it hangs")
        assert len(await asyncio.wait_for(asked, 5)) == 2
        hung.hang = False


async def test_a_failing_worker_is_left_alone_and_tried_again_by_itself() -> None:
    failing, well = FakeWorker(error=(500, {"message": "no"})), FakeWorker()
    async with pool_of(failing, well) as pool:
        for _ in range(30):
            await sampled(pool, 1)
        worker = worker_of(pool, failing)
        assert not worker.breaker.allows()
        asked = len(failing.requests)
        assert asked == 5
        failing.error = None
        worker.breaker._clock = lambda: asyncio.get_running_loop().time() + 31
        for _ in range(30):
            await sampled(pool, 1)
        assert worker.breaker.allows()
        assert len(failing.requests) > asked
