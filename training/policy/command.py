"""`bestow train policy`: a policy that learnt from a snapshot, as a job, into a version of the registry."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer
from rich.table import Table

from gateway.config import Config
from gateway.launch.demo import PROJECT, demo_config
from gateway.shared.command_line import JsonOption, plain, print_json, print_table
from training.configured import configured
from training.data.finding import find_snapshot
from training.data.layout import Snapshot
from training.data.places import home_of, make_folder
from training.errors import TrainingError
from training.jobs.contract import Job
from training.jobs.running import Runner, read_running
from training.jobs.showing import counting, run_shown
from training.policy.choices import ANCHOR, Models, models_of, policy_name, settings_of
from training.policy.learning import Live, rows_of
from training.policy.settings import Method, PolicySettings
from training.registry.layout import Version
from training.registry.registry import Registry, configured_registry

if TYPE_CHECKING:
    from training.policy.curves import Curves

# ruff: noqa: PLC0415  # transformers, torch, matplotlib: seconds


def policy(
    snapshot: Annotated[
        str,
        typer.Argument(metavar="SNAPSHOT", help="A snapshot: its id as `bestow train snapshot` said it, or its URL."),
    ],
    method: Annotated[Method, typer.Option(help="How it learns; see docs/policy.md.")] = "dpo",
    name: Annotated[
        str | None, typer.Option(help="The configured policy to improve.  [default: that of --model, or the only one]")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", help="Its weights: a folder or Hugging Face id.  [default: as configured]"),
    ] = None,
    start: Annotated[
        str, typer.Option(metavar="anchor|REF", help="The version to go on from; KL is held to the anchor anyhow.")
    ] = ANCHOR,
    full: Annotated[bool, typer.Option("--full", help="Train all weights, not a LoRA.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")] = 0,
    reward_model: Annotated[
        str | None,
        typer.Option(
            "--reward-model",
            metavar="MODEL",
            help="What rejection, rloo and grpo learn from, and curves show: reward_model:NAME@N, NAME@N, or a folder.",
        ),
    ] = None,
    holdout: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A second opinion, for the curves alone.")
    ] = None,
    sample: Annotated[
        bool,
        typer.Option(
            "--sample/--logged",
            help="rejection: sample from the live workers, behind all users; or take what users' requests had.",
        ),
    ] = True,
    model: Annotated[str | None, typer.Option("--model", help="The public model that it answers for.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Another setting, such as beta=0.3; may be repeated."),
    ] = None,
    measure: Annotated[int, typer.Option(min=0, help="Calibration prompts for the curves; 0: none are drawn.")] = 100,
    take: Annotated[
        Literal["last", "best"],
        typer.Option(help="best: the point of the curves with the most reward, near enough to the anchor."),
    ] = "last",
    runner: Annotated[Runner, typer.Option(help="What does the work; see docs/training.md.")] = "process",
    runner_settings: Annotated[Path | None, typer.Option(help="YAML file with the runner's settings.")] = None,
    registry: Annotated[
        str | None, typer.Option(metavar="URL", help="Where versions are kept.  [default: DATA_DIR/training/registry]")
    ] = None,
    jobs: Annotated[
        Path | None, typer.Option("--jobs", help="Folder for unfinished work.  [default: DATA_DIR/training/jobs]")
    ] = None,
    as_json: JsonOption = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Configuration file.  [default: .bestow/run.yaml, else bestow.yaml]"),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option("--api-key", envvar="BESTOW_API_KEY", help="The gateway's key.")
    ] = None,
) -> None:
    """Train a policy on what people said, or on what a reward model says.

    The result is a version in the registry: a LoRA adapter that running workers load as it is, or whole weights.
    Nothing that serves changes. Killed or interrupted, the same command goes on where it was.

    \b
      bestow train policy 3f9a1c22b7e0 --method kto   thumbs alone
      bestow train policy 3f9a1c22b7e0 --method dpo --set beta=0.3   pairs
      bestow train policy 3f9a1c22b7e0 --method rejection --reward-model reward@3
      bestow train policy 3f9a1c22b7e0 --runner accelerate --runner-settings gpus.yaml
    """
    from training.policy.job import prepare_job
    from training.policy.publishing import own_number, publish

    running = read_running(runner, runner_settings)
    chosen = settings_of(settings or [], method, full)
    here = configured(config) or demo_config(PROJECT)
    home = home_of(here)
    kept = configured_registry(here, registry)
    found = find_snapshot(snapshot, home)
    name = name or policy_name(here, model)
    needed = models_of(here, kept, name, base, start, reward_model, holdout, chosen)
    rows = rows_of(found, chosen, needed, sample, Live(here, name, model, api_key))
    work = jobs or home / "jobs"
    make_folder(work)
    with counting("Rendering rows", len(rows.rows)) as tell:
        job = prepare_job(
            rows,
            needed.base,
            chosen,
            seed,
            work,
            models=needed.of_job,
            processes=running.processes,
            scope=found.manifest.scope,
            snapshot=found.manifest.id,
            progress=tell,
        )
    version = _made_before(kept, name, job, take)
    curves = None
    if version is None:
        run_shown(running, job, f"Training by {method}")
        curves = _curves(job, needed, found, chosen, measure, here, model, name)
        measures: dict[str, Any] = {"take": take}
        if curves is not None:
            measures |= {"curves": msgspec.to_builtins(curves), "kl": msgspec.to_builtins(curves.points[-1].kl)}
        step = _best(curves) if take == "best" else None
        version = publish(
            kept, job, name, needed.named, needed.parents, measures, step=step, above=own_number(here, name)
        )
    shutil.rmtree(job.folder, ignore_errors=True)
    _show(kept, version, needed, as_json)


def _made_before(kept: Registry, name: str, job: Job, take: str) -> Version | None:
    found = [one for one in kept.versions("policy", name) if one.measures.get("jobs") == [job.manifest().id]]
    return next((one for one in found if one.measures.get("take", "last") == take), None)


def _curves(
    job: Job,
    needed: Models,
    snapshot: Snapshot,
    settings: PolicySettings,
    limit: int,
    here: Config,
    model: str | None,
    name: str,
) -> "Curves | None":
    from training.policy.curves import Readers
    from training.policy.measuring import calibration_prompts, guard_folder, measured_curves

    prompts = calibration_prompts(snapshot, limit)
    if len({one.unit for one in prompts}) < 2:
        if limit:
            typer.echo("The snapshot has no two calibration prompts, so no curves are drawn.", err=True)
        return None
    readers = Readers(needed.reward, needed.holdout, guard_folder(here, model, name))
    with counting("Measuring the points", None) as tell:
        return measured_curves(
            job, needed.anchor or needed.base, needed.base, prompts, readers, settings, lambda: tell(1)
        )


def _best(curves: "Curves | None") -> int:
    if curves is None or curves.chosen is None:
        raise TrainingError(
            "No point of the training can be called the best: that takes --reward-model, calibration prompts, and a "
            "KL to the anchor under the limit. Say --take last, or train more gently."
        )
    return curves.chosen


def _show(kept: Registry, version: Version, needed: Models, as_json: bool) -> None:
    folder = kept.folder(version.ref)
    if as_json:
        print_json({"ref": version.ref, "folder": folder, "served_as": version.served_as, "measures": version.measures})
        return
    training = version.measures["training"]
    table = Table("what", "value", box=None, show_header=False)
    learnt = ", ".join(f"{count} {kind}" for kind, count in training["used"].items())
    table.add_row("learnt from", learnt)
    for reason, count in training["left_out"].items():
        table.add_row("left out", f"{count} {reason}")
    table.add_row("steps", f"{training['steps']} at a rate of {training['rate']:.2g}, loss {training['loss']:.4f}")
    share = training["trained_parameters"] / training["parameters"]
    table.add_row("weights", f"{training['trained_parameters']:,} trained ({share:.1%} of {training['parameters']:,})")
    if kl := version.measures.get("kl"):
        of, token = kl["per_answer"], kl["per_token"]
        table.add_row(
            "KL to the anchor",
            f"{of['value']:.3f} nats an answer ({of['low']:.3f} to {of['high']:.3f}), {token['value']:.4f} a token",
        )
    for point in version.measures.get("curves", {}).get("points", []):
        table.add_row(f"step {point['step']}", _point(point))
    print_table(table)
    print(plain(f"{version.ref} is in {folder}. Nothing that serves has changed."))
    proxy = f" --proxy {needed.reward_named}" if needed.reward_named else ""
    print(plain(f"Next: bestow train gate policy {version.ref} --holdout holdout@1{proxy}"))


def _point(point: dict[str, Any]) -> str:
    parts = [f"KL {point['kl']['per_answer']['value']:.2f}", f"{point['tokens']['value']:.0f} tokens"]
    for what in ("proxy", "holdout", "unsafe", "refusals"):
        if (of := point.get(what)) is not None:
            parts.append(f"{what} {of['value']:.3f} ({of['low']:.3f} to {of['high']:.3f})")
    return ", ".join(parts)
