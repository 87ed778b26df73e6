"""`bestow train policy` from a snapshot to a version of the registry, in real processes."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.training.reward.small_world import pairs, question, thumbs
from tests.training.snapshots import side, write_snapshot
from training.commands import train_app
from training.data.rows import PromptOnly, Row
from training.errors import TrainingError
from training.jobs.contract import write_json
from training.policy.model import is_adapter
from training.registry.registry import Registry
from training.reward.versions import Card

QUICK = ["--set", "batch=8", "--set", "rate=0.003", "--set", "max_new_tokens=6", "--set", "checkpoints=2"]


def ran(*arguments: str) -> str:
    result = CliRunner().invoke(train_app, ["policy", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture
def url(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A snapshot, in a folder with a configuration of a tiny policy."""
    import random  # noqa: PLC0415

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    configuration = {
        "policies": {"small": {"model": str(tiny), "version": 3}},
        "models": {"chat": {"policy": "small", "profile": "plain"}},
        "profiles": {"plain": {"reward": None, "safety": None}},
    }
    (tmp_path / "bestow.yaml").write_text(yaml.safe_dump(configuration))
    rng = random.Random(3)
    asked = [
        PromptOnly(
            prompt=[{"role": "user", "content": question(rng)}],
            side=side(place, "calibration", source="prompt", cluster=f"cluster-{place}"),
        )
        for place in range(6)
    ]
    rows: list[Row] = [*pairs(24), *thumbs(24), *asked]
    return write_snapshot(tmp_path / "snapshot", rows).url


def test_a_snapshot_becomes_a_version_with_what_was_measured_of_it(url: str, tmp_path: Path) -> None:
    said = ran(url, "--method", "kto", *QUICK)
    assert "policy:small@4" in said and "Next: bestow train gate policy policy:small@4" in said
    assert "thumbs down" in said and "KL to the anchor" in said
    registry = Registry(str(tmp_path / ".bestow/training/registry"))
    version = registry.verify("policy:small@4")
    assert (version.adapter, version.method, version.scope) == (True, "kto", "tenant:default")
    assert version.settings["rate"] == 0.003 and version.parents == []
    assert [point["step"] for point in version.measures["curves"]["points"]] == [0, 2, 3]
    assert version.measures["kl"]["per_answer"]["value"] > 0
    assert version.measures["curves"]["points"][0]["kl"]["per_answer"]["value"] == pytest.approx(0, abs=1e-9)
    assert is_adapter(registry.local(version.ref))
    assert str(tmp_path) not in json.dumps(version.measures)
    assert list((tmp_path / ".bestow/training/jobs").iterdir()) == []
    # Said again it finds what it made, and makes nothing.
    again = json.loads(ran(url, "--method", "kto", *QUICK, "--json"))
    assert again["ref"] == "policy:small@4"
    assert len(registry.versions("policy")) == 1


@pytest.mark.slow
def test_another_version_is_gone_on_from_and_is_its_parent(url: str, tmp_path: Path) -> None:
    ran(url, "--method", "dpo", *QUICK, "--measure", "0")
    found = json.loads(ran(url, "--method", "kto", *QUICK, "--measure", "0", "--start", "small@4", "--json"))
    assert found["ref"] == "policy:small@5"
    version = Registry(str(tmp_path / ".bestow/training/registry")).open("policy:small@5")
    assert version.parents == ["policy:small@4"]
    assert "curves" not in version.measures


def test_what_is_missing_is_said_with_what_to_do(url: str, tmp_path: Path) -> None:
    wrong: dict[str, list[str]] = {
        "bestow train snapshot": ["nothing"],
        "The settings are method, lora": [url, "--set", "epoch=2"],
        "no rows that sft": [url, "--method", "sft"],
        "--base": [url, "--base", "./nowhere"],
        "There is no policy other": [url, "--name", "other"],
        "rloo needs": [url, "--method", "rloo"],
        "There is no policy:small@9": [url, "--start", "small@9"],
        "There is no reward model": [url, "--reward-model", "nothing@1"],
    }
    for says, arguments in wrong.items():
        with pytest.raises(TrainingError, match=says):
            ran(*arguments)
    assert not Registry(str(tmp_path / ".bestow/training/registry")).versions("policy")


def test_no_policy_is_trained_on_a_holdout_reward_model(url: str, tmp_path: Path) -> None:
    card = Card(
        name="holdout",
        version=1,
        scope="tenant:default",
        split="holdout",
        base={},
        snapshot={},
        settings={},
        rate=1e-3,
        weights="",
        a=1.0,
        b=0.0,
        served_seed=0,
        seeds=[0],
        data={},
        left_out={},
        jobs=[],
        code={},
    )
    write_json(tmp_path / ".bestow/training/reward-models/holdout@1/card.json", card)
    with pytest.raises(TrainingError, match="holdout reward model"):
        ran(url, "--method", "grpo", "--reward-model", "holdout@1")
