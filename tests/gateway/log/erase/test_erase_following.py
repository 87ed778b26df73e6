"""Gateways follow the ledger: what they have in memory and in journals goes, whatever happens around it."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.log.erase.ledger import Ledger
from gateway.log.keys import feedback_key, interactions_key
from gateway.log.records import Record
from tests.gateway.log.archive.archiving import archive, interactions_read, store_in
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.erase.people import asked, carry_out, erase, ledger_of, marks, order, said, traces
from tests.gateway.log.log_samples import SHARD, assert_equations_hold, sample, total_dropped
from tests.gateway.log.running import running
from tests.waiting import until


async def all_behind(ledger: Ledger) -> bool:
    revision = await ledger.revision()
    return any(state.revision < revision for state in (await ledger.journals()).values())


async def caught_up(ledger: Ledger) -> bool:
    return bool(await ledger.journals()) and not await all_behind(ledger)


async def answers(redis: Redis) -> bool:
    """Pooled connections to a server that was stopped are found out by using them."""
    try:
        return bool(await redis.ping())
    except RedisConnectionError:
        return False


async def journal_only(folder: Path, records: Sequence[Record]) -> None:
    """What a gateway leaves that had no Redis."""
    async with running(folder, None, close_s=0.1) as (log, registry):
        for record in records:
            assert log.accept(record)
        await until(lambda: sample(registry, "journaled_total") == len(records))


async def test_what_waits_for_an_absent_redis_is_erased_before_it_is_shipped(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis) as (log, registry):
        await order(redis, tmp_path, "nobody")
        await until(lambda: caught_up(ledger_of(redis, tmp_path)))
        redis_server.kill()
        for number in range(10):
            assert log.accept(asked("ada" if number % 2 else "bob", number))
        await until(lambda: sample(registry, "journaled_total") == 10)
        redis_server.start()
        await until(lambda: answers(redis))
        # Another process orders it, before this gateway has tried Redis again or just after: both end the same.
        await order(redis, tmp_path, "ada")
        assert await log.drained(15)
        [receipt] = [one for one in await carry_out(redis, tmp_path) if one.order.counts]
        assert receipt.order.status == "done"
        assert await traces(redis, [tmp_path / "journal"], marks("ada")) == []
        read, _ = await interactions_read(redis, None)
        assert len(read) == 5
        assert_equations_hold(registry)


async def test_a_batch_of_erased_records_only_is_acknowledged_without_sending(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis, close_s=0.5) as (log, registry):
        await until(lambda: log.health().redis)
        redis_server.kill()
        for number in range(20):
            assert log.accept(asked("ada", number))
        await until(lambda: sample(registry, "journaled_total") == 20)
    redis_server.start()
    await order(redis, tmp_path, "ada")
    async with running(tmp_path, redis) as (log, registry):
        await until(lambda: sample(registry, "adopted_total") == 20)
        assert await log.drained(15)
        assert sample(registry, "shipped_total", kind="erased") == 20
        assert not await redis.exists(interactions_key(SHARD))
        assert sample(registry, "unarchived") == 0
        assert_equations_hold(registry)
    assert await traces(redis, [tmp_path / "journal"], marks("ada")) == []


async def test_requests_that_were_running_when_it_was_ordered_are_dropped_and_later_ones_are_not(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis) as (log, registry):
        begun = asked("ada", 1)
        placed = await order(redis, tmp_path, "ada")
        await until(lambda: caught_up(ledger_of(redis, tmp_path)))
        later = msgspec.structs.replace(asked("ada", 2), created=placed.before + 1)
        assert log.accept(begun)
        assert log.accept(said("bob", begun))
        assert log.accept(later)
        assert log.accept(asked("bob"))
        assert await log.drained(10)
        await until(lambda: sample(registry, "queued") == 0)
        assert total_dropped(registry) == sample(registry, "dropped_total", reason="erased") == 1
        assert sample(registry, "journaled_total") == 3
        read, _ = await interactions_read(redis, None)
        assert later.id in {record.id for record in read}
        assert begun.id not in {record.id for record in read}
        assert not (await log.votes(begun.id)).partial


async def test_feedback_about_what_another_gateway_holds_goes_too(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    """The interaction is in one journal alone, what is said of it in another: neither has reached Redis."""
    answer, other = asked("ada"), asked("bob")
    one, two = tmp_path / "one", tmp_path / "two"
    await journal_only(one, [answer, other])
    await journal_only(two, [said("bob", answer), said("ada", other), said("bob", other)])
    await order(redis, tmp_path, "ada")
    async with running(one, redis) as (first, _), running(two, redis) as (second, _):
        await until(lambda: caught_up(ledger_of(redis, tmp_path)))
        assert await first.drained(10)
        assert await second.drained(10)
        await carry_out(redis, tmp_path)
        assert await redis.xlen(interactions_key(SHARD)) == 1
        assert await redis.xlen(feedback_key(SHARD)) == 1
        needles = [*marks("ada"), answer.id.encode()]
        assert await traces(None, [one / "journal", two / "journal"], needles) == []


async def test_a_redis_that_lost_its_tail_after_an_erasure_gets_everything_but_what_was_erased(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis, segment_bytes=20_000) as (log, registry):
        kept = [asked("bob", number) for number in range(30)]
        for number, record in enumerate(kept):
            assert log.accept(record)
            assert log.accept(asked("ada", number))
        assert await log.drained(10)
        assert (await erase(redis, tmp_path, "ada")).order.status == "done"
        early = (redis_server.folder / "appendonly.aof").read_bytes()
        for number in range(30, 40):
            kept.append(asked("bob", number))
            assert log.accept(kept[-1])
        assert await log.drained(10)
        redis_server.kill()
        (redis_server.folder / "appendonly.aof").write_bytes(early)
        redis_server.start()
        await until(lambda: sample(registry, "rewound_total") >= 10)
        assert await log.drained(10)
        read, _ = await interactions_read(redis, None)
        assert sorted(one.id for one in read) == sorted(one.id for one in kept)
        assert_equations_hold(registry)
        await archive(redis, store_in(tmp_path))
        await until(lambda: sample(registry, "unarchived") == 0)
    assert await traces(redis, [tmp_path], marks("ada")) == []


async def test_a_journal_that_nobody_holds_is_told_of_and_erased_by_who_adopts_it(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path / "away", redis) as (log, _):
        assert log.accept(asked("ada"))
        assert log.accept(asked("bob"))
        assert await log.drained(10)
    async with running(tmp_path, redis) as (log, _):
        await until(lambda: log.health().redis)
        receipt = await erase(redis, tmp_path, "ada")
        assert receipt.order.status == "open"
        assert (len(receipt.order.outstanding), receipt.journals) == (1, 2)
        assert await traces(redis, [tmp_path / "away" / "journal"], marks("ada")) != []
        # The stopped one starts again: it erases by itself, and then the order can be ended.
        async with running(tmp_path / "away", redis) as (_, back):
            await until(lambda: sample(back, "erased_total") == 1)
            await until(lambda: caught_up(ledger_of(redis, tmp_path)))
            [receipt] = await carry_out(redis, tmp_path)
    assert (receipt.order.status, receipt.order.outstanding) == ("done", [])
    assert await traces(redis, [tmp_path / "away", tmp_path], marks("ada")) == []


async def test_a_live_gateway_that_does_not_answer_is_named(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    ledger = ledger_of(redis, tmp_path)
    await ledger.say("0198c0de-0000-7000-8000-000000000000", "host", 0, live=True)
    await order(redis, tmp_path, "ada")
    started = time.monotonic()
    [receipt] = await carry_out(redis, tmp_path, wait_s=0.3)
    assert time.monotonic() - started >= 0.3
    assert receipt.order.outstanding == ["0198c0de-0000-7000-8000-000000000000"]
    assert receipt.order.status == "open"
    await ledger.forget(receipt.order.outstanding)
    [receipt] = await carry_out(redis, tmp_path, wait_s=0.3)
    assert receipt.order.status == "done"


async def test_a_stopped_gateway_without_anything_in_its_journal_is_not_waited_for(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis) as (log, _):
        await until(lambda: log.health().redis)
        await until(lambda: _known(redis, tmp_path, 1))
    assert await ledger_of(redis, tmp_path).journals() == {}


async def _known(redis: Redis, folder: Path, count: int) -> bool:
    await asyncio.sleep(0)
    return len(await ledger_of(redis, folder).journals()) == count
