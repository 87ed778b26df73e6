"""The stages of a turn and their commands."""

from typing import Any

import pytest
from typer.main import get_command

from gateway.release.commands import release_app
from training.commands import train_app
from training.cycle.settings import CycleSettings
from training.cycle.stages import refusal, steps
from training.cycle.turn import Stage, Turn

SAID: dict[str, dict[str, Any]] = {
    "defend": {},
    "snapshot": {"id": "3f9a1c22b7e0"},
    "gate data": {"passed": True},
    "reward": {"model": "reward@2", "folder": "/r", "ref": "reward_model:reward@2"},
    "holdout": {"model": "holdout@2", "folder": "/h", "ref": "reward_model:holdout@2"},
    "gate reward": {"passed": True},
    "policy": {"ref": "policy:demo-policy@2", "folder": "/p"},
    "gate policy": {"passed": True},
    "create": {"number": 4},
    "start": {},
}


def whole_turn(settings: CycleSettings) -> Turn:
    names = [step.name for step in steps(settings)]
    return Turn(number=1, began=0.0, settings={}, stages=[Stage(name, SAID[name]) for name in names])


def commands(settings: CycleSettings) -> dict[str, list[str]]:
    turn = whole_turn(settings)
    return {step.name: step.command(settings, turn) for step in steps(settings)}


def test_a_turn_goes_from_the_log_to_the_canary() -> None:
    assert [step.name for step in steps(CycleSettings())] == list(SAID)


def test_what_is_not_wanted_has_no_stage() -> None:
    settings = CycleSettings.model_validate({"reward": {"train": False}, "release": "none"})
    assert [step.name for step in steps(settings)] == [
        "defend",
        "snapshot",
        "gate data",
        "holdout",
        "policy",
        "gate policy",
    ]


def test_each_stage_is_given_what_the_ones_before_it_made() -> None:
    found = commands(CycleSettings())
    assert found["reward"][2] == "3f9a1c22b7e0"
    assert found["policy"][-2:] == ["--reward-model", "reward_model:reward@2"]
    gate = found["gate policy"]
    assert gate[gate.index("--holdout") + 1] == "reward_model:holdout@2"
    assert gate[gate.index("--proxy") + 1] == "reward_model:reward@2"
    assert found["start"][2] == "4"


def test_the_holdout_model_never_trains_a_policy() -> None:
    for name, command in commands(CycleSettings()).items():
        if name != "gate policy":
            assert not any("holdout@" in part for part in command), name


@pytest.mark.parametrize(
    "settings",
    [
        CycleSettings(model="bestow-demo"),
        CycleSettings.model_validate(
            {
                "model": "bestow-demo",
                "tenant": "acme",
                "curated": "rows.jsonl",
                "snapshot_settings": "rows.yaml",
                "reference": "reward@1",
                "reward": {"base": "b", "lora": True, "settings": {"epochs": 2}},
                "policy": {"name": "demo-policy", "method": "dpo", "full": True, "settings": {"beta": 0.05}},
                "thresholds": "t.yaml",
                "prompts": "p.jsonl",
            }
        ),
        CycleSettings.model_validate({"model": "m", "shared": True, "reward": {"train": False, "model": "reward@1"}}),
    ],
)
def test_every_command_is_one_that_bestow_knows(settings: CycleSettings) -> None:
    for name, (group, *rest) in commands(settings).items():
        command = get_command({"train": train_app, "release": release_app}[group])
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        command.make_context("bestow", [*rest, "--config", "bestow.yaml"], resilient_parsing=False)
        assert name in SAID


def test_a_refusal_names_the_checks_that_failed() -> None:
    report = {
        "verdicts": [
            {"check": "win rate", "outcome": "fail", "reason": "0.48 (0.44 to 0.52)"},
            {"check": "length", "outcome": "pass", "reason": "fine"},
            {"check": "safety", "outcome": "unmeasured", "reason": "400 prompts needed"},
        ]
    }
    assert refusal(report) == "win rate: 0.48 (0.44 to 0.52); safety: 400 prompts needed"
