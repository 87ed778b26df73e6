"""What the gates' commands share: options, how models are named, how a report is told."""

import re
from pathlib import Path
from typing import Annotated

import typer

from gateway.shared.command_line import print_json, print_table
from training.data.places import reward_models_of
from training.errors import TrainingError
from training.gates.reporting import as_dict, conclusion, table
from training.gates.verdicts import GateReport
from training.registry.refs import parse_label
from training.registry.registry import Registry

ThresholdsOption = Annotated[
    Path | None,
    typer.Option(
        "--thresholds", metavar="FILE", help="YAML: limits of the checks.  (default: training/gates/thresholds.yaml)"
    ),
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry", metavar="URL", help="A folder or an fsspec URL.  (default: training/registry in data_dir)"
    ),
]


def model_folder(named: str, registry: Registry, home: Path) -> tuple[Path, str | None] | None:
    """The folder of a reward model, and its ref where the registry has it; None where the name is of neither.

    named: reward_model:NAME@N of the registry, NAME@N as `bestow train reward` made it, or a folder.
    Raises TrainingError.
    """
    if named.startswith("reward_model:"):
        return registry.local(named), named
    made = reward_models_of(home) / named
    for folder in (made, Path(named).expanduser()):
        if folder.is_dir():
            return folder, None
    return None


def known_folder(named: str, registry: Registry, home: Path) -> tuple[Path, str]:
    """The same, with a ref for what is not in the registry too. Raises TrainingError where there is none."""
    from training.reward.versions import CARD, read_card  # noqa: PLC0415  # slow to import

    found = model_folder(named, registry, home)
    if found is None:
        raise TrainingError(
            f"There is no reward model {named}: give reward_model:NAME@N of the registry, NAME@N of "
            f"{reward_models_of(home)}, or a folder."
        )
    folder, ref = found
    if ref is None:
        card = read_card(folder) if (folder / CARD).is_file() else None
        ref = f"reward_model:{card.name}@{card.version}" if card else f"reward_model:{_label(folder.name)}"
    return folder, ref


def _label(name: str) -> str:
    """Of a folder that is no version: a name that a report can be kept under."""
    return name if parse_label(name) else f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('._-')[:64] or 'model'}@1"


def scorer_named(named: str, registry: Registry, home: Path) -> str:
    """A folder where the name is of a reward model; else the name, of a scorer that runs."""
    found = model_folder(named, registry, home)
    return named if found is None else str(found[0])


def tell(report: GateReport, as_json: bool) -> None:
    """Exit code 1 where it did not pass."""
    if as_json:
        print_json(as_dict(report))
    else:
        print_table(table(report))
        print()
        print(conclusion(report))
    if not report.passed:
        raise typer.Exit(1)
