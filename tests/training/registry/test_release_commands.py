"""`bestow release list|show|create|verify|gc` from outside, with a real Redis."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from gateway.launch.demo import demo_config
from gateway.log.connection import connect
from gateway.release.commands import release_app
from gateway.release.state import RELEASES, Bundle, ModelRelease, ReleaseState
from tests.gateway.log.conftest import RedisServer
from tests.training.registry.making import adapter, gated, model, policy, report, reward
from training.errors import TrainingError
from training.registry.layout import Release
from training.registry.registry import Registry

LONG_AGO = 1_000_000.0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The demo's, with its data here and a Redis that nobody has started."""
    settings = demo_config(Path("/nowhere")).model_dump(mode="json", exclude_defaults=True)
    settings |= {"data_dir": str(tmp_path), "redis": {"url": "redis://127.0.0.1:1/0"}}
    path = tmp_path / "bestow.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "training" / "registry"), clock=lambda: LONG_AGO)


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(release_app, [*arguments, "--config", str(config)])


def told(config: Path, *arguments: str) -> str:
    """What a command says that goes well."""
    result = run(config, *arguments)
    assert result.exit_code == 0, result.exception
    return result.output


def refused(config: Path, *arguments: str) -> str:
    result = run(config, *arguments)
    assert isinstance(result.exception, TrainingError)
    return str(result.exception)


def serve(server: RedisServer, config: Path, champion: Bundle, *previous: Bundle) -> None:
    """As gateways that share that Redis would."""
    settings = yaml.safe_load(config.read_text())
    settings["redis"] = {"url": server.url}
    config.write_text(yaml.safe_dump(settings))
    state = ReleaseState(models={"bestow-demo": ModelRelease(champion=champion, previous=previous)})

    async def write() -> None:
        async with connect(server.url) as client:
            await RELEASES.change(client, None, lambda _: state)

    asyncio.run(write())


def versions(registry: Registry, tmp_path: Path, count: int) -> None:
    for number in range(2, count + 2):
        one = registry.publish(
            policy(f"job {number}"), adapter(tmp_path / f"out-{number}", str(number).encode()), above=1
        )
        gated(registry, one)


def test_from_a_version_to_a_release(config: Path, registry: Registry, tmp_path: Path) -> None:
    assert "There is nothing in the registry" in told(config, "list")
    versions(registry, tmp_path, 1)
    done = told(config, "create", "--model", "bestow-demo", "--policy", "demo-policy@2")
    assert "release:1 of bestow-demo, its gates passed" in done
    assert "next      bestow release start 1" in done
    listed = told(config, "list")
    assert "policy:demo-policy@2" in listed and "passed" in listed
    assert "Who serves is unknown: Redis at" in listed


def test_a_stopped_version_is_said_to_be(config: Path, registry: Registry, tmp_path: Path) -> None:
    version = registry.publish(policy("job"), adapter(tmp_path / "out"), above=1)
    registry.note_use("d" * 64, version.ref)
    registry.note_use("d" * 64, "policy:demo-policy@9")
    stopped = report(version.ref, "G2 policy", "fail", data={"prompts": "d" * 64})
    registry.add_verdicts(version.ref, stopped)
    assert "stopped: win rate" in told(config, "list")
    shown = told(config, "show", "demo-policy@2")
    for words in (
        "a LoRA adapter",
        "adapter_model.safetensors",
        "It wins .55 of 400.",
        "prompts dddddddddddd has decided about 1 other",
    ):
        assert words in shown
    said = refused(config, "create", "--model", "bestow-demo", "--policy", "demo-policy@2")
    assert "win rate failed" in said and "--force REASON" in said
    forced = told(config, "create", "--model", "bestow-demo", "--policy", "demo-policy@2", "--force", "a trial")
    assert "made in spite of its gates: a trial" in forced
    assert "against" in told(config, "show", "1")


def test_programs_get_json(config: Path, registry: Registry, tmp_path: Path) -> None:
    versions(registry, tmp_path, 1)
    made = json.loads(told(config, "create", "--model", "bestow-demo", "--policy", "demo-policy@2", "--json"))
    assert (made["ref"], made["passed"]) == ("release:1", True)
    shown = json.loads(told(config, "show", "policy:demo-policy@2", "--json"))
    assert shown["files"]["adapter_model.safetensors"]["bytes"] == 1
    listed = json.loads(told(config, "list", "--json"))
    assert [one["ref"] for one in listed["versions"] + listed["releases"]] == ["policy:demo-policy@2", "release:1"]
    assert listed["serving"] is None and "Redis" in listed["unknown"]


def test_verify_names_what_is_damaged(config: Path, registry: Registry, tmp_path: Path) -> None:
    versions(registry, tmp_path, 2)
    registry.publish(reward("r"), model(tmp_path / "r"))
    told(config, "create", "--model", "bestow-demo", "--policy", "demo-policy@2")
    assert told(config, "verify").count("whole") == 4
    registry.storage.delete("policies/demo-policy@2/adapter_model.safetensors")
    result = run(config, "verify")
    assert result.exit_code == 1
    assert "policy:demo-policy@2: adapter_model.safetensors is missing" in result.output
    assert run(config, "verify", "1").exit_code == 1
    assert run(config, "verify", "demo-policy@3").exit_code == 0


def test_collecting_keeps_what_serves_and_what_it_may_go_back_to(
    config: Path, registry: Registry, tmp_path: Path, redis_server: RedisServer
) -> None:
    versions(registry, tmp_path, 4)
    for number in range(2, 6):
        registry.release(Release(number=0, model="bestow-demo", policy=f"policy:demo-policy@{number}", passed=True))
    serve(redis_server, config, bundle(4, 5), bundle(3, 4))
    listed = told(config, "list")
    assert "champion of bestow-demo" in listed and "rollback of bestow-demo" in listed
    would = told(config, "gc", "--keep", "0", "--dry-run")
    assert "would remove policy:demo-policy@2" in would and "would remove release:2" in would
    assert "4 of them" in would
    assert len(registry.versions("policy")) == 4
    done = told(config, "gc", "--keep", "0")
    assert "removed policy:demo-policy@3" in done
    assert [one.number for one in registry.versions("policy")] == [4, 5]
    assert [one.number for one in registry.releases()] == [3, 4]
    assert "Nothing can be removed" in told(config, "gc", "--keep", "0")


def test_without_redis_nothing_is_collected(config: Path, registry: Registry, tmp_path: Path) -> None:
    versions(registry, tmp_path, 2)
    said = refused(config, "gc", "--keep", "0", "--days", "0")
    assert said.startswith("From here on nothing is removed. Redis at redis://127.0.0.1:1/0 cannot say what serves")
    assert len(registry.versions("policy")) == 2


def test_a_registry_that_cannot_be_read_is_one_sentence(config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refused(config, "list", "--registry", str(tmp_path / "file")).startswith("The registry cannot be read")


def test_the_group_loads_nothing_of_training() -> None:
    code = (
        "import sys, gateway.release.commands; print([name for name in sys.modules if name in ('training', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def bundle(release: int, number: int) -> Bundle:
    return Bundle(release=release, policy=f"demo-policy@{number}", served_as=f"demo-policy-v{number}", path="/x")
