"""Old copies come back: of Redis's files, of the archive's folder, of a journal. Whoever was erased is erased again."""

import shutil
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.log.archive.archiver import GROUP
from gateway.log.archive.lock import ArchiverLock
from gateway.log.erase.erasing import Eraser
from gateway.log.erase.orders import Hold, Kept, Order, reconciled, reconciled_hold
from gateway.log.keys import archiver_key, feedback_key, interactions_key
from tests.gateway.log.archive.archiving import archive, interactions_read, send, store_in
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.erase.people import (
    SIGNER,
    asked,
    cache,
    carry_out,
    erase,
    ledger_of,
    log_settings,
    marks,
    order,
    said,
    shadowed,
    traces,
)
from tests.gateway.log.log_samples import SHARD, sample
from tests.gateway.log.running import running
from tests.waiting import until

ORDER = Order("o", "default", "s", 10.0, "test", 10.0)


def kept(status: str, *ids: str, finished: float | None = None) -> Kept:
    return Kept(msgspec.structs.replace(ORDER, status=status, finished=finished), list(ids))


@pytest.mark.parametrize(
    ("in_redis", "in_file", "status", "ids"),
    [
        (kept("done", "a"), kept("done", "a"), "done", ["a"]),
        (kept("done", "a"), kept("done", "a", "b"), "done", ["a", "b"]),
        (None, kept("done", "a"), "open", ["a"]),
        (kept("done", "a"), None, "open", ["a"]),
        (kept("open", "a"), kept("done", "b"), "open", ["a", "b"]),
        (kept("done"), kept("held"), "open", []),
        (kept("held"), kept("held"), "held", []),
        (None, kept("open"), "open", []),
    ],
)
def test_an_order_of_which_the_copies_do_not_agree_is_carried_out_again(
    in_redis: Kept | None, in_file: Kept | None, status: str, ids: list[str]
) -> None:
    found = reconciled(in_redis, in_file)
    assert (found.order.status, found.ids) == (status, ids)


def test_a_hold_that_was_taken_off_does_not_come_back_with_an_old_copy() -> None:
    hold = Hold("h", "default", "test", 1.0, "case")
    removed = msgspec.structs.replace(hold, removed_by="test", removed_at=2.0)
    assert reconciled_hold([hold, removed]) == reconciled_hold([removed, hold]) == removed
    assert reconciled_hold([hold, hold]).active


async def fill(redis: Redis, folder: Path, users: tuple[str, ...] = ("ada", "bob")) -> int:
    """Records in archive and streams. How many are not about or by ada."""
    others = 0
    for archived in (True, False):
        for user in users:
            for number in range(5):
                answer = asked(user, number)
                await send(redis, answer, shadowed(answer), said("bob", answer), said("ada", answer))
                others += 3 if user != "ada" else 0
                await cache(redis, answer, user)
        if archived:
            await archive(redis, store_in(folder))
    return others


async def test_an_old_copy_of_redis_brings_nobody_back(tmp_path: Path, redis_server: RedisServer, redis: Redis) -> None:
    await fill(redis, tmp_path)
    aof = redis_server.folder / "appendonly.aof"
    await redis.bgrewriteaof()
    await until(lambda: _aof_idle(redis))
    old = aof.read_bytes()
    assert (await erase(redis, tmp_path, "ada")).order.status == "done"
    redis_server.kill()
    aof.write_bytes(old)
    redis_server.start()
    await redis.connection_pool.disconnect()
    assert await traces(redis, [], marks("ada")) != []
    assert await ledger_of(redis, tmp_path).orders() == []
    [receipt] = await carry_out(redis, tmp_path)
    assert (receipt.order.status, receipt.order.replays) == ("done", 1)
    assert await traces(redis, [tmp_path], marks("ada")) == []
    assert await carry_out(redis, tmp_path) == []
    assert await redis.xlen(interactions_key(SHARD)) == await redis.xlen(feedback_key(SHARD)) == 5


