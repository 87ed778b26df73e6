"""The whole log, in any order of events, against a plain model: what was accepted is read, once, until it is too old or
erased; a vote counts until it is changed or taken back.

The real writer, journal, shipper, archiver and eraser work on a real Redis, which is killed and loses the end of its
append-only file. Time is the machine's: ids and `created` begin long ago, and days pass when a rule says so.
"""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.config import ArchiveConfig, Config, parse
from gateway.ids import new_uuid7, unix_seconds
from gateway.log import shipper, streams
from gateway.log.archive.archiver import keeping
from gateway.log.archive.compaction import merge, merges
from gateway.log.archive.due import held
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.retention import is_over
from gateway.log.archive.rounds import run_round
from gateway.log.connection import connect
from gateway.log.erase import compacting
from gateway.log.erase.erasing import Eraser, order_erasure
from gateway.log.records import Feedback, Interaction, Record
from gateway.log.votes import merge as merged
from gateway.log.votes import standing
from gateway.log.writer import RecordLog
from tests.gateway.log.archive.archiving import archive, archive_in, made, store_in
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD, assert_equations_hold, sample, thumb
from tests.waiting import until

T = TypeVar("T")

DAY = 86_400.0
RETAIN_DAYS = {"demo": 10, "brief": 3}
USERS = ["ada", "bob"]
WITHIN_S = 30.0


