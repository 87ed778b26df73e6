"""Releases on their way to users: whole gateways, a real Redis, fake workers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes import FakeScorers, FakeWorker, serve
from tests.gateway.api.test_admin_keys import call
from tests.gateway.log.conftest import RedisServer
from tests.gateway.release.released import Releasing, adapter, people, releasing
from tests.waiting import until

NEVER = {"min_users": 1_000_000}


@pytest.fixture
async def fakes() -> AsyncIterator[list[FakeWorker]]:
    async with serve(two := FakeWorker(lenient=True)):
        yield [FakeWorker(lenient=True), two]


async def in_phase(one: Releasing, phase: str | None) -> None:
    async def there() -> bool:
        return await one.phase() == phase

    await until(there)


async def test_it_is_on_every_worker_before_anybody_gets_it_and_then_the_hash_says_who(
    redis_server: RedisServer, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    async with releasing(redis_server, tmp_path, *fakes, settings=NEVER) as one:
        assert (await one.submit(adapter()))["challenger"]["phase"] == "preparing"
        await in_phase(one, "canary")
        assert all(set(fake.adapters) == {"policy-v2"} for fake in fakes)
        given = {user: (await one.ask(user))[0] for user in people(60)}
        assert given == {user: "policy@2" if one.arm(user) == "challenger" else "policy@1" for user in given}
        assert 15 < list(given.values()).count("policy@2") < 45
        asked = [body["model"] for fake in fakes for body in fake.requests]
        assert asked.count("policy-v2") == list(given.values()).count("policy@2")
        assert (await one.seen())["moves"][0]["facts"]["workers"] == [
            worker.id for worker in one.gateway.service.pools["policy"].workers
        ]


async def test_harm_takes_it_back_and_everybody_gets_the_old_one(
    redis_server: RedisServer, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    async with releasing(redis_server, tmp_path, *fakes, settings=NEVER) as one:
        await one.submit(adapter())
        await in_phase(one, "canary")
        arms = {user: one.arm(user) for user in people(120)}
        for user, arm in arms.items():
            await one.vote(user, up=arm != "challenger")
        await in_phase(one, None)
        seen = await one.seen()
        assert seen["moves"][0]["act"] == "rolled back" and seen["moves"][0]["note"]["by"] == "release"
        assert "does harm" in seen["moves"][0]["note"]["reason"]
        assert any(reading.get("harm") for reading in seen["moves"][0]["facts"]["readings"])
        assert seen["champion"]["policy"] is None
        assert {(await one.ask(user))[0] for user in people(20)} == {"policy@1"}
        assert one.gateway.metric("bestow_release_moves_total", model="m", act="rolled_back") == 1


async def test_a_good_one_goes_through_the_stages_is_promoted_and_watched(
    redis_server: RedisServer, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    settings = {"hold_back": 0.3, "margin": 0.5, "watch_days": 1e-6, "stages": [0.3, 0.6, 1.0]}
    async with releasing(redis_server, tmp_path, *fakes, settings=settings) as one:
        await one.submit(adapter())
        await in_phase(one, "canary")
        users = iter(people(1000))

        async def done() -> bool:
            for _ in range(10):
                await one.vote(next(users), up=True)
            return "watched" in await one.acts()

        await until(done, 60)
        acts = await one.acts()
        assert [act for act in acts if act not in ("held", "resumed")] == [
            "submitted", "prepared", "stage", "promoted", "watched",
        ]  # fmt: skip
        seen = await one.seen()
        assert seen["champion"]["policy"] == "policy@2" and seen["previous"][0]["release"] == 0
        assert {(await one.ask(user))[0] for user in people(20)} == {"policy@2"}
        await one.do("rollback")
        assert (await one.ask("anybody"))[0] == "policy@1"


async def test_the_hold_back_group_keeps_the_old_one_until_the_watch_is_over(
    redis_server: RedisServer, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    async with releasing(redis_server, tmp_path, *fakes, settings=NEVER | {"hold_back": 0.3}) as one:
        await one.submit(adapter())
        await in_phase(one, "canary")
        refused = await one.do("promote", 409)
        assert refused["error"]["code"] == "not_shown" and "release.min_users" in refused["error"]["message"]
        promoted = await one.do("promote", force=True)
        assert promoted["champion"]["policy"] == "policy@2" and promoted["challenger"]["phase"] == "watch"
        assert promoted["moves"][0]["facts"]["forced"] is True
        given = {user: (await one.ask(user))[0] for user in people(60)}
        assert given == {user: "policy@2" if one.arm(user) == "challenger" else "policy@1" for user in given}
        assert 30 < list(given.values()).count("policy@2") < 58


async def test_what_a_worker_cannot_load_is_rejected_and_on_no_worker(
    redis_server: RedisServer, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    fakes[1].broken_adapters.add("/adapters/2")
    async with releasing(redis_server, tmp_path, *fakes) as one:
        one.controller._again_s = 0.05
        await one.submit(adapter())
        await in_phase(one, None)
        seen = await one.seen()
        assert seen["moves"][0]["act"] == "rejected" and "could not be prepared" in seen["moves"][0]["note"]["reason"]
        assert not fakes[0].adapters and not fakes[1].adapters
        assert (await one.ask("anybody"))[0] == "policy@1"


async def test_while_a_worker_lacks_it_the_release_is_held_and_says_so(
    redis_server: RedisServer, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    async with releasing(redis_server, tmp_path, *fakes, settings=NEVER) as one:
        await one.submit(adapter())
        await in_phase(one, "canary")
        pool = one.gateway.service.pools["policy"]
        await fakes[1].kill()
        await pool.check()
        fakes[1].broken_adapters.add("/adapters/2")
        await fakes[1].restart()

        async def held() -> bool:
            await pool.check()
            return bool((await one.seen())["challenger"]["held"])

        await until(held)
        challenger = (await one.seen())["challenger"]
        assert "1 of 2 workers lack policy-v2" in challenger["held"] and challenger["held_by"] is None
        fakes[1].broken_adapters.clear()

        async def mended() -> bool:
            return not await held()

        await until(mended)
        assert (await one.acts())[-2:] == ["held", "resumed"]


async def test_an_operators_hold_is_not_taken_off_by_the_leader(redis_server: RedisServer, tmp_path: Path) -> None:
    async with releasing(redis_server, tmp_path, settings=NEVER) as one:
        await one.submit(adapter())
        await in_phase(one, "canary")
        assert (await one.do("hold"))["challenger"]["held"] == "we hold"
        await one.controller.step()
        assert (await one.seen())["challenger"]["held_by"] == "anonymous"
        assert (await one.do("resume"))["challenger"]["held"] is None


async def test_a_release_is_taken_back_vetoed_and_cannot_come_again(redis_server: RedisServer, tmp_path: Path) -> None:
    async with releasing(redis_server, tmp_path, settings=NEVER) as one:
        await one.submit(adapter())
        await in_phase(one, "canary")
        refused = await one.submit(adapter(3), 409)
        assert refused["error"]["code"] == "release_on_its_way"
        assert (await one.do("veto"))["challenger"] is None
        assert (await one.submit(adapter(), 409))["error"]["code"] == "release_vetoed"
        assert (await one.do("rollback", 409))["error"]["code"] == "nothing_to_roll_back"
        await one.submit(adapter(3))
        await in_phase(one, "canary")
        note = (await one.seen())["moves"][0]["note"]
        assert note["by"] == "release" and (await one.seen())["moves"][-1]["note"]["reason"] == "try it"


async def test_two_people_promote(redis_server: RedisServer, tmp_path: Path) -> None:
    async with releasing(redis_server, tmp_path, settings=NEVER | {"two_person": True}) as one:
        keys: list[str] = []
        for name in ("ann", "bob"):
            auth = {"authorization": f"Bearer {keys[0]}"} if keys else {}
            body = {"name": name, "scopes": ["admin"]}
            async with one.gateway.session.post("/admin/v1/keys", json=body, headers=auth) as reply:
                keys.append((await reply.json())["key"])

        async def approve(key: str) -> dict[str, object]:
            path = "/admin/v1/releases/m/promote"
            status, answer = await call(one.gateway, "POST", path, key, json={"force": True, "reason": "good"})
            assert status == 200, answer
            return dict(answer)

        path = "/admin/v1/releases/m"
        assert (await call(one.gateway, "POST", path, keys[0], json={"bundle": adapter()}))[0] == 202

        async def there() -> bool:
            return bool((await call(one.gateway, "GET", path, keys[0]))[1]["challenger"]["phase"] == "canary")

        await until(there)
        for _ in range(2):
            challenger = (await approve(keys[0]))["challenger"]
            assert challenger["phase"] == "canary" and challenger["approvals_needed"] == 1  # type: ignore[index]
        assert (await approve(keys[1]))["champion"]["policy"] == "policy@2"  # type: ignore[index]


async def test_a_new_reward_model_reads_along_before_anybody_gets_its_choice(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    scorers = FakeScorers(rewards=len)
    bundle = adapter(reward="reward-2", scorer={"kind": "reward", "model": "/models/reward-2"})
    profile = {"n": 4, "safety": None}
    settings = {"shadow_hours": 1e-9, "min_users": 5, "min_hours": 1.0}
    async with releasing(redis_server, tmp_path, scorers=scorers, profile=profile, settings=settings) as one:
        await one.submit(bundle)
        await in_phase(one, "shadow")
        assert "reward-2" in scorers.added.serving
        policies = {(await one.ask(user))[0] for user in people(5)}
        assert policies == {"policy@1"}
        await in_phase(one, "canary")
        assert one.gateway.metric("bestow_shadow_requests_total", scorer="reward-2", outcome="scored") == 5
        moves = (await one.seen())["moves"]
        assert [move["act"] for move in moves][::-1] == ["submitted", "prepared", "shadowed"]
        assert moves[0]["facts"]["requests"] >= 5 and moves[0]["facts"]["failures"] == 0
        status, _, _ = await one.gateway.chat("hi", user=next(u for u in people(99) if one.arm(u) == "challenger"))
        assert status == 200 and one.gateway.interactions[-1].reward_model == "reward-2@1"


async def test_a_scorer_that_cannot_be_loaded_is_a_rejected_release(redis_server: RedisServer, tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len)
    scorers.added.unloadable = {"/models/bad": "no weights there"}
    bundle = adapter(reward="reward-2", scorer={"kind": "reward", "model": "/models/bad"})
    async with releasing(redis_server, tmp_path, scorers=scorers, profile={"n": 2, "safety": None}) as one:
        await one.submit(bundle)
        await in_phase(one, None)
        move = (await one.seen())["moves"][0]
        assert move["act"] == "rejected" and "no weights there" in move["note"]["reason"]
        assert not one.gateway.worker.adapters


async def test_what_a_rollback_would_need_stays_loaded_and_the_rest_goes(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with releasing(redis_server, tmp_path, settings=NEVER | {"hold_back": 0.0}) as one:
        one.controller._keeper.settle_s = one.controller._keeper.again_s = 0.0
        one.controller._fleet._settle_s = 0.0
        for number in (2, 3, 4):
            await one.submit(adapter(number))
            await in_phase(one, "canary")
            await one.do("promote", force=True)
        await until(lambda: set(one.gateway.worker.adapters) == {"policy-v3", "policy-v4"})
        status, refused = await call(one.gateway, "DELETE", "/admin/v1/adapters/policy/policy-v3")
        assert status == 409 and "belongs to the release 3 of m" in refused["error"]["message"]
        await one.submit(adapter(5))
        await in_phase(one, "canary")
        await one.do("rollback")
        await until(lambda: set(one.gateway.worker.adapters) == {"policy-v3", "policy-v4"})
        await one.do("rollback")
        assert (await one.ask("anybody"))[0] == "policy@3"
        # What the next rollback would go back to was unloaded long ago, and is loaded again; what was taken back goes.
        await until(lambda: set(one.gateway.worker.adapters) == {"policy-v2", "policy-v3"})


async def test_full_weights_answer_where_workers_have_them_and_nowhere_else(
    redis_server: RedisServer, tmp_path: Path, fakes: list[FakeWorker]
) -> None:
    async with releasing(redis_server, tmp_path, *fakes, settings=NEVER) as one:
        bundle = {"release": 2, "policy": "policy@2", "served_as": "policy-v2"}
        await one.submit(bundle)

        async def waits() -> bool:
            return "bestow release roll 2" in str((await one.seen())["challenger"]["waits_for"])

        await until(waits)
        fakes[1].aliases = ("policy-v2",)
        pool = one.gateway.service.pools["policy"]
        await pool.check()
        await in_phase(one, "canary")
        given = {user: (await one.ask(user))[0] for user in people(40)}
        assert given == {user: "policy@2" if one.arm(user) == "challenger" else "policy@1" for user in given}
        assert {body["model"] for body in fakes[0].requests} == {"policy"}
        assert {body["model"] for body in fakes[1].requests} == {"policy-v2"}


async def test_safe_mode_gives_everybody_the_configurations_own_and_pauses_releases(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with releasing(redis_server, tmp_path, settings=NEVER) as one:
        await one.submit(adapter())
        await in_phase(one, "canary")
        status, on = await call(one.gateway, "POST", "/admin/v1/safe-mode", json={"reason": "complaints"})
        assert status == 200 and on["on"] and on["changed"]["reason"] == "complaints"
        assert {(await one.ask(user))[0] for user in people(20)} == {"policy@1"}
        assert (await one.seen())["safe_mode"]["by"] == "anonymous"
        status, off = await call(one.gateway, "DELETE", "/admin/v1/safe-mode?reason=found")
        assert status == 200 and not off["on"]
        assert {(await one.ask(user))[0] for user in people(20)} == {"policy@1", "policy@2"}


@pytest.mark.parametrize(
    ("bundle", "field", "what"),
    [
        ({"policy": "other@2", "served_as": "other-v2", "path": "/x"}, "policy", "no version of policy"),
        ({"policy": "policy@2", "served_as": "policy-v3", "path": "/x"}, "served_as", "is served as policy-v2"),
        ({"policy": "policy@2"}, "served_as", "is served as policy-v2"),
        ({"policy": "policy@1", "served_as": "policy-v1", "path": "/x"}, "policy", "own weights"),
        ({"served_as": "policy-v2"}, "policy", "need their version"),
        ({"reward": "nobody"}, "reward", "has no reward model"),
        ({"settings": {"refusal": "No."}}, "settings.refusal", "a release may set"),
    ],
)
async def test_a_bundle_that_cannot_serve_is_refused_with_the_field(
    redis_server: RedisServer, tmp_path: Path, bundle: dict[str, object], field: str, what: str
) -> None:
    async with releasing(redis_server, tmp_path) as one:
        error = (await one.submit(bundle, 400))["error"]
        assert error["param"] == f"bundle.{field}" and what in error["message"], error
