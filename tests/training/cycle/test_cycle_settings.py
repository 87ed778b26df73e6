"""What a turn does, as a file says it."""

from pathlib import Path

import pytest

from gateway.launch.demo import PROJECT, demo_config
from training.cycle.cycle_command import whole
from training.cycle.settings import CycleSettings, load_settings
from training.errors import TrainingError

EXAMPLE = PROJECT / "deploy/training/cycle.yaml"


def test_the_example_says_what_holds_without_it() -> None:
    assert load_settings(EXAMPLE) == CycleSettings(model="bestow-demo")


def test_the_only_model_and_its_policy_are_meant_where_none_is_named() -> None:
    found = whole(None, demo_config())
    assert (found.model, found.policy.name) == ("bestow-demo", "demo-policy")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("every_hours: -1", "every_hours"),
        ("polcy: {}", "polcy"),
        ("policy: {method: ppo}", "policy.method"),
        ("[", "no YAML"),
        ("model: other", "no model 'other'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "cycle.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TrainingError, match=said):
        whole(path, demo_config())
