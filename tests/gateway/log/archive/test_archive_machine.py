"""Appending, voting, archiving, dying in the middle and delivering again, in any order, against a plain model."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.archive.store import Store
from gateway.log.connection import connect
from gateway.log.records import Feedback, Interaction, Record
from gateway.log.votes import merge, standing
from tests.gateway.log.archive.archiving import FailingStore, Killed, archive, archive_in, send, store_in
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD, interaction, thumb


class ArchiveMachine(RuleBasedStateMachine):
    """model: every record that was ever sent, in order, once."""

    server: RedisServer

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.redis: Redis = connect(self.server.url)
        self.loop.run_until_complete(self.redis.flushall())
        self.folder = Path(tempfile.mkdtemp(dir=self.server.folder))
        self.interactions: list[Interaction] = []
        self.votes: list[Feedback] = []

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.redis.aclose())
            self.loop.close()

    def send(self, *records: Record) -> None:
        self.loop.run_until_complete(send(self.redis, *records))

    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        new = [interaction() for _ in range(count)]
        self.interactions += new
        self.send(*new)

    @rule(data=st.data(), value=st.booleans(), user=st.sampled_from(["ada", "bob"]), retracted=st.booleans())
    def vote(self, data: st.DataObject, value: bool, user: str, retracted: bool) -> None:
        if self.interactions:
            of = data.draw(st.sampled_from(self.interactions[:3]))
            self.votes.append(vote := thumb(of.id, value, user=user, retracted=retracted))
            self.send(vote)

    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        known: list[Record] = [*self.interactions, *self.votes]
        if known:
            self.send(*data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=4)))

    @rule()
    def archive_all(self) -> None:
        self.archive(store_in(self.folder))

    @rule(at=st.integers(1, 3), after=st.booleans())
    def die_while_archiving(self, at: int, after: bool) -> None:
        with contextlib.suppress(Killed):
            self.archive(FailingStore(store_in(self.folder), at=at, after=after))

    @rule(data=st.data())
    def archive_the_old(self, data: st.DataObject) -> None:
        """Up to a moment in the past: some entries stay, taken and pending."""
        if self.interactions:
            until = data.draw(st.sampled_from(self.interactions)).created
            # All that is half as old as the oldest goes with it: up to `until`.
            age = time.time() - self.interactions[0].created
            self.archive(store_in(self.folder), everything=False, clock=lambda: until + age)

    def archive(self, store: Store, **changes: object) -> None:
        self.loop.run_until_complete(archive(self.redis, store, **changes))  # type: ignore[arg-type]

    @invariant()
    def stream_and_archive_are_the_model(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.loop.run_until_complete(self._check())

    async def _check(self) -> None:
        found = archive_in(self.folder)
        reader = streams.interactions(self.redis, SHARD, found)
        read = [logged.record async for logged in reader.after()]
        assert sorted(read, key=lambda one: one.id) == self.interactions
        newest = [logged.record.id for logged in await streams.interactions(self.redis, SHARD, found).last(1000)]
        assert sorted(newest) == [one.id for one in self.interactions]
        spoken = [logged.record async for logged in streams.feedback(self.redis, SHARD, found).after()]
        assert sorted(spoken, key=lambda one: one.id) == self.votes
        ids = [one.id for one in self.interactions[:3]]
        told = await streams.votes_of_all(self.redis, SHARD, ids, found)
        for identifier, votes in zip(ids, told, strict=True):
            ever = [vote for vote in self.votes if vote.interaction == identifier]
            assert votes == standing(merge(ever).values())


@pytest.fixture
def machine_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("machine") / "redis")
    server.start("--appendfsync", "no")
    yield server
    server.kill()


def test_any_order_of_events_loses_and_doubles_nothing(machine_server: RedisServer) -> None:
    machine = type("Machine", (ArchiveMachine,), {"server": machine_server})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