async def test_an_old_copy_of_the_archive_brings_nobody_back(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    await fill(redis, tmp_path)
    shutil.copytree(tmp_path / "archive", tmp_path / "copy")
    assert (await erase(redis, tmp_path, "ada")).order.status == "done"
    shutil.rmtree(tmp_path / "archive")
    (tmp_path / "copy").rename(tmp_path / "archive")
    assert await traces(redis, [tmp_path], marks("ada")) != []
    [receipt] = await carry_out(redis, tmp_path)
    assert (receipt.order.status, receipt.order.replays) == ("done", 1)
    assert await traces(redis, [tmp_path], marks("ada")) == []
    assert await carry_out(redis, tmp_path) == []


async def test_an_old_copy_of_a_journal_brings_nobody_back(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running(tmp_path, redis) as (log, _):
        for user in ("ada", "bob"):
            assert log.accept(asked(user))
        assert await log.drained(10)
    shutil.copytree(tmp_path / "journal", tmp_path / "copy")
    async with running(tmp_path, redis) as (log, registry):
        await until(lambda: sample(registry, "taken_over_total") == 2)
        assert (await erase(redis, tmp_path, "ada")).order.status == "done"
    shutil.rmtree(tmp_path / "journal")
    (tmp_path / "copy").rename(tmp_path / "journal")
    await redis.delete(interactions_key(SHARD))  # So that all of it is shipped again.
    async with running(tmp_path, redis) as (log, registry):
        await until(lambda: sample(registry, "erased_total") == 1)
        await until(lambda: sample(registry, "rewound_total") >= 2)
        assert await log.drained(10)
    assert len((await interactions_read(redis, None))[0]) == 1
    assert await traces(redis, [tmp_path], marks("ada")) == []


async def test_an_eraser_that_was_killed_anywhere_is_finished_by_the_next(
    tmp_path: Path, redis_server: RedisServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    others = await fill(redis, tmp_path)
    await order(redis, tmp_path, "ada")
    stops = ["erase_entries", "Caches", "compact"]
    for stop in stops:

        def killed(*_: object, **__: object) -> None:
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(f"gateway.log.erase.erasing.{stop}", killed)
            with pytest.raises(Killed):
                await carry_out(redis, tmp_path)
        assert [one.status for one in await ledger_of(redis, tmp_path).orders()] == ["open"]
    with monkeypatch.context() as patched:
        patched.setattr(Eraser, "_settle", killed)
        with pytest.raises(Killed):
            await carry_out(redis, tmp_path)
    [receipt] = await carry_out(redis, tmp_path)
    assert receipt.order.status == "done"
    assert await traces(redis, [tmp_path], marks("ada")) == []
    assert receipt.order.counts["archive"] + receipt.order.counts["streams"] == 80 - others
    assert len(await ledger_of(redis, tmp_path).ids(receipt.order.id)) == 10


async def test_who_lost_the_archivers_lock_erases_nothing_more(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    await fill(redis, tmp_path)
    await order(redis, tmp_path, "ada")
    lock = ArchiverLock(redis, SHARD, "ours")
    await redis.set(archiver_key(SHARD), "somebody else's")
    before = await redis.xlen(interactions_key(SHARD))
    eraser = Eraser(redis, log_settings(), tmp_path, lock, hash_user=SIGNER.hash_user, clock=lambda: 0.0)
    with pytest.raises(Exception, match="another archiver has taken over"):
        await eraser.carry_out()
    assert await redis.xlen(interactions_key(SHARD)) == before


async def test_entries_that_an_archiver_had_taken_are_erased_and_the_others_are_archived_once(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    """They are pending in the consumer group, some of them deleted by then."""
    answers = [asked("ada" if number % 3 == 0 else "bob", number) for number in range(12)]
    await send(redis, *answers)
    await redis.xgroup_create(interactions_key(SHARD), GROUP, "0")
    await redis.xreadgroup(GROUP, GROUP, {interactions_key(SHARD): ">"}, 9)
    await erase(redis, tmp_path, "ada")
    report = await archive(redis, store_in(tmp_path))
    assert report.records == {"interactions": 8}
    assert (await redis.xpending(interactions_key(SHARD), GROUP))["pending"] == 0
    assert await traces(redis, [tmp_path], marks("ada")) == []


async def test_a_redis_without_memory_can_be_erased_from(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    await fill(redis, tmp_path)
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used - 50_000)
    receipt = await erase(redis, tmp_path, "ada")
    assert (receipt.order.status, receipt.by_hand) == ("done", [])
    await redis.config_set("maxmemory", 0)
    assert await traces(redis, [tmp_path], marks("ada")) == []


async def test_what_redis_refuses_to_rewrite_is_said_with_what_to_do(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    await fill(redis, tmp_path)
    await redis.acl_setuser("default", commands=["-bgrewriteaof", "-config"], enabled=True)
    receipt = await erase(redis, tmp_path, "ada")
    assert receipt.order.status == "done"
    assert len(receipt.by_hand) == 1
    assert "run BGREWRITEAOF on Redis" in receipt.by_hand[0]


async def _aof_idle(redis: Redis) -> bool:
    facts = await redis.info("persistence")
    return not (facts["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"])
