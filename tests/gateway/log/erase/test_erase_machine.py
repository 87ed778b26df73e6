"""Upserts, retractions, late votes, archiving, dying, delivering again and erasing, in any order, against a model."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from tests.gateway.log.archive.test_archive_machine import ArchiveMachine
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.erase.people import asked, erase, hashed, said

USERS = ["ada", "bob"]


class EraseMachine(ArchiveMachine):
    """What was erased is in the model no more, and so is not delivered again: gateways see to that."""

    @rule(user=st.sampled_from(USERS))
    def ask(self, user: str) -> None:
        self.interactions.append(record := asked(user))
        self.send(record)

    @rule(user=st.sampled_from(USERS), data=st.data(), retracted=st.booleans())
    def comment(self, user: str, data: st.DataObject, retracted: bool) -> None:
        if self.interactions:
            of = data.draw(st.sampled_from(self.interactions))
            self.votes.append(vote := msgspec.structs.replace(said(user, of), retracted=retracted))
            self.send(vote)

    @rule(user=st.sampled_from(USERS))
    def erase(self, user: str) -> None:
        receipt = self.loop.run_until_complete(erase(self.redis, self.folder, user))
        assert receipt.order.status == "done"
        whose = hashed(user)
        gone = {one.id for one in self.interactions if one.user == whose}
        self.interactions = [one for one in self.interactions if one.id not in gone]
        self.votes = [one for one in self.votes if one.user != whose and one.interaction not in gone]


@pytest.fixture
def machine_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("machine") / "redis")
    server.start("--appendonly", "no")
    yield server
    server.kill()


def test_any_order_of_events_leaves_what_the_model_has_and_nothing_else(machine_server: RedisServer) -> None:
    machine = type("Machine", (EraseMachine,), {"server": machine_server})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
