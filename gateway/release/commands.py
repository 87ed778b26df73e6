"""`bestow release`: which versions there are, which of them people get, and how that is changed.

What is in the registry is `training.registry`'s, imported when it is asked for; what runs is a gateway's admin API.
"""

from pathlib import Path
from typing import Annotated

import typer

from gateway.release.operating import (
    RegistryOption,
    history,
    hold,
    promote,
    resume,
    rollback,
    safe_mode,
    start,
    status,
    veto,
)
from gateway.release.roll_command import roll
from gateway.shared.command_line import ConfigOption, JsonOption

# ruff: noqa: PLC0415  # the gateway imports nothing of training, and --help is quick

release_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Which versions there are, which of them people get, and how that is changed.

    \b
      bestow release list                  versions, releases, who serves
      bestow release show demo-policy@2    what is in it, what the gates said
      bestow release create --model M --policy demo-policy@2
      bestow release start 3               to 1 % of users first, then on
    """,
)


@release_app.callback()
def _group() -> None:
    """A group."""


@release_app.command("list")
def list_(
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List versions and releases, and which of them serves, is being tried, or can be rolled back to.

    \b
      bestow release list
      bestow release list --registry s3://bucket/registry --json
    """
    from training.registry.commands import list_all

    list_all(registry, as_json, config)


@release_app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="REF|N", help="policy:NAME@N, reward_model:NAME@N, or a release's N.")],
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show a version or a release: files, parents, data, measures, and what each gate said of it and why.

    \b
      bestow release show demo-policy@2
      bestow release show 3
    """
    from training.registry.commands import show_one

    show_one(what, registry, as_json, config)


@release_app.command()
def create(
    model: Annotated[str, typer.Option(help="The public name that it is for.")],
    policy: Annotated[
        str | None, typer.Option(metavar="NAME@N", help="A policy's version; none: as the configuration says.")
    ] = None,
    reward_model: Annotated[
        str | None, typer.Option(metavar="NAME@N", help="A reward model's version; none: as the profile says.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="YAML of profile settings that were measured with this reward model: thresholds, prices."),
    ] = None,
    force: Annotated[
        str | None, typer.Option(metavar="REASON", help="Make it though a gate did not pass; the reason is kept.")
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a release of versions that passed their gates. It serves nobody until `bestow release start`.

    \b
      bestow release create --model bestow-demo --policy demo-policy@2
      bestow release create --model bestow-demo --policy demo-policy@2 --reward-model reward@3 --calibration card.yaml
    """
    from training.registry.commands import create_one

    create_one(model, policy, reward_model, calibration, force, registry, as_json, config)


@release_app.command()
def verify(
    what: Annotated[
        str | None, typer.Argument(metavar="[REF|N]", help="A version, or a release with its versions; none: all.")
    ] = None,
    registry: RegistryOption = None,
    config: ConfigOption = None,
) -> None:
    """Read all files, and say which are missing or not as they were published. Exit code 1 where any is.

    \b
      bestow release verify
      bestow release verify reward_model:reward@3
    """
    from training.registry.commands import verify_all

    raise typer.Exit(verify_all(what, registry, config))


@release_app.command()
def gc(
    keep: Annotated[int, typer.Option(min=0, help="Of each name, keep so many of what could be removed.")] = 3,
    days: Annotated[float, typer.Option(min=0, help="Remove nothing younger.")] = 7.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove old versions and releases: never what serves, is being tried, or could be rolled back to.

    Redis is asked what serves; where it does not answer, nothing is removed. Several sets of gateways with a Redis of
    their own must not share a registry that is collected: each knows only of itself.

    \b
      bestow release gc --dry-run
      bestow release gc --keep 5
    """
    from training.registry.commands import collect_garbage

    collect_garbage(keep, days, dry_run, registry, as_json, config)


for _command in (start, status, promote, rollback, veto, hold, resume, history):
    release_app.command()(_command)
release_app.command("safe-mode")(safe_mode)
release_app.command()(roll)
