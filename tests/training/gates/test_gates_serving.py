"""What serves, as the configuration says, and reward models by the names that people type."""

from pathlib import Path

import pytest

from gateway.config import Config, ModelConfig
from gateway.launch.demo import PROJECT, demo_config
from training.errors import TrainingError
from training.gates.options import known_folder, scorer_named
from training.gates.serving import profile_of, public_model, reward_model_of
from training.registry.registry import Registry

DEMO = demo_config(PROJECT)
TWO = DEMO.model_copy(
    update={"models": {"a": ModelConfig(policy="demo-policy"), "b": ModelConfig(policy="other")}},
)


def test_the_only_model_is_meant_where_none_is_named() -> None:
    assert public_model(DEMO, None)[0] == "bestow-demo"
    assert public_model(TWO, None, "other")[0] == "b"
    assert profile_of(DEMO, DEMO.models["bestow-demo"]).reward == "reward"


def test_several_must_be_told_apart() -> None:
    with pytest.raises(TrainingError, match="name one with --model"):
        public_model(TWO, None)
    with pytest.raises(TrainingError, match="there is a, b"):
        public_model(TWO, "c")


def test_the_reward_model_that_serves_is_the_profiles(tmp_path: Path) -> None:
    found = reward_model_of(demo_config(tmp_path), None)
    assert found is None
    folder = tmp_path / "training" / "demo" / "models" / "reward"
    folder.mkdir(parents=True)
    assert reward_model_of(demo_config(tmp_path), None) == folder
    assert reward_model_of(Config(), None) is None


def test_a_reward_model_is_a_version_a_folder_or_a_scorer_that_runs(tmp_path: Path) -> None:
    registry, made = Registry(str(tmp_path / "registry")), tmp_path / "reward-models" / "reward@3"
    made.mkdir(parents=True)
    assert known_folder("reward@3", registry, tmp_path) == (made, "reward_model:reward@3")
    other = tmp_path / "my model"
    other.mkdir()
    assert known_folder(str(other), registry, tmp_path) == (other, "reward_model:my-model@1")
    assert scorer_named("reward@3", registry, tmp_path) == str(made)
    assert scorer_named(str(made), registry, tmp_path) == str(made)
    assert scorer_named("running", registry, tmp_path) == "running"
    with pytest.raises(TrainingError, match="There is no reward model nothing"):
        known_folder("nothing", registry, tmp_path)
