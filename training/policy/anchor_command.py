"""`bestow train anchor`: what a policy's KL is measured to."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gateway.config import Config
from gateway.launch.demo import PROJECT, demo_config
from gateway.log.audit import cli_actor
from gateway.shared.command_line import print_table
from gateway.shared.note import Note, note
from training.configured import configured
from training.data.places import home_of
from training.policy.anchors import anchor_of, read_anchors, set_anchor

anchor_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""The version that a policy's KL is measured to, and that its trainings start from.

    It stays the same over all rounds until somebody decides otherwise. Who did, when and why is kept.
    """,
)

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Configuration file.")]


@anchor_app.command()
def show(config: ConfigOption = None) -> None:
    """Each policy's anchor, and the decisions that led there.

    \b
    Example:
      bestow train anchor show
    """
    settings = _settings(config)
    home = home_of(settings)
    table = Table("policy", "anchor", "since", "by", "why", box=None)
    history = read_anchors(home).policies
    for policy in settings.policies:
        for past in history.get(policy, [])[:-1]:
            table.add_row(policy, f"({past.version})", *_said(past.note))
        now = anchor_of(home, settings, policy)
        table.add_row(policy, now.version, *_said(now.note))
    print_table(table)


@anchor_app.command("set")
def set_(
    version: Annotated[str, typer.Argument(metavar="POLICY@N", help="The version that counts as not moved at all.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept.")],
    registry: Annotated[
        str | None, typer.Option(help="The registry's folder or URL.  (default: <data_dir>/training/registry)")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Measure from another version from now on.

    Trainings that begin after that start from it, and the limit on the KL counts from there: whatever the policy has
    moved until then is accepted for good.

    \b
    Example:
      bestow train anchor set demo-policy@4 --reason "read 200 answers of it with the editors; agreed on 12 March"
    """
    from training.registry.registry import configured_registry  # noqa: PLC0415  # fsspec: 0.3 s

    settings = _settings(config)
    made = set_anchor(
        home_of(settings),
        settings,
        version,
        note(cli_actor(), time.time(), reason),
        configured_registry(settings, registry),
    )
    print(f"The anchor is {made.version} from now on.")


def _settings(config: Path | None) -> Config:
    return configured(config) or demo_config(PROJECT)


def _said(made: Note | None) -> tuple[str, str, str]:
    if made is None:
        return "", "", "the configuration's own weights"
    return datetime.fromtimestamp(made.at, UTC).strftime("%Y-%m-%d %H:%M"), made.by, made.reason
