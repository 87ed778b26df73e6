"""Releases on real vLLM workers, with gateways as processes of their own and votes as clients send them.

Two workers of the demo policy that take adapters; each adapter is random weights, so that its greedy answer tells
which one it was: what a receipt says is held against what was said.
"""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gateway.config import PolicyConfig
from gateway.launch.demo import demo_config
from gateway.release.rolling import Rolling, Weights
from gateway.workers.admin_client import AdminClient
from scorers.endpoint import Endpoint
from tests.e2e.chaos.workers import RealWorker, start_workers
from tests.e2e.releasing import POLICY, Said, World, until_true, world
from tests.e2e.stack import PROJECT
from tests.e2e.test_adapters import make_adapter
from tests.ports import free_ports

pytestmark = pytest.mark.slow

OWN = f"{POLICY}@1"
SECONDS = 10.0
USERS = [f"user-{number}" for number in range(160)]

WEIGHTS = demo_config(PROJECT).policies[POLICY].model


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RealWorker]]:
    policy = PolicyConfig.model_validate({"model": WEIGHTS, "engine": {"lora": True}})
    running = start_workers(POLICY, policy, free_ports(2), tmp_path_factory.mktemp("workers"))
    yield running
    for worker in running:
        worker.close()


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {number: make_adapter(folder / f"{number}", Path(WEIGHTS), seed=number) for number in (2, 3)}


@pytest.fixture
async def one(workers: list[RealWorker], adapters: dict[int, Path], tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, WEIGHTS, workers, adapters) as made:
        yield made


async def learn(one: World, *versions: int) -> None:
    """What each version says, asked for as an operator does; they all say something else."""
    for number in (1, *versions):
        wish = POLICY if number == 1 else f"{POLICY}-v{number}"
        said = await one.answer("operator", guidance={"policy": wish})
        assert said.policy == f"{POLICY}@{number}"
        one.texts[said.policy] = said.text
    assert len(set(one.texts.values())) == len(one.texts)


async def in_canary(one: World, number: int) -> None:
    """Submitted, on all workers, and known to both gateways."""
    await one.submit(number)
    for gateway in one.gateways:
        await one.until_phase("canary", url=gateway.url)
        await until_true(partial(everywhere, one, number, gateway.url))


async def everywhere(one: World, number: int, url: str) -> bool:
    _, found = await one.call("GET", "/admin/v1/workers", url=url)
    return all(f"{POLICY}-v{number}" in worker["adapters"] for worker in found["data"])


async def all_get(one: World, policy: str) -> bool:
    said = await asked(one, USERS[:16])
    assert all(map(one.true, said))
    return {answer.policy for answer in said} == {policy}


async def asked(one: World, users: Sequence[str]) -> list[Said]:
    """By either gateway in turn."""
    return [await one.answer(user, url=url) for user, url in zip(users, itertools.cycle(urls(one)), strict=False)]


def urls(one: World) -> list[str]:
    return [gateway.url for gateway in one.gateways]


async def test_users_get_it_by_their_hash_and_harm_takes_it_back_within_seconds(
    one: World, report: Callable[[str], None]
) -> None:
    await in_canary(one, 2)
    await learn(one, 2)
    canary = await one.canary()
    answers = await asked(one, USERS[:40])
    for said in answers:
        wanted = f"{POLICY}@2" if one.arm(canary, said.user) == "challenger" else OWN
        assert said.policy == wanted and one.true(said), said
    voted = 0
    for said in answers:
        await one.vote(said, up=said.policy == OWN)
        voted += 1
    for user in USERS[40:]:
        if (await one.release())["challenger"] is None:
            break
        said = await one.answer(user)
        await one.vote(said, up=said.policy == OWN)
        voted += 1
    began = asyncio.get_running_loop().time()
    await until_true(lambda: all_get(one, OWN), SECONDS, one.log)
    took = asyncio.get_running_loop().time() - began
    move = (await one.release())["moves"][0]
    assert move["act"] == "rolled back" and "does harm" in move["note"]["reason"]
    report(f"a challenger that all disliked: rolled back after {voted} votes, nobody got it {took:.1f} s later")


async def test_a_promoted_one_leaves_the_hold_back_group_the_old_and_a_rollback_gives_all_the_old(one: World) -> None:
    await in_canary(one, 2)
    await learn(one, 2)
    await one.do("/promote", force=True)
    canary = await one.canary()
    assert canary.phase == "watch"

    async def heard() -> bool:
        return bool((await one.release(url=one.gateways[1].url))["challenger"]["phase"] == "watch")

    await until_true(heard)
    said = await asked(one, USERS[:40])
    held_back = [answer for answer in said if answer.policy == OWN]
    assert {answer.user for answer in held_back} == {user for user in USERS[:40] if one.arm(canary, user) == "control"}
    assert 0 < len(held_back) < 30 and all(map(one.true, said))
    await one.do("/rollback", url=one.gateways[1].url)
    await until_true(lambda: all_get(one, OWN), SECONDS)


