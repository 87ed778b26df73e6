"""`bestow train cycle` and `bestow train turns`."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from gateway.config import Config
from gateway.launch.demo import demo_here
from gateway.log.source import ConfigOption
from gateway.shared.command_line import JsonOption, plain, print_json, print_table
from scorers.scorer_settings import RewardConfig
from training.configured import configured
from training.cycle.child import run_bestow
from training.cycle.running import alone, begun, run_turn
from training.cycle.settings import CycleSettings, load_settings
from training.cycle.stages import steps
from training.cycle.turn import Turn, read_turns, turns_of
from training.data.finding import home_at
from training.data.places import home_of
from training.errors import TrainingError

SettingsOption = Annotated[
    Path | None,
    typer.Option("--settings", "-s", metavar="FILE", help="YAML: what a turn does; see deploy/training/cycle.yaml."),
]


def cycle(
    settings: SettingsOption = None,
    anew: Annotated[bool, typer.Option("--anew", help="Give up an interrupted turn, and begin another.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which stages it would have.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """One whole turn of the loop: datasets, reward model, gate, policy, gate, release, canary.

    \b
    Each stage is a command that can be given by hand. Killed or interrupted, the same command goes on behind the last
    stage that was finished. Where a gate says no, or a stage fails, nothing that serves has changed; the reason is kept
    (bestow train turns). It needs an admin key where the gateway has keys (BESTOW_API_KEY). Example:
      bestow train cycle                                what is shipped: KTO on thumbs, then a canary
      bestow train cycle --settings cycle.yaml
      bestow train cycle --settings cycle.yaml --dry-run
    """
    here = configured(config) or demo_here()
    wanted = whole(settings, here)
    if dry_run:
        for number, step in enumerate(steps(wanted), 1):
            print(f"{number:>2}  {step.name:<12} {step.about}")
        return
    home = home_of(here)
    with alone(home):
        turn = begun(home, wanted, time.time(), anew=anew)
        console = Console(stderr=True, highlight=False)
        done = len(turn.stages)
        console.print(f"turn {turn.number}" + (f" goes on behind {turn.stages[-1].name}" if done else ""))
        turn = run_turn(home, turn, run_bestow, config_arguments(config), console.print)
    if as_json:
        print_json(msgspec.to_builtins(turn))
    else:
        print(told(turn))
    if turn.ending == "failed":
        raise typer.Exit(1)
    if turn.ending == "stopped":
        raise typer.Exit(3)


def turns(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """The turns of the loop so far: what each came to, and why."""
    found = read_turns(turns_of(home_at(config)))
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    if not found:
        print("There was no turn yet: bestow train cycle begins one.")
        return
    table = Table("turn", "began", "took", "ending", "why")
    for turn in found:
        began = datetime.fromtimestamp(turn.began, UTC).strftime("%Y-%m-%d %H:%M")
        took = f"{sum(one.seconds for one in turn.stages):.0f} s"
        table.add_row(str(turn.number), began, took, turn.ending or _where(turn), plain(turn.why))
    print_table(table)


def whole(path: Path | None, here: Config) -> CycleSettings:
    """The settings of a file, with what the configuration says where they say nothing: the only model, its policy, and
    its reward model as what no vote has taught. Raises TrainingError.
    """
    found = load_settings(path)
    models = list(here.models)
    if found.model is None and len(models) != 1:
        raise TrainingError(f"There are several models ({', '.join(models)}): name the one to improve in --settings.")
    model = found.model or models[0]
    if model not in here.models:
        raise TrainingError(f"model: there is no model {model!r} (there is {', '.join(models)}).")
    configured_reward = _configured_reward(here, model)
    policy = found.policy.model_copy(update={"name": found.policy.name or here.models[model].policy})
    reward = found.reward
    if not reward.train and reward.model is None:
        reward = reward.model_copy(update={"model": configured_reward})
    reference = found.reference or configured_reward
    return found.model_copy(update={"model": model, "policy": policy, "reward": reward, "reference": reference})


def _configured_reward(here: Config, model: str) -> str | None:
    """The folder or id of the reward model that the file names: no vote of this system has taught it."""
    profile = here.profiles.get(here.models[model].profile)
    scorer = here.scorers.get(profile.reward or "") if profile else None
    return scorer.model if isinstance(scorer, RewardConfig) else None


def config_arguments(config: Path | None) -> list[str]:
    """For the commands of the stages."""
    return ["--config", str(config)] if config else []


def told(turn: Turn) -> str:
    """How it ended, in a sentence or two."""
    if turn.ending == "released":
        return f"Turn {turn.number}: {turn.why}. Users get it step by step: bestow release status"
    if turn.ending == "created":
        return f"Turn {turn.number}: {turn.why}. Give it to users: bestow release start"
    if turn.ending == "registered":
        return f"Turn {turn.number}: {turn.why}, in the registry: bestow release list"
    if turn.ending == "stopped":
        return plain(f"Turn {turn.number} was stopped by a gate; what serves is unchanged. {turn.why}")
    return plain(f"Turn {turn.number} failed; what serves is unchanged. {turn.why}. The same command tries it again.")


def _where(turn: Turn) -> str:
    return f"interrupted after {turn.stages[-1].name}" if turn.stages else "interrupted"
