"""`bestow release status`, `promote`, ...: as a person and as a program use them, in front of a gateway."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.release.commands import release_app
from tests.gateway.log.conftest import RedisServer
from tests.gateway.release.released import adapter, people, releasing
from tests.gateway.workers.test_worker_commands import bestow, said
from tests.training.registry.making import adapter as made_adapter
from tests.training.registry.making import model as made_model
from tests.training.registry.making import policy as made_policy
from tests.training.registry.making import registry_at
from tests.waiting import until
from training.registry.layout import Release


async def test_a_release_is_shown_held_promoted_and_taken_back(redis_server: RedisServer, tmp_path: Path) -> None:
    async with releasing(redis_server, tmp_path, settings={"min_users": 1_000_000, "hold_back": 0.2}) as one:
        gateway = one.gateway
        assert "what the configuration says" in await said(gateway, "release", "status", cwd=tmp_path)
        await one.submit(adapter())

        async def begun() -> bool:
            return await one.phase() == "canary"

        await until(begun)
        for user in people(12):
            await one.vote(user, up=True)

        async def read() -> bool:
            return bool((await one.seen())["challenger"]["users"]["challenger"])

        await until(read)
        shown = await said(gateway, "release", "status", cwd=tmp_path)
        for part in (
            "release 2: policy@2",
            "stage 1 of 2: 50 % of the users get it",
            "thumbs up among first votes",
            "next      it stays",
            "release.min_users",
            "prepared",
            "try it",
        ):
            assert part in shown, shown
        found = json.loads(await said(gateway, "release", "status", "--model", "m", "--json", cwd=tmp_path))
        assert found["data"][0]["challenger"]["signals"][0]["signal"] == "ratio"
        assert "stays where it is" in await said(gateway, "release", "hold", "--reason", "holidays", cwd=tmp_path)
        assert "holidays" in await said(gateway, "release", "status", cwd=tmp_path)
        assert "goes on" in await said(gateway, "release", "resume", cwd=tmp_path)
        done = await asyncio.to_thread(bestow, "release", "promote", "--url", gateway.url, cwd=tmp_path)
        assert done.returncode == 1 and "is not shown to be as good yet" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        promoted = await said(gateway, "release", "promote", "--force", "--reason", "I looked", cwd=tmp_path)
        assert "m is answered by release 2: policy@2." in promoted and "hold-back" in promoted
        back = await said(gateway, "release", "rollback", "--reason", "worse", cwd=tmp_path)
        assert "what the configuration says" in back
        history = await said(gateway, "release", "history", cwd=tmp_path)
        assert "rolled back" in history.splitlines()[0] and "I looked" in history and "submitted" in history


async def test_safe_mode_is_one_command_and_a_veto_bars(redis_server: RedisServer, tmp_path: Path) -> None:
    async with releasing(redis_server, tmp_path) as one:
        gateway = one.gateway
        assert "Safe mode is off." in await said(gateway, "release", "safe-mode", cwd=tmp_path)
        on = await said(gateway, "release", "safe-mode", "on", "--reason", "complaints", cwd=tmp_path)
        assert "Safe mode is on" in on and "by anonymous: complaints" in on
        assert "SAFE MODE" in await said(gateway, "release", "status", cwd=tmp_path)
        assert "Safe mode is off." in await said(gateway, "release", "safe-mode", "off", cwd=tmp_path)
        await said(gateway, "release", "veto", "2", "--reason", "its data is wrong", cwd=tmp_path)
        assert "its data is wrong" in (await one.submit(adapter(), 409))["error"]["message"]


async def test_a_release_of_the_registry_is_started(redis_server: RedisServer, tmp_path: Path) -> None:
    registry = registry_at(str(tmp_path / "registry"), tmp_path / "cache")
    published = registry.publish(made_policy("j", name="policy"), made_adapter(tmp_path / "made"), above=1)
    full = registry.publish(made_policy("k", name="policy", adapter=False), made_model(tmp_path / "whole"), above=1)
    digests = {ref: registry.digest(ref) for ref in (published.ref, full.ref)}
    release = Release(number=0, model="m", policy=published.ref, passed=True, digests=digests)
    number = registry.release(release).number
    whole = registry.release(Release(number=0, model="m", policy=full.ref, digests=digests)).number
    async with releasing(redis_server, tmp_path / "data", settings={"min_users": 1_000_000}) as one:
        where = ["--registry", str(tmp_path / "registry")]
        started = await said(one.gateway, "release", "start", str(number), *where, "--reason", "June", cwd=tmp_path)
        assert f"Release {number} of m is on its way: release {number}: policy@2." in started

        async def begun() -> bool:
            return await one.phase() == "canary"

        await until(begun)
        [(name, path)] = one.gateway.worker.adapters.items()
        assert name == "policy-v2" and (Path(path) / "adapter_config.json").exists()
        roll = ["release", "roll", "--command", "true", *where, "--url", one.gateway.url]
        done = await asyncio.to_thread(bestow, *roll, str(number), cwd=tmp_path)
        assert done.returncode == 1 and "has an adapter, which is loaded into running workers" in done.stderr
        done = await asyncio.to_thread(bestow, *roll, str(whole), cwd=tmp_path)
        assert done.returncode == 1 and "policy has 1 workers" in done.stderr


@pytest.mark.parametrize(
    "command", ["start", "status", "promote", "rollback", "veto", "hold", "resume", "history", "roll", "safe-mode"]
)
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(release_app, [command, "--help"])
    assert done.exit_code == 0 and "Usage" in done.stdout and f"bestow release {command}" in done.stdout
