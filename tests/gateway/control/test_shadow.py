"""Shadow scoring: who is asked about what, that it holds up nothing, and what is counted of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.control import shadow_sums
from gateway.control.agreement import Agreement
from gateway.control.profiles import Profile
from gateway.control.shadow import Delivered, ShadowScoring, delivered_of
from gateway.control.shadow_sums import Pair
from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.selection.chooser import certain
from gateway.decoding.strategy import Decision
from gateway.errors import Unavailable
from gateway.log import streams
from gateway.log.frames import Entry, Kind
from gateway.log.records import Record, ScoreRecord, ShadowScores, Verdict, decode_shadow, encode
from gateway.log.sink import RedisSink
from gateway.profile_settings import ProfileConfig
from gateway.scoring import Conversation, ScorerHandle
from gateway.telemetry.metrics import Metrics
from scorers.client import ScorerClient
from tests.fakes import FakeScorers, serve
from tests.gateway.log.conftest import RedisServer
from tests.waiting import until

PROFILE = Profile("default", 3, ProfileConfig(shadow=["trial"]))
PAIR = Pair("trial@2", "default@3", "reward@1")
HELLO = Conversation([{"role": "user", "content": "hi"}])


def judged(index: int, text: str, reward: float | None, *, flagged: bool = False, broken: str | None = None) -> Judged:
    message = {"role": "assistant", "content": text}
    candidate = Candidate(index, 0, None, message, "stop", None, None, None, len(text), 1.0)
    return Judged(candidate, reward, None, Verdict(flagged=["insult"] if flagged else []), 2.0, broken)


def decided(*all_of_them: Judged, order: tuple[int, ...]) -> Decision:
    return Decision(all_of_them, order, certain(all_of_them, order), None, 0.0)


def delivered(*all_of_them: Judged, order: tuple[int, ...], profile: Profile = PROFILE) -> Delivered | None:
    return delivered_of("chatcmpl-1", "shop", profile, "reward@1", HELLO, decided(*all_of_them, order=order))


SHORT_WINS = delivered(judged(0, "a", 3.0), judged(1, "bb", 2.0), judged(2, "ccc", 1.0), order=(0, 1, 2))


@asynccontextmanager
async def shadowing(
    redis: Redis, values: Mapping[str, float] | Callable[[str], float], **options: float
) -> AsyncIterator[tuple[ShadowScoring, FakeScorers, list[Record], CollectorRegistry]]:
    records: list[Record] = []
    registry = CollectorRegistry()
    async with serve(fake := FakeScorers(values={"trial": values})), aiohttp.ClientSession() as session:
        handle = ScorerHandle("trial", "trial@2", ScorerClient(fake.url, session), 5.0, Metrics())
        given = {"after_s": 0.0, "write_s": 0.02, **options}
        shadow = ShadowScoring({"trial": handle}, records.append, redis, registry, clock=lambda: 99.0, **given)  # type: ignore[arg-type]
        await shadow.start()
        try:
            yield shadow, fake, records, registry
        finally:
            await shadow.close()


async def test_the_same_candidates_are_scored_compared_counted_and_logged(
    redis_server: RedisServer, redis: Redis
) -> None:
    async with shadowing(redis, {"a": 0.1, "bb": 0.3, "ccc": 0.2}) as (shadow, fake, records, registry):
        shadow.offer(SHORT_WINS)
        await until(lambda: bool(records))
        assert fake.asked("trial") == [["a", "bb", "ccc"]]
        [record] = records
        assert isinstance(record, ShadowScores)
        assert (record.interaction, record.tenant, record.winner) == ("chatcmpl-1", "shop", 1)
        assert (record.scorer, record.profile, record.reward_model) == ("trial@2", "default@3", "reward@1")
        assert record.created == 99.0 and record.scores[1] == ScoreRecord(0.3)
        assert decode_shadow(encode(record)) == record
        sums = await shadow.sums(["trial"])
        assert sums[PAIR].differs == 1 and sums[PAIR].tau == pytest.approx(-1 / 3) and sums[PAIR].candidates == 3

        def metric(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(name, {"scorer": "trial", **labels})

        assert metric("bestow_shadow_requests_total", outcome="scored") == 1
        assert metric("bestow_shadow_winners_total", winner="other") == 1
        assert metric("bestow_shadow_rank_distance_sum") == pytest.approx(2 / 3)
        assert metric("bestow_shadow_candidates_total") == 3 and metric("bestow_shadow_seconds_count") == 1


async def test_sums_are_those_of_all_gateways_and_outlive_them(redis_server: RedisServer, redis: Redis) -> None:
    async with shadowing(redis, len) as (one, _, said, _), shadowing(redis, len) as (two, _, also_said, _):
        for shadow, records in ((one, said), (two, also_said), (two, also_said)):
            before = len(records)
            shadow.offer(SHORT_WINS)
            await until(lambda: len(records) > before)  # noqa: B023
        found: dict[Pair, Agreement] = {}
        async with asyncio.timeout(5):
            while not found or found[PAIR].requests < 3:
                found = await one.sums(["trial"])
                await asyncio.sleep(0.01)
        assert found[PAIR].requests == 3 and found[PAIR].tau == -3.0
    assert (await shadow_sums.read(redis, ["trial"], "nobody"))[PAIR].requests == 3
    assert await redis.ttl(shadow_sums.key_of("trial")) > 86_400


async def test_while_redis_is_away_sums_wait(stopped_redis: RedisServer, redis: Redis) -> None:
    async with shadowing(redis, len) as (shadow, _, records, _):
        shadow.offer(SHORT_WINS)
        await until(lambda: bool(records))
        with pytest.raises(Unavailable):
            await shadow.sums(["trial"])
        await asyncio.sleep(0.1)
        stopped_redis.start()
        async with asyncio.timeout(5):
            while not await redis.exists(shadow_sums.key_of("trial")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert (await shadow_sums.read(redis, ["trial"], ""))[PAIR].requests == 1


async def test_few_are_scored_at_a_time_few_wait_and_the_rest_is_dropped_and_counted(redis: Redis) -> None:
    async with shadowing(redis, len, at_once=1, most_waiting=3) as (shadow, fake, records, registry):
        fake.delay_s = 0.05
        begun = asyncio.get_running_loop().time()
        for _ in range(20):
            shadow.offer(SHORT_WINS)
        assert asyncio.get_running_loop().time() - begun < 0.05, "an answer waits for nothing"
        dropped = {"scorer": "trial", "outcome": "dropped"}
        assert registry.get_sample_value("bestow_shadow_requests_total", dropped) == 17
        await until(lambda: len(records) == 3)
        await asyncio.sleep(0.1)
        assert len(fake.requests) == 3


async def test_a_scorer_that_fails_is_counted_and_gives_no_numbers(redis: Redis) -> None:
    async with shadowing(redis, len) as (shadow, fake, records, registry):
        fake.down = frozenset({"trial"})
        shadow.offer(SHORT_WINS)
        await until(lambda: bool(records))
        failed = {"scorer": "trial", "outcome": "failed"}
        assert registry.get_sample_value("bestow_shadow_requests_total", failed) == 1
        [record] = records
        assert isinstance(record, ShadowScores)
        assert record.winner is None and all(score.value is None and score.error for score in record.scores.values())


async def test_shadow_scores_lie_in_a_stream_of_their_own(redis_server: RedisServer, redis: Redis) -> None:
    record = ShadowScores("u", "chatcmpl-1", 1.0, "trial@2", "default@3", None, {0: ScoreRecord(0.5)})
    await RedisSink(redis, "0").send([Entry(Kind.SHADOW, encode(record))])
    assert [one.record for one in await streams.shadow(redis, "0").last(5)] == [record]
    assert await streams.interactions(redis, "0").length() == 0


def test_rivals_of_the_winner_differ_from_it_in_their_scores_alone() -> None:
    found = delivered(
        judged(0, "flagged", 9.0, flagged=True),
        judged(1, "winner", 3.0),
        judged(2, "no score", None),
        judged(3, "broken", 8.0, broken="no JSON"),
        judged(4, "rival", 2.0),
        order=(1, 4, 2, 3),
    )
    assert found is not None
    assert [one.candidate.index for one in found.candidates] == [0, 1, 3, 4]
    assert [found.candidates[place].candidate.index for place in found.peers] == [1, 4]
    assert found.candidates[found.chosen].candidate.index == 1


def test_without_a_reward_model_all_that_were_safe_are_rivals() -> None:
    found = delivered(judged(0, "a", None), judged(1, "b", None), judged(2, "c", None, flagged=True), order=(0, 1))
    assert found is not None and found.peers == (0, 1) and len(found.candidates) == 2


@pytest.mark.parametrize("order", [(), (0,)])
def test_where_there_is_nothing_to_compare_nobody_is_asked(order: tuple[int, ...]) -> None:
    assert delivered(judged(0, "a", 1.0), order=order) is None
    quiet = Profile("default", 1, ProfileConfig())
    assert delivered(judged(0, "a", 1.0), judged(1, "b", 2.0), order=(1, 0), profile=quiet) is None