class LogMachine(RuleBasedStateMachine):
    """The model: `interactions` and `votes`, what a reader is to find. unlanded: interactions voted on before the log
    got them. erased: when each user was; erased_ids: their interactions.
    """

    server: RedisServer

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(dir=self.server.folder))
        log = {"flush_ms": 1, "segment_bytes": 8192, "archive": {"retain_days": RETAIN_DAYS["demo"]}}
        self.config: Config = parse({"data_dir": str(self.folder), "redis": {"url": self.server.url}, "log": log})
        self.now = time.time() - 200 * DAY
        self.interactions: dict[str, Interaction] = {}
        self.votes: list[Feedback] = []
        self.unlanded: list[Interaction] = []
        self.known: list[Interaction] = []
        self.erased: dict[str, float] = {}
        self.erased_ids: set[str] = set()
        self.retired = False
        self.run(self._flush_redis())
        self.file_sizes = [self._file_size()]
        self.run(self._open())

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            if self.server.process is None:
                self.server.start("--appendfsync", "no")
            self.run(self._close())
            self.loop.close()

    # Records

    @rule(model=st.sampled_from(sorted(RETAIN_DAYS)), user=st.sampled_from(USERS), count=st.integers(1, 3))
    def answer(self, model: str, user: str, count: int) -> None:
        for _ in range(count):
            one = self._interaction(model, user)
            self._land(one)

    @rule(model=st.sampled_from(sorted(RETAIN_DAYS)), user=st.sampled_from(USERS), value=st.booleans())
    def vote_before_the_answer_is_there(self, model: str, user: str, value: bool) -> None:
        one = self._interaction(model, user)
        self.unlanded.append(one)
        self._vote(one, user, value)

    @precondition(lambda self: self.unlanded)
    @rule()
    def the_answer_lands(self) -> None:
        self._land(self.unlanded.pop(0))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), user=st.sampled_from(USERS), value=st.booleans(), retracted=st.booleans())
    def vote(self, data: st.DataObject, user: str, value: bool, retracted: bool) -> None:
        self._vote(data.draw(st.sampled_from(self.known[-2:])), user, value, retracted)

    @rule(days=st.sampled_from([0.4, 1.0, 4.0]))
    def days_pass(self, days: float) -> None:
        self.now += days * DAY

    # The archive

    @precondition(lambda self: self.up)
    @rule(share=st.sampled_from([0.3, 0.6, 0.9, 1.0]))
    def archive_the_oldest(self, share: float) -> None:
        self.run(self._archive_the_oldest(share))

    @precondition(lambda self: self.up)
    @rule()
    def all_that_is_archived_leaves_the_journal(self) -> None:
        self.run(archive(self.redis, store_in(self.folder)))
        self.run(until(lambda: sample(self.registry, "unarchived") == 0, WITHIN_S))

    @precondition(lambda self: self.up)
    @rule(most=st.sampled_from([10_000, 1_000_000]))
    def compact(self, most: int) -> None:
        store = store_in(self.folder)
        for what in merges(store, None, most):
            merge(store, what, most)

    @precondition(lambda self: self.up)
    @rule()
    def retire(self) -> None:
        self._retire()

    @precondition(lambda self: self.up)
    @rule(user=st.sampled_from(USERS))
    def erase(self, user: str) -> None:
        self.now += 1
        self.run(self._erase(user))
        self.erased[user] = self.now
        self.erased_ids |= {one.id for one in self.interactions.values() if self._is_erased(one)}
        # Of what is neither here nor erased by its id nobody knows whose it was.
        self.unlanded = [one for one in self.unlanded if not self._is_erased(one)]
        self.known = [one for one in self.known if not self._is_erased(one) or one.id in self.erased_ids]
        # Its files were written anew.
        self.file_sizes = [self._file_size()]
        self._forget_erased()

    # What goes wrong

    @rule()
    def restart_the_gateway(self) -> None:
        self.run(self._close_log())
        self.run(self._open())

    @precondition(lambda self: self.up)
    @rule(lost=st.integers(0, 5))
    def kill_redis(self, lost: int) -> None:
        """It loses what it wrote in the last steps, or some of it."""
        self.server.kill()
        size = self.file_sizes[-1 - min(lost, len(self.file_sizes) - 1)]
        os.truncate(self.server.folder / "appendonly.aof", min(size, self._file_size()))
        self.file_sizes = [one for one in self.file_sizes if one <= size]

    @precondition(lambda self: not self.up)
    @rule()
    def redis_comes_back(self) -> None:
        self.server.start("--appendfsync", "no")
        self.run(self._reconnect())
        # When this has arrived, what was lost has been shipped again.
        self._land(self._interaction("demo", "ada"))
        assert self.run(self.log.drained(WITHIN_S))
        if self.erased:
            self.run(self._carry_out())
        if self.retired:  # What came back is as old as it was.
            self._retire()

    @invariant()
    def what_is_read_is_the_model(self) -> None:
        if not hasattr(self, "loop"):
            return
        if self.up:
            assert self.run(self.log.drained(WITHIN_S))
            self.file_sizes.append(self._file_size())
            self.run(self._check())
        else:
            self.run(until(lambda: self.log.health().queued == 0, WITHIN_S))
        assert_equations_hold(self.registry)

    # How it is done

    @property
    def up(self) -> bool:
        return self.server.process is not None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def _interaction(self, model: str, user: str) -> Interaction:
        self.now += 1
        one = made(self.now, model=model, user=user)
        self.known.append(one)
        return one

    def _land(self, one: Interaction) -> None:
        self._accept(one)
        if not self._is_erased(one):
            self.interactions[one.id] = one

    def _vote(self, of: Interaction, user: str, value: bool, retracted: bool = False) -> None:
        self.now += 1
        fresh = new_uuid7()
        milliseconds = f"{int(self.now * 1000):012x}"
        identifier = f"{milliseconds[:8]}-{milliseconds[8:]}{fresh[13:]}"
        vote = thumb(of.id, value, id=identifier, created=self.now, user=user, retracted=retracted)
        self._accept(vote)
        if of.id not in self.erased_ids:
            self.votes.append(vote)

    def _accept(self, record: Record) -> None:
        async def accept() -> None:
            assert self.log.accept(record)

        self.run(accept())

    def _retire(self) -> None:
        self.run(self._round())
        self.retired = True
        self.interactions = {one.id: one for one in self.interactions.values() if not self._is_over(one.id, one.model)}
        models = {one.id: one.model for one in self.interactions.values()}
        self.votes = [
            vote for vote in self.votes if not self._is_over(vote.interaction, models.get(vote.interaction, "brief"))
        ]

    def _is_over(self, identifier: str, model: str) -> bool:
        return is_over(datetime.fromtimestamp(unix_seconds(identifier), UTC).date(), RETAIN_DAYS[model], self.now)

    def _is_erased(self, one: Interaction) -> bool:
        return one.user in self.erased and one.created <= self.erased[one.user]

    def _forget_erased(self) -> None:
        self.interactions = {one.id: one for one in self.interactions.values() if one.id not in self.erased_ids}
        self.votes = [
            vote
            for vote in self.votes
            if vote.interaction not in self.erased_ids
            and not (vote.user in self.erased and vote.created <= self.erased[vote.user])
        ]

    async def _archive_the_oldest(self, share: float) -> None:
        """What came in the first part of the time since which the streams have anything."""
        oldest = [stream.oldest_ms / 1000 for stream in await held(self.redis, SHARD) if stream.oldest_ms is not None]
        if not oldest:
            return
        begun = min(oldest)
        span = share * (time.time() - begun) + 0.001
        # All that is half as old as the oldest goes with it.
        config = ArchiveConfig(after_s=1.99 * span)
        await archive(
            self.redis, store_in(self.folder), everything=False, settings=config, clock=lambda: begun + 2 * span
        )

    async def _round(self) -> None:
        lock = ArchiverLock(self.redis, SHARD, "one")
        assert await lock.take()
        async with keeping(lock):
            report = await run_round(
                self.redis,
                self.config,
                lock,
                {"brief": RETAIN_DAYS["brief"]},
                everything=True,
                compact=False,
                clock=lambda: self.now,
            )
        assert report.unreadable == 0

    async def _erase(self, user: str) -> None:
        await order_erasure(
            self.redis, self.config.log, self.folder, "default", user, by="test", now=self.now, reason="asked"
        )
        await self._carry_out()

    async def _carry_out(self) -> None:
        lock = ArchiverLock(self.redis, SHARD, "eraser")
        assert await lock.take()
        async with keeping(lock):
            eraser = Eraser(
                self.redis,
                self.config.log,
                self.folder,
                lock,
                hash_user=lambda user: user,
                clock=lambda: self.now,
                wait_s=WITHIN_S,
            )
            await eraser.carry_out()

    async def _flush_redis(self) -> None:
        self.redis: Redis = connect(self.server.url)
        await self.redis.flushall()

    async def _open(self) -> None:
        self.gateways_redis = connect(self.server.url)
        self.registry = CollectorRegistry()
        self.log = RecordLog(
            self.config.log,
            self.folder,
            self.gateways_redis,
            self.registry,
            clock=lambda: self.now,
            rng=random.Random(7),
        )
        await self.log.start()

    async def _close_log(self) -> None:
        await self.log.close(WITHIN_S if self.up else 0.1)
        await self.gateways_redis.aclose()

    async def _close(self) -> None:
        await self._close_log()
        await self.redis.aclose()

    async def _reconnect(self) -> None:
        await self.redis.aclose()
        self.redis = connect(self.server.url)

    def _file_size(self) -> int:
        return (self.server.folder / "appendonly.aof").stat().st_size

    async def _check(self) -> None:
        found = archive_in(self.folder)
        expected = sorted(self.interactions)
        reader = streams.interactions(self.redis, SHARD, found)
        read = {logged.record.id: logged.record async for logged in reader.after()}
        assert sorted(read) == expected
        assert [read[one].messages for one in expected] == [self.interactions[one].messages for one in expected]
        last = [logged.record.id for logged in await streams.interactions(self.redis, SHARD, found).last(1000)]
        assert sorted(last) == expected
        spoken = [logged.record async for logged in streams.feedback(self.redis, SHARD, found).after()]
        assert sorted(vote.id for vote in spoken) == sorted(vote.id for vote in self.votes)
        known = [one.id for one in self.known[-8:]]
        told = await streams.votes_of_all(self.redis, SHARD, known, found)
        for identifier, votes in zip(known, told, strict=True):
            ever = [vote for vote in self.votes if vote.interaction == identifier]
            current = [vote.id for vote in standing(merged(ever).values())]
            assert [vote.id for vote in votes] == current
            at_once = await self.log.votes(identifier)
            assert (at_once.partial, [vote.id for vote in at_once.feedback]) == (False, current)


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[LogMachine]]:
    # Whatever the shipper does from time to time, it does before each batch.
    monkeypatch.setattr(shipper, "HEARTBEAT_S", 0.0)
    monkeypatch.setattr(compacting, "_LOOK_EVERY_S", 0.01)
    server = RedisServer(tmp_path_factory.mktemp("machine") / "redis")
    server.start("--appendfsync", "no")
    yield type("Machine", (LogMachine,), {"server": server})
    server.kill()


def profile(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def test_in_any_order_of_events_readers_see_what_was_accepted(machine: type[LogMachine]) -> None:
    run_state_machine_as_test(machine, settings=profile(30, 20))


@pytest.mark.slow
def test_in_many_more_orders_too(machine: type[LogMachine]) -> None:
    run_state_machine_as_test(machine, settings=profile(60, 30))
