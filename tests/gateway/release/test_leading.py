"""A leader that dies: another gateway goes on where it was, and what the dead one still wanted is refused."""

import asyncio
from pathlib import Path

import pytest

from gateway.release import moves
from gateway.release.moves import NotLeader
from gateway.shared.note import Note
from tests.fakes import FakeWorker, serve
from tests.gateway.log.conftest import RedisServer
from tests.gateway.release.released import Releasing, adapter, people, releasing
from tests.waiting import until

TAKES_OVER_WITHIN_S = 12.0


async def die(one: Releasing) -> None:
    """As by kill -9: nothing is let go, and nothing more is done."""
    controller = one.controller
    tasks = [controller._task, controller._leader._keeping, *(task for _, task in controller._preparing.values())]
    for task in tasks:
        if task is not None:
            task.cancel()
    await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)


async def test_another_gateway_goes_on_in_the_canary_and_the_dead_one_writes_nothing(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with serve(shared := FakeWorker(lenient=True)):
        settings = {"min_users": 1_000_000}
        async with (
            releasing(redis_server, tmp_path / "a", FakeWorker(lenient=True), shared, settings=settings) as first,
            releasing(redis_server, tmp_path / "b", FakeWorker(lenient=True), settings=settings) as second,
        ):
            await first.submit(adapter())

            async def begun() -> bool:
                return await first.phase() == "canary" and await second.phase() == "canary"

            await until(begun)
            leading, other = (first, second) if first.controller.leads else (second, first)
            fence = leading.controller._leader.fence
            assert fence is not None and not other.controller.leads
            canary = leading.canary
            await die(leading)
            # It has workers of its own, which get the adapter by its own health checks.
            await other.gateway.service.pools["policy"].check()
            arms = {user: other.arm(user) for user in people(120)}
            for user, arm in arms.items():
                assert await other.vote(user, up=arm != "challenger") == (
                    "policy@2" if arm == "challenger" else "policy@1"
                )

            async def rolled_back() -> bool:
                return await other.phase() is None

            await until(rolled_back, TAKES_OVER_WITHIN_S)
            assert (await other.acts())[-1] == "rolled back"
            await until(lambda: other.controller.leads)
            promote = moves.promote("m", canary, hold_back=True, made=Note("release", 1.0))
            with pytest.raises(NotLeader):
                await leading.controller._move(fence, promote)
            assert (await other.seen())["champion"]["release"] == 0


async def test_what_was_being_prepared_is_prepared_by_the_next(redis_server: RedisServer, tmp_path: Path) -> None:
    async with (
        releasing(redis_server, tmp_path / "a", FakeWorker(lenient=True)) as first,
        releasing(redis_server, tmp_path / "b", FakeWorker(lenient=True)) as second,
    ):
        # Full weights, which no worker has yet: it stays in preparing.
        await first.submit({"release": 2, "policy": "policy@2", "served_as": "policy-v2"})
        await until(lambda: first.controller._preparing or second.controller._preparing)
        leading, other = (first, second) if first.controller._preparing else (second, first)
        await die(leading)
        await until(lambda: bool(other.controller._preparing), TAKES_OVER_WITHIN_S)
        for one in (first, second):
            one.gateway.worker.aliases = ("policy-v2",)
            await one.gateway.service.pools["policy"].check()

        async def begun() -> bool:
            return await other.phase() == "canary"

        await until(begun)
        assert (await other.acts())[-1] == "prepared"
