"""What is released, through whole gateways: who gets it, by which weights and scorer, and what receipt and log say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.access.cache import cache_file
from gateway.access.snapshot import Snapshot, Tenant
from gateway.log.privacy.policy import TenantLog
from gateway.log.records import ReleaseRecord
from gateway.release.assignment import bucket
from gateway.release.route import OWN, name_of, unit_of
from gateway.release.routes import Releases
from gateway.release.state import Bundle, Canary, ModelRelease, ReleaseState
from gateway.shared import disk
from gateway.shared.note import Note
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, running_gateway
from tests.waiting import until

TWO = Bundle(release=2, policy="policy@2", served_as="policy-v2", path="/2")
THREE = Bundle(release=3, policy="policy@3", served_as="policy-v3", path="/3")
CANARY = Canary(bundle=THREE, control=TWO, salt="s", phase="canary", began=1.0, stage_began=1.0)
RELEASE = {"stages": [0.5, 1.0]}
NOTE = Note("key:a", 1.0, "it went wrong")


def released(champion: Bundle = OWN, **fields: Any) -> ReleaseState:
    return ReleaseState(version=1, line="l", models={"m": ModelRelease(champion=champion, **fields)})


@asynccontextmanager
async def serving(
    folder: Path,
    state: ReleaseState,
    *names: str,
    scorers: FakeScorers | None = None,
    snapshot: Snapshot | None = None,
    worker: FakeWorker | None = None,
    gateway: dict[str, Any] | None = None,
    **profile: Any,
) -> AsyncIterator[Harness]:
    """A gateway that last heard of this state, and whose worker has these adapters."""
    disk.save(folder / "release.json", state)
    disk.save(cache_file(folder), snapshot or Snapshot())
    worker = worker or FakeWorker()
    worker.adapters = {name: f"/{name}" for name in names}
    async with running_gateway(folder, worker, scorers, release=RELEASE, gateway=gateway, **profile) as found:
        yield found


def change(gateway: Harness, state: ReleaseState) -> None:
    """As when the gateway hears of it."""
    releases: Releases = gateway.app.state.releases
    releases._replica._hold(state)


def user(gateway: Harness, *, challenger: bool) -> str:
    def its(name: str) -> bool:
        unit = unit_of("default", gateway.service.signer.hash_user(name))
        return bucket("s", str(unit)) < 0.5

    return next(name for name in map(str, range(1000)) if its(name) == challenger)


def asked_of(gateway: Harness) -> list[str]:
    """The names by which the worker was asked for answers."""
    return [str(body["model"]) for body in gateway.worker.requests]


async def test_the_champion_answers_and_receipt_headers_and_log_say_so(tmp_path: Path) -> None:
    async with serving(tmp_path, released(TWO), "policy-v2") as gateway:
        status, headers, body = await gateway.chat()
        [record] = gateway.interactions
        names = [one["id"] for one in (await (await gateway.session.get("/v1/models")).json())["data"]]
    assert status == 200 and asked_of(gateway) == ["policy-v2"]
    assert (body["guidance"]["policy"], body["guidance"]["release"]) == ("policy@2", 2)
    assert (headers["x-bestow-policy"], headers["x-bestow-release"]) == ("policy@2", "2")
    assert body["guidance"]["degraded"] is None and "safe_mode" not in body["guidance"]
    assert (record.policy, record.release) == ("policy@2", ReleaseRecord(2))
    assert names == ["m"]


async def test_without_a_release_nothing_is_new(tmp_path: Path) -> None:
    async with serving(tmp_path, ReleaseState()) as gateway:
        _, headers, body = await gateway.chat()
        [record] = gateway.interactions
    assert asked_of(gateway) == ["policy"] and record.release is None and body["guidance"]["policy"] == "policy@1"
    assert "release" not in body["guidance"] and "x-bestow-release" not in headers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
async def test_every_endpoint_gives_a_user_the_version_of_their_group(path: str, tmp_path: Path) -> None:
    texts: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
        "/v1/completions": {"prompt": "hi"},
        "/v1/responses": {"input": "hi"},
    }
    async with serving(tmp_path, released(TWO, canary=CANARY), "policy-v2", "policy-v3") as gateway:
        for challenger in (True, False):
            body = {"model": "m", "user": user(gateway, challenger=challenger), **texts[path]}
            for stream in (False, True):
                async with gateway.session.post(path, json={**body, "stream": stream}) as reply:
                    assert reply.status == 200, await reply.text()
                    assert reply.headers["x-bestow-policy"] == ("policy@3" if challenger else "policy@2")
                    await reply.read()
        records = gateway.interactions
    assert asked_of(gateway) == ["policy-v3", "policy-v3", "policy-v2", "policy-v2"]
    its = ReleaseRecord(3, arm="challenger", canary=name_of(CANARY), period="0", counted=True)
    assert records[0].release == records[1].release == its
    assert (
        records[2].release
        == records[3].release
        == ReleaseRecord(2, arm="control", canary=name_of(CANARY), period="0", counted=True)
    )


async def test_a_challenger_that_no_worker_has_is_replaced_and_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, released(TWO, canary=CANARY), "policy-v2") as gateway:
        status, headers, body = await gateway.chat(user=user(gateway, challenger=True))
        [record] = gateway.interactions
        counted = gateway.metric("bestow_release_unavailable_total", model="m")
    assert status == 200 and asked_of(gateway) == ["policy-v2"]
    assert body["guidance"]["degraded"] == headers["x-bestow-degraded"] == "release_unavailable"
    assert (body["guidance"]["policy"], record.release) == ("policy@2", ReleaseRecord(2, fallback=True))
    assert counted == 1


async def test_a_champion_that_no_worker_has_gives_way_to_the_one_before(tmp_path: Path) -> None:
    async with serving(tmp_path, released(THREE, previous=(TWO,)), "policy-v2") as gateway:
        _, _, body = await gateway.chat()
        assert (body["guidance"]["policy"], body["guidance"]["degraded"]) == ("policy@2", "release_unavailable")
        gateway.worker.adapters.clear()
        await gateway.service.pools["policy"].check()
        _, _, body = await gateway.chat()
    assert (body["guidance"]["policy"], body["guidance"]["degraded"]) == ("policy@1", "release_unavailable")


async def test_where_no_worker_is_up_it_is_an_error_and_no_other_release(tmp_path: Path) -> None:
    async with serving(tmp_path, released(TWO), "policy-v2") as gateway:
        await gateway.worker.kill()
        await gateway.service.pools["policy"].check()
        await gateway.service.pools["policy"].check()
        status, _, _ = await gateway.chat()
        [record] = gateway.interactions
    assert (status, record.policy, record.release) == (503, "policy@2", ReleaseRecord(2))


async def test_a_releases_reward_model_ranks_and_what_was_measured_with_the_old_one_is_void(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, values={"shortest": lambda text: -len(text)})
    bundle = Bundle(release=2, reward="shortest", settings={"n": 2})
    profile: dict[str, Any] = {"strategy": "early_stopping", "options": {"threshold": 3.0}, "min_n": 1}
    async with serving(tmp_path, released(bundle), scorers=scorers, **profile) as gateway:
        _, _, body = await gateway.chat()
        before = gateway.worker.requests[0]["n"]
        change(gateway, released())
        _, _, own = await gateway.chat()
    assert (body["guidance"]["reward_model"], body["guidance"]["policy"]) == ("shortest@1", "policy@1")
    assert body["choices"][0]["message"]["content"] == "one" and before == 2
    # A threshold in the old one's rewards says nothing of the new one's.
    assert (body["guidance"]["strategy"], own["guidance"]["strategy"]) == ("best_of_n", "early_stopping")
    assert own["guidance"]["reward_model"] == "reward@1"


async def test_a_reward_model_that_this_gateway_does_not_know_is_replaced_with_its_whole_release(
    tmp_path: Path,
) -> None:
    bundle = Bundle(release=2, policy="policy@2", served_as="policy-v2", reward="nowhere")
    async with serving(tmp_path, released(bundle), "policy-v2") as gateway:
        _, _, body = await gateway.chat()
    receipt = body["guidance"]
    assert (receipt["policy"], receipt["reward_model"]) == ("policy@1", "reward@1")
    assert receipt["degraded"] == "release_unavailable"


async def test_in_the_shadow_a_new_reward_model_reads_along(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, values={"new": len})
    canary = Canary(bundle=Bundle(release=3, reward="new"), control=Bundle(), salt="s", phase="shadow", began=1.0)
    async with serving(tmp_path, released(canary=canary), scorers=scorers) as gateway:
        _, _, body = await gateway.chat()
        await until(lambda: any("new" in request.values() for request in scorers.requests))
    assert body["guidance"]["reward_model"] == "reward@1"


async def test_a_request_keeps_its_version_to_the_end_whatever_is_released_meanwhile(tmp_path: Path) -> None:
    """All answers of the first round are unsafe, so that there is a second."""
    worker = FakeWorker(texts=["one", "two"], delays_s=(0.15,))
    scorers = FakeScorers(rewards=len, unsafe=frozenset({"one", "two"}))
    profile: dict[str, Any] = {"n": 2, "resample": 2, "safety": "safety"}
    async with serving(
        tmp_path, released(TWO), "policy-v2", "policy-v3", worker=worker, scorers=scorers, **profile
    ) as gateway:
        asking = asyncio.create_task(gateway.chat())
        await until(lambda: len(worker.requests) == 2)
        change(gateway, released(THREE))
        _, _, body = await asking
        await gateway.chat()
        [first, _] = gateway.interactions
    asked = asked_of(gateway)
    assert asked == ["policy-v2"] * 3 + ["policy-v3"] * 3
    assert body["guidance"]["policy"] == first.policy == "policy@2"


async def test_safe_mode_is_the_configurations_own_without_exploring_comparing_or_training(tmp_path: Path) -> None:
    state = released(TWO, canary=CANARY)
    safe = ReleaseState(version=2, line="l", models=state.models, safe_mode=NOTE)
    shared = Snapshot(tenants={"default": Tenant("default", log=TenantLog(training="shared"))})
    profile: dict[str, Any] = {"selection": {"explore": 1.0}, "comparison": {"share": 1.0, "ask": "all"}}
    async with serving(tmp_path, state, "policy-v2", "policy-v3", snapshot=shared, **profile) as gateway:
        await gateway.chat(user=user(gateway, challenger=True))
        change(gateway, safe)
        for challenger in (True, False):
            _, headers, body = await gateway.chat(user=user(gateway, challenger=challenger))
            receipt = body["guidance"]
            assert (receipt["policy"], receipt["safe_mode"], receipt["degraded"]) == ("policy@1", True, None)
            assert headers["x-bestow-safe-mode"] == "on" and "release" not in receipt and "comparison" not in receipt
        vote = {"id": body["id"], "kind": "thumbs", "value": True}
        assert (await gateway.session.post("/v1/feedback", json=vote)).status == 202
        before, *records = gateway.interactions
        feedback = gateway.accepted[-1]
        log = gateway.service.log.privacy
    assert before.training == "shared" and before.selection and "explore" in before.selection.rule
    for record in records:
        assert (record.training, record.release) == ("none", ReleaseRecord(safe_mode=True))
        assert record.selection is not None and record.selection.rule == "argmax"
        assert record.winner is not None and record.winner.propensity == 1.0
    assert log.received(feedback).training == "none"  # type: ignore[union-attr]


async def test_an_operator_can_ask_for_weights_that_are_not_released(tmp_path: Path) -> None:
    state = released(TWO, canary=CANARY)
    async with serving(tmp_path, state, "policy-v2", "policy-v9", "other") as gateway:
        for wish, version in [("policy-v9", "policy@9"), ("other", "policy@1+other"), ("policy", "policy@1")]:
            _, _, body = await gateway.chat(guidance={"policy": wish}, user=user(gateway, challenger=True))
            assert body["guidance"]["policy"] == version and "release" not in body["guidance"]
        status, _, refused = await gateway.chat(guidance={"policy": "policy-v8"})
        records = gateway.interactions
    assert asked_of(gateway) == ["policy-v9", "other", "policy"]
    assert [record.release for record in records] == [ReleaseRecord(pinned=True)] * 3
    assert (status, refused["error"]["code"]) == (404, "policy_not_served")
    assert "other, policy, policy-v2, policy-v9" in refused["error"]["message"]


async def test_nobody_else_can(tmp_path: Path) -> None:
    async with serving(tmp_path, released(), "policy-v9", gateway={"allow_anonymous": True}) as gateway:
        status, _, body = await gateway.chat(guidance={"policy": "policy-v9"})
    assert (status, body["error"]["code"], body["error"]["param"]) == (403, "policy_forbidden", "guidance.policy")
    assert not gateway.worker.requests and not gateway.interactions


async def test_a_page_of_another_site_is_no_operator_where_no_keys_exist(tmp_path: Path) -> None:
    async with serving(tmp_path, released(), "policy-v9") as gateway:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "guidance": {"policy": "policy-v9"}}
        headers = {"origin": "https://elsewhere.example"}
        async with gateway.session.post("/v1/chat/completions", json=body, headers=headers) as reply:
            assert reply.status == 403
