"""`bestow train reward`: a reward model from a snapshot, as jobs, into a version with a card."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError
from rich.table import Table

from gateway.config import Config
from gateway.shared.command_line import JsonOption, plain, print_json, print_table, read_changes
from training.configured import configured, policy_model
from training.data.finding import find_snapshot
from training.data.places import home_of, make_folder, reward_models_of
from training.errors import TrainingError
from training.jobs.running import Runner, read_running
from training.jobs.showing import counting, run_shown
from training.registry.registry import configured_registry
from training.reward.settings import RewardSettings

if TYPE_CHECKING:
    from training.reward.versions import Card

# ruff: noqa: PLC0415  # transformers, torch, matplotlib: seconds


def reward(
    snapshot: Annotated[
        str,
        typer.Argument(metavar="SNAPSHOT", help="A snapshot: its id as `bestow train snapshot` said it, or its URL."),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help="What to start from: a folder or Hugging Face id.  [default: the configured policy]"
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The model's name; each run makes a new version.  [default: reward, or holdout]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Models to train; how far they differ is reported.")] = 3,
    lora: Annotated[
        bool, typer.Option("--lora/--full", help="Train a LoRA, merged at the end, or all weights.")
    ] = False,
    split: Annotated[
        Literal["train", "holdout"],
        typer.Option(help="holdout: a second opinion, on which no policy is ever trained or selected."),
    ] = "train",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Another setting, such as epochs=2; may be repeated."),
    ] = None,
    runner: Annotated[Runner, typer.Option(help="What does the work; see docs/training.md.")] = "process",
    runner_settings: Annotated[Path | None, typer.Option(help="YAML file with the runner's settings.")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder for the versions.  [default: DATA_DIR/training/reward-models]")
    ] = None,
    jobs: Annotated[
        Path | None,
        typer.Option("--jobs", help="Folder for unfinished work.  [default: DATA_DIR/training/jobs]"),
    ] = None,
    as_json: JsonOption = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Configuration file.  [default: .bestow/run.yaml, else bestow.yaml]"),
    ] = None,
) -> None:
    """Train a reward model on what people said, and say how good it is.

    Pairs (Bradley-Terry, with margins) and thumbs are learnt by one scalar. The result is a folder that the scorer
    server and vLLM load as it is, with a card; it is in the registry too (bestow release list). Killed or interrupted,
    the same command goes on where it was.

    \b
      bestow train reward 3f9a1c22b7e0                                 three seeds, from the policy that answers
      bestow train reward 3f9a1c22b7e0 --base Qwen/Qwen3-0.6B --lora
      bestow train reward 3f9a1c22b7e0 --split holdout                 a second opinion, for evaluation alone
      bestow train reward 3f9a1c22b7e0 --set epochs=2 --set label_weight=0.5
      bestow train reward 3f9a1c22b7e0 --runner accelerate --runner-settings eight-gpus.yaml
    """
    from training.jobs.models import base_folder
    from training.reward.job import prepare_jobs
    from training.reward.versions import check_name, made_before, read_card, write_version

    name = name or ("reward" if split == "train" else "holdout")
    check_name(name)
    running = read_running(runner, runner_settings)
    chosen = _settings(settings or [], lora)
    settings_here = configured(config)
    home = home_of(settings_here or Config())
    found = find_snapshot(snapshot, home)
    folder = base_folder(base or policy_model(settings_here))
    work, versions = jobs or home / "jobs", to or reward_models_of(home)
    make_folder(work)
    rows = sum(found.count(kind, of) for kind in ("preference", "unpaired") for of in (split, "calibration"))
    with counting("Rendering rows", rows) as tell:
        made = prepare_jobs(found, split, folder, chosen, seeds, running.processes, work, tell)
    version = made_before(versions, name, made)
    if version is None:
        for number, job in enumerate(made, 1):
            run_shown(running, job, f"Training seed {number} of {seeds}")
        version = write_version(versions, name, found.url, made)
    if read_card(version).report is None:
        from training.reward.card import write_report

        with counting("Measuring on the test split", None) as tell:
            write_report(version, found, tell)
    for job in made:
        shutil.rmtree(job.folder, ignore_errors=True)
    registered = configured_registry(settings_here or Config()).publish_reward_model(version)
    if as_json:
        print_json({"model": version.name, "folder": str(version), "ref": registered.ref})
        return
    _show(version, read_card(version))
    print(f"In the registry: {registered.ref}. Is it good enough? bestow train gate reward {registered.ref}")


def _settings(changes: list[str], lora: bool) -> RewardSettings:
    given = {"method": "lora" if lora else "full", **read_changes(changes)}
    try:
        return RewardSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = ", ".join(RewardSettings.model_fields)
        raise TrainingError(f"--set {key}: {first['msg']}. The settings are {known}.") from error


def _show(folder: Path, card: "Card") -> None:
    from training.reward.versions import read_members

    members = read_members(folder)
    table = Table("seed", "calibration loss", "agreement", "a", "b", "weights", "")
    for one in members.members:
        table.add_row(
            str(one.seed),
            "-" if one.loss is None else f"{one.loss:.4f}",
            "-" if one.agreement is None else f"{one.agreement:.3f}",
            f"{one.a:.3f}",
            f"{one.b:.3f}",
            one.weights[:12],
            "served" if one.seed == members.served else "",
        )
    print_table(table)
    learnt = ", ".join(f"{count} {kind}" for kind, count in card.data.items())
    print(f"Learnt from {learnt}.")
    for reason, count in card.left_out.items():
        print(f"Left out: {count} {reason}.")
    if card.spread is not None:
        print(
            f"Seeds differ by {card.spread.deviation:.3f} on a calibration pair whose rewards differ by "
            f"{card.spread.size:.3f} ({card.spread.pairs} pairs)."
        )
    print(plain(f"{card.name}@{card.version} is in {folder}; card.json says how good it is."))
    if card.split == "holdout":
        print("It is for evaluation: no policy may be trained or selected on it.")
    else:
        print(plain(f"Next: bestow scorers add {card.name}-{card.version} --model {folder} --shadow default"))
