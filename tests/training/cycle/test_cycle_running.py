"""A turn stage by stage: what is kept, how it ends, and where it goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.cycle.test_cycle_stages import SAID
from training.cycle.child import Answer
from training.cycle.running import alone, begun, run_turn
from training.cycle.settings import CycleSettings
from training.cycle.stages import steps
from training.cycle.turn import Turn, read_turns, turns_of
from training.errors import TrainingError


class Killed(BaseException):
    """What `kill -9` is to the code: nothing behind it runs."""


class Commands:
    """Answers each stage's command as it would; `first` may say otherwise."""

    def __init__(self, first: Callable[[str], Answer | None] = lambda _: None) -> None:
        self.given: list[list[str]] = []
        self._first = first

    def __call__(self, arguments: list[str], log: Path) -> Answer:
        self.given.append(arguments)
        stage = log.stem.replace("-", " ")
        return self._first(stage) or Answer(0, SAID[stage] or {"facts": {}}, "")


def go(home: Path, do: Commands, settings: CycleSettings | None = None) -> Turn:
    turn = begun(home, settings or CycleSettings(), 1000.0)
    return run_turn(home, turn, do, ["--config", "x.yaml"], lambda _: None, clock=lambda: 2000.0)


def test_a_whole_turn_ends_in_a_release(tmp_path: Path) -> None:
    do = Commands()
    turn = go(tmp_path, do)
    assert (turn.ending, turn.why) == ("released", "release 4: reward_model:reward@2 and policy:demo-policy@2")
    assert [command[-2:] for command in do.given] == [["--config", "x.yaml"]] * len(do.given)
    assert read_turns(turns_of(tmp_path)) == [turn]


@pytest.mark.parametrize("stage", [step.name for step in steps(CycleSettings())])
def test_killed_at_any_stage_the_same_command_goes_on_there(tmp_path: Path, stage: str) -> None:
    def kill(now: str) -> Answer | None:
        if now == stage:
            raise Killed
        return None

    with pytest.raises(Killed):
        go(tmp_path, Commands(kill))
    again = Commands()
    resumed = go(tmp_path, again)
    undisturbed = go(tmp_path / "other", Commands())
    assert resumed == undisturbed
    names = [step.name for step in steps(CycleSettings())]
    assert len(again.given) == len(names) - names.index(stage)


def test_a_gate_that_says_no_stops_the_turn_and_the_reason_is_kept(tmp_path: Path) -> None:
    report = {"passed": False, "verdicts": [{"check": "KL", "outcome": "fail", "reason": "12 nats, at most 10"}]}
    do = Commands(lambda stage: Answer(1, report, "") if stage == "gate policy" else None)
    turn = go(tmp_path, do)
    assert (turn.ending, turn.why) == ("stopped", "gate policy: KL: 12 nats, at most 10")
    assert not any("release" in command for command in do.given)


def test_after_a_gate_said_no_the_next_turn_is_a_new_one(tmp_path: Path) -> None:
    go(tmp_path, Commands(lambda stage: Answer(1, {"verdicts": []}, "") if stage == "gate data" else None))
    assert go(tmp_path, Commands()).number == 2


def test_a_stage_that_fails_fails_the_turn_with_its_own_words(tmp_path: Path) -> None:
    do = Commands(lambda stage: Answer(1, None, "The snapshot has no thumbs.") if stage == "policy" else None)
    turn = go(tmp_path, do)
    assert (turn.ending, turn.why) == ("failed", "policy: The snapshot has no thumbs.")


def test_a_failed_turn_goes_on_at_the_stage_that_failed(tmp_path: Path) -> None:
    go(tmp_path, Commands(lambda stage: Answer(1, None, "away") if stage == "policy" else None))
    again = Commands()
    turn = go(tmp_path, again)
    assert (turn.number, turn.ending) == (1, "released")
    assert again.given[0][:2] == ["train", "policy"]


def test_a_gateway_that_does_not_take_the_release_leaves_it_in_the_registry(tmp_path: Path) -> None:
    turn = go(
        tmp_path, Commands(lambda stage: Answer(1, None, "Release 3 is on its way.") if stage == "start" else None)
    )
    assert (turn.ending, turn.why) == ("created", "start: Release 3 is on its way.")


def test_a_command_that_does_not_say_what_the_next_needs_fails_the_turn(tmp_path: Path) -> None:
    turn = go(tmp_path, Commands(lambda stage: Answer(0, {}, "") if stage == "snapshot" else None))
    assert turn.ending == "failed"


def test_an_interrupted_turn_is_not_mixed_with_other_settings(tmp_path: Path) -> None:
    begun(tmp_path, CycleSettings(), 0.0)
    with pytest.raises(TrainingError, match="--anew"):
        begun(tmp_path, CycleSettings(tenant="acme"), 0.0)
    assert begun(tmp_path, CycleSettings(tenant="acme"), 0.0, anew=True).number == 2
    assert [turn.ending for turn in read_turns(turns_of(tmp_path))] == ["abandoned", None]


def test_who_has_lost_the_lock_does_nothing_more(tmp_path: Path) -> None:
    class Lost(Exception):
        pass

    def lost() -> None:
        raise Lost

    do = Commands()
    turn = begun(tmp_path, CycleSettings(), 0.0)
    with pytest.raises(Lost):
        run_turn(tmp_path, turn, do, [], lambda _: None, lost)
    assert do.given == []


def test_there_is_one_turn_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(TrainingError, match="running already"), alone(tmp_path):
        pass
