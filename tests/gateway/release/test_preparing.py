"""Who lacks what a release needs, and what none needs any more: no I/O but fake workers' /v1/models."""

from collections.abc import AsyncIterator

import pytest

from gateway.control.state import ControlState, LiveScorer
from gateway.errors import BadRequest, Conflict, Unavailable
from gateway.release.preparing import BY, NotYet, lacking, lasting, must_not_serve, surplus
from gateway.release.state import Bundle, ModelRelease, ReleaseState
from gateway.shared.note import Note
from gateway.workers.adapters import AdapterNotLoaded
from gateway.workers.fleet_state import Adapter, FleetState, PolicyFleet
from gateway.workers.pool import WorkerPool
from tests.fakes import FakeWorker
from tests.gateway.workers.pools import pool_of

OURS, THEIRS = Note(BY, 1.0), Note("key:ann", 1.0)
ADAPTER = Bundle(release=2, policy="policy@2", served_as="policy-v2", path="/a")
FULL = Bundle(release=2, policy="policy@2", served_as="policy-v2")


@pytest.fixture
async def four() -> AsyncIterator[tuple[WorkerPool, list[FakeWorker]]]:
    fakes = [FakeWorker() for _ in range(4)]
    async with pool_of(*fakes) as pool:
        yield pool, fakes


async def test_an_adapter_must_be_on_all_workers_that_answer(four: tuple[WorkerPool, list[FakeWorker]]) -> None:
    pool, fakes = four
    for fake in fakes[:3]:
        fake.adapters["policy-v2"] = "/a"
    await pool.check()
    assert lacking(pool, ADAPTER) == f"1 of 4 workers lack policy-v2: {pool.workers[3].id}"
    await fakes[3].kill()
    await pool.check()
    assert lacking(pool, ADAPTER) == ""
    assert lacking(pool, Bundle()) == ""


async def test_full_weights_must_be_on_the_users_share_of_the_workers_and_leave_one(
    four: tuple[WorkerPool, list[FakeWorker]],
) -> None:
    pool, fakes = four
    assert lacking(pool, FULL) == "0 of 4 workers serve policy-v2, and 1 should: bestow release roll 2 --workers 1"
    fakes[0].aliases = ("policy-v2",)
    await pool.check()
    assert lacking(pool, FULL) == lacking(pool, FULL, 0.25) == ""
    assert "2 should" in lacking(pool, FULL, 0.26) and "3 should" in lacking(pool, FULL, 1.0)


async def test_a_worker_with_other_weights_answers_for_nothing_else(
    four: tuple[WorkerPool, list[FakeWorker]],
) -> None:
    pool, fakes = four
    for fake in fakes:
        fake.adapters["style"] = "/s"
    fakes[0].aliases = ("policy-v2",)
    await pool.check()
    assert (pool.able("policy-v2"), pool.able(None), pool.able("style"), pool.able("policy")) == (1, 3, 3, 3)
    for fake in fakes:
        fake.aliases = ("policy-v2",)
    await pool.check()
    assert (pool.able("policy-v2"), pool.able(None)) == (4, 0)
    assert await pool.detokenize([7]) == "t7"


def test_what_a_release_brought_goes_when_none_needs_it() -> None:
    kept = Bundle(policy="p@3", served_as="p-v3", path="/3", reward="r-3")
    state = ReleaseState(models={"m": ModelRelease(champion=kept)})
    fleet = FleetState(
        policies={
            "p": PolicyFleet(
                adapters={"p-v2": Adapter("/2", OURS), "p-v3": Adapter("/3", OURS), "style": Adapter("/s", THEIRS)}
            ),
            "q": PolicyFleet(adapters={"p-v3": Adapter("/3", OURS)}),
        }
    )
    settings = {"kind": "reward", "version": 1}
    control = ControlState(
        scorers={
            "r-2": LiveScorer(settings, OURS),
            "r-3": LiveScorer(settings, OURS),
            "named": LiveScorer(settings, OURS),
            "theirs": LiveScorer(settings, THEIRS),
        }
    )
    found = surplus(state, fleet, control, {"m": "p"}, {"named"})
    assert found.adapters == (("p", "p-v2"), ("q", "p-v3")) and found.scorers == ("r-2",)


def test_what_serves_is_not_taken_away() -> None:
    state = ReleaseState(models={"m": ModelRelease(champion=Bundle(release=3, served_as="p-v3", reward="r-3"))})
    with pytest.raises(Conflict, match="the adapter p-v3 belongs to the release 3 of m"):
        must_not_serve(state, "the adapter p-v3", served_as="p-v3")
    with pytest.raises(Conflict, match="the scorer r-3"):
        must_not_serve(state, "the scorer r-3", reward="r-3")
    must_not_serve(state, "the adapter p-v2", served_as="p-v2")


def test_what_would_fail_again_is_told_from_what_would_not() -> None:
    assert lasting(BadRequest("no such path")) and lasting(Conflict("another path"))
    for error in (NotYet("soon"), Unavailable("down"), AdapterNotLoaded("a worker"), Conflict("busy", retry_after=5.0)):
        assert not lasting(error)
