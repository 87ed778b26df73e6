from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway.log.frames import Entry, Kind
from gateway.log.records import Feedback, encode
from gateway.log.sink import RedisSink
from gateway.log.streams import latest_votes, votes_of
from gateway.log.votes import merge, standing
from tests.gateway.log.conftest import RedisServer

USERS = ("ada", "bob")


def vote(number: int, user: str, value: bool, retracted: bool) -> Feedback:
    return Feedback(
        id=f"01990000-0000-7000-8000-{number:012x}",
        interaction="chatcmpl-1",
        created=float(number),
        kind="thumbs",
        value=value,
        user=user,
        retracted=retracted,
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Feedback]:
    """Votes and retractions of two people, in the order they were given."""
    given_votes = draw(st.lists(st.tuples(st.sampled_from(USERS), st.booleans(), st.booleans()), max_size=7))
    return [vote(number, *facts) for number, facts in enumerate(given_votes)]


def replayed(history: list[Feedback]) -> dict[str, bool]:
    """The plain model: told in order, the last statement of each person stands unless it is a retraction."""
    standing_votes: dict[str, bool] = {}
    for one in history:
        assert one.user is not None
        standing_votes.pop(one.user, None)
        if not one.retracted:
            standing_votes[one.user] = bool(one.value)
    return standing_votes


@given(histories().flatmap(lambda history: st.tuples(st.just(history), st.permutations(history + history[:3]))))
def test_any_order_and_any_replay_give_the_last_vote(case: tuple[list[Feedback], list[Feedback]]) -> None:
    history, arrived = case
    half = len(arrived) // 2
    merged = standing(merge(arrived[half:], merge(arrived[:half]).values()).values())
    assert {one.user: one.value for one in merged} == replayed(history)


def test_of_one_id_the_retraction_wins_in_any_order() -> None:
    kept, retracted = vote(1, "ada", True, False), vote(1, "ada", True, True)
    assert standing(merge([kept, retracted]).values()) == standing(merge([retracted, kept]).values()) == []


async def test_redis_keeps_the_same_votes_as_the_model(redis_server: RedisServer, redis: Redis) -> None:
    changed = [vote(1, "ada", True, False), vote(2, "ada", False, False), vote(3, "bob", True, False)]
    taken_back = [*changed, vote(4, "ada", False, True)]
    again = [*taken_back, vote(5, "ada", True, False)]
    sink = RedisSink(redis, "0")
    for history in (changed, taken_back, again):
        for arrived in (history, history[::-1], history[1:] + history[:2], history[2:] + history[:2] + history[1:]):
            await redis.flushdb()
            for one in arrived:
                await sink.send([Entry(Kind.FEEDBACK, encode(one))])
            stored = await votes_of(redis, "0", "chatcmpl-1")
            assert {one.user: one.value for one in stored} == replayed(history)
            assert {one.id for one in await latest_votes(redis, "0", "chatcmpl-1")} == {
                one.id for one in merge(history).values()
            }


async def test_a_retraction_of_the_same_id_stands_against_its_replayed_vote(
    redis_server: RedisServer, redis: Redis
) -> None:
    sink = RedisSink(redis, "0")
    for retracted in (False, True, False):
        await sink.send([Entry(Kind.FEEDBACK, encode(vote(1, "ada", True, retracted)))])
    assert await votes_of(redis, "0", "chatcmpl-1") == []