async def test_a_worker_killed_while_adapters_change_mixes_no_versions(one: World) -> None:
    await in_canary(one, 2)
    await learn(one, 2)
    await one.do("/promote", force=True)
    numbers = itertools.count()
    said: list[Said | int] = []
    over = asyncio.Event()

    async def client() -> None:
        while not over.is_set():
            number = next(numbers)
            said.append(await one.ask(f"user-{number % 60}", url=urls(one)[number % 2]))

    clients = [asyncio.create_task(client()) for _ in range(4)]

    async def both_answer() -> bool:
        return {answer.policy for answer in said if isinstance(answer, Said)} == {OWN, f"{POLICY}@2"}

    try:
        await until_true(both_answer)
        await one.do("/rollback")
        await one.submit(3)
        await one.workers[1].kill()
        await asyncio.sleep(2)
        one.workers[1].start()
        await one.workers[1].until_ready()
        await one.until_phase("canary")
        await until_true(lambda: everywhere(one, 3, one.url))
        await asyncio.sleep(2)
    finally:
        over.set()
        await asyncio.gather(*clients)
    # The one that was taken back may be gone from the workers by now; what it says is known.
    await learn(one, 3)
    answers = [answer for answer in said if isinstance(answer, Said)]
    assert all(map(one.true, answers)), [answer for answer in answers if not one.true(answer)][:3]
    assert {answer.policy for answer in answers} == {OWN, f"{POLICY}@2", f"{POLICY}@3"}
    refused = [answer for answer in said if isinstance(answer, int)]
    assert set(refused) <= {502, 503} and len(refused) < len(answers) / 10, refused


async def test_a_leader_killed_in_the_canary_is_followed_by_another(one: World, report: Callable[[str], None]) -> None:
    await in_canary(one, 2)
    await learn(one, 2)
    _, found = await one.call("GET", "/admin/v1/releases")
    leader = one.gateways[0] if found["leads"] else one.gateways[1]
    other = one.gateways[1] if found["leads"] else one.gateways[0]
    assert leader.process is not None
    leader.process.kill()
    await leader.process.wait()
    for user in USERS[:80]:
        said = await one.answer(user, url=other.url)
        assert one.true(said)
        await one.vote(said, up=said.policy == OWN)
    began = asyncio.get_running_loop().time()
    await one.until_phase(None, url=other.url, within_s=30)
    report(
        f"the leader killed in a canary: the next one rolled back {asyncio.get_running_loop().time() - began:.1f} s "
        "after the last vote"
    )
    moves = (await one.release(url=other.url))["moves"]
    assert [move["act"] for move in moves][::-1] == ["submitted", "prepared", "rolled back"]


async def test_safe_mode_gives_everybody_the_configurations_own(one: World) -> None:
    await in_canary(one, 2)
    await learn(one, 2)
    status, _ = await one.call("POST", "/admin/v1/safe-mode", {"reason": "something is odd"})
    assert status == 200
    await until_true(lambda: all_get(one, OWN), SECONDS)
    status, _ = await one.call("DELETE", "/admin/v1/safe-mode")
    assert status == 200

    async def back() -> bool:
        return not await all_get(one, OWN)

    await until_true(back, SECONDS)
    await one.do("/rollback")


async def test_full_weights_reach_users_by_a_rolling_restart(one: World, tmp_path: Path) -> None:
    weights = other_weights(tmp_path / "weights")
    await one.do("", bundle={"release": 4, "policy": f"{POLICY}@4", "served_as": f"{POLICY}-v4"})
    await until_true(partial(waits_for_a_roll, one))
    engine = {"args": ["--served-model-name", POLICY, f"{POLICY}-v4"]}
    policy = PolicyConfig.model_validate({"model": str(weights), "engine": engine})
    replaced: list[tuple[RealWorker, RealWorker]] = []
    loop = asyncio.get_running_loop()

    async def swap(url: str) -> None:
        old = next(worker for worker in one.workers if worker.url == url)
        await old.kill()
        new = RealWorker(POLICY, policy, int(url.rpartition(":")[2]), 0, tmp_path / "new.log")
        replaced.append((old, new))
        new.start()
        await new.until_ready()

    def restart(_: str, environment: Mapping[str, str]) -> int:
        assert environment["WEIGHTS"] == str(weights) and environment["SERVED_AS"] == f"{POLICY}-v4"
        asyncio.run_coroutine_threadsafe(swap(environment["WORKER_URL"]), loop).result()
        return 0

    rolling = Rolling(
        AdminClient(Endpoint(one.url)),
        Weights(4, POLICY, f"{POLICY}-v4", str(weights)),
        "restart",
        drained_s=60,
        back_s=120,
        told=lambda line: None,
        run=restart,
    )
    try:
        assert await asyncio.to_thread(rolling.roll, 1) == 1
        for gateway in one.gateways:
            await one.until_phase("canary", url=gateway.url)
            await until_true(partial(has_alias, one, gateway.url))
        await learn(one, 4)
        canary = await one.canary()
        for said in await asked(one, USERS[:40]):
            wanted = f"{POLICY}@4" if one.arm(canary, said.user) == "challenger" else OWN
            assert said.policy == wanted and one.true(said), said
        await one.do("/rollback")
        await until_true(lambda: all_get(one, OWN), SECONDS)
    finally:
        for old, new in replaced:
            new.close()
            old.start()
            await old.until_ready()


def other_weights(folder: Path) -> Path:
    """The policy's, disturbed enough to be heard."""
    shutil.copytree(WEIGHTS, folder)
    tensors = load_file(folder / "model.safetensors")
    torch.manual_seed(4)
    for name, tensor in tensors.items():
        if "proj" in name:
            tensors[name] = tensor + 0.5 * tensor.std() * torch.randn_like(tensor)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


async def waits_for_a_roll(one: World) -> bool:
    return "bestow release roll 4" in str((await one.release())["challenger"]["waits_for"])


async def has_alias(one: World, url: str) -> bool:
    _, found = await one.call("GET", "/admin/v1/workers", url=url)
    return [worker["alias"] for worker in found["data"]].count(f"{POLICY}-v4") == 1
