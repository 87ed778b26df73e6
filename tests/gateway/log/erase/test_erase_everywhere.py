"""A person who has left something everywhere is erased: nothing is left of them, and all is left of everybody else."""

from pathlib import Path

from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.frames import Kind
from gateway.log.records import Feedback, Interaction, Record, ShadowScores
from tests.gateway.log.archive.archiving import archive, archive_in, store_in
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.erase.people import asked, cache, erase, marks, said, shadowed, traces
from tests.gateway.log.log_samples import SHARD, assert_equations_hold, sample
from tests.gateway.log.running import running
from tests.waiting import until


async def read_all(redis: Redis, folder: Path) -> list[str]:
    """The ids of all records that readers see, streams and archive as one."""
    archive = archive_in(folder)
    found: list[str] = []
    for reader in (streams.interactions, streams.feedback, streams.shadow):
        found += [logged.record.id async for logged in reader(redis, SHARD, archive).after()]
    return found


async def test_nothing_is_left_of_one_person_and_everything_of_the_others(
    tmp_path: Path, stopped_redis: RedisServer, redis: Redis
) -> None:
    # Nothing is compressed, so that a byte search finds what is there.
    stopped_redis.start("--rdbcompression", "no")
    users = ["ada", "bob", "cy"]
    by_ada: list[Record] = []
    others: list[Record] = []

    def left(record: Record, *, of_ada: bool) -> Record:
        (by_ada if of_ada else others).append(record)
        return record

    answers: dict[str, list[Interaction]] = {user: [] for user in users}
    async with (
        running(tmp_path, redis, segment_bytes=20_000, compress_above=4096) as (log, registry),
        running(tmp_path / "other", redis, archive={"url": str(tmp_path / "archive")}) as (other, _),
    ):

        async def live(round_number: int) -> None:
            for number in range(12):
                for user in users:
                    record = asked(user, number, size=9000 if number % 5 == 0 else 0)
                    answers[user].append(record)
                    accepting = log if number % 3 else other
                    assert accepting.accept(left(record, of_ada=user == "ada"))
                    assert other.accept(left(shadowed(record), of_ada=user == "ada"))
                    for critic in users:
                        assert log.accept(left(said(critic, record), of_ada="ada" in (critic, user)))
            assert await log.drained(10)
            assert await other.drained(10)

        await live(0)
        await archive(redis, store_in(tmp_path))
        await live(1)
        for user in users:
            await cache(redis, answers[user][0], user)
            await cache(redis, answers[user][-1], user)
        await redis.save()
        await redis.bgsave()
        before = await traces(redis, [tmp_path], marks("ada"))
        for place in (
            "archive/",
            "journal/",
            "appendonly.aof",
            "dump.rdb",
            "votes",
            "responses",
            "idempotency",
            "interactions",
        ):
            assert any(place in trace for trace in before), place

        receipt = await erase(redis, tmp_path, "ada")

        assert receipt.order.status == "done", receipt
        assert (receipt.journals, receipt.by_hand) == (2, [])
        assert await traces(redis, [tmp_path], marks("ada")) == []
        assert sorted(await read_all(redis, tmp_path)) == sorted(record.id for record in others)
        assert await traces(redis, [tmp_path], marks("bob")) != []
        for user in ("bob", "cy"):
            votes = await streams.votes_of(redis, SHARD, answers[user][-1].id, archive_in(tmp_path))
            assert {vote.value for vote in votes} == {"comment-by-bob", "comment-by-cy"}
        assert not await streams.votes_of(redis, SHARD, answers["ada"][0].id, archive_in(tmp_path))
        kept = [key.decode() async for key in redis.scan_iter(match="bestow:{responses}:*")]
        assert len(kept) == 4
        assert_equations_hold(registry)
        assert sample(registry, "erased_total") > 0

        # It goes on: what was erased stays so when Redis is started again and the journal is shipped once more.
        stopped_redis.kill()
        stopped_redis.start("--rdbcompression", "no")
        await redis.connection_pool.disconnect()
        assert log.accept(left(asked("bob", 99), of_ada=False))
        await until(lambda: log.health().redis)

        async def all_is_archived() -> bool:
            """However late the gateway finds that Redis was away, and ships again."""
            await archive(redis, store_in(tmp_path))
            return sample(registry, "unarchived") == 0

        await until(all_is_archived)
        assert sorted(await read_all(redis, tmp_path)) == sorted(record.id for record in others)
        assert await traces(redis, [tmp_path], marks("ada")) == []
    ids = {record.id for record in by_ada if isinstance(record, Interaction)}
    assert len(ids) == 24
    assert {type(record) for record in by_ada} == {Interaction, Feedback, ShadowScores}
    assert not {row.data for row in archive_in(tmp_path).about(Kind.FEEDBACK, sorted(ids))}
