"""What the commands share that ask a gateway's admin API: their options, how they read KEY=VALUE, how they print."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
import yaml
from rich.console import Console
from rich.table import Table

_WIDTH = 1000

UrlOption = Annotated[str | None, typer.Option("--url", help="The gateway, such as http://127.0.0.1:8000.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Configuration file with the gateway's address.  (default: .bestow/run.yaml, else bestow.yaml)",
    ),
]
KeyOption = Annotated[
    str | None, typer.Option("--api-key", envvar="BESTOW_API_KEY", help="An API key with the scope admin.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
ReasonOption = Annotated[str | None, typer.Option(help="Why, for whoever reads the list or the log later.")]


def with_reason(path: str, reason: str | None) -> str:
    """For a request without a body."""
    return f"{path}?{urlencode({'reason': reason})}" if reason else path


def made_by(note: Mapping[str, Any]) -> str:
    """Who changed something and why, in words."""
    return f"by {note['by']}" + (f": {plain(note['reason'])}" if note["reason"] else "")


def read_changes(changes: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, values as in YAML. Raises BadParameter."""
    found: dict[str, Any] = {}
    for one in changes:
        key, equals, value = one.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{one!r} is no KEY=VALUE, such as n=4")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise typer.BadParameter(f"the value of {key} is no YAML; quote it") from None
    return found


def plain(text: str) -> str:
    """Without what would steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def print_table(table: Table) -> None:
    # As wide as it is: ids and addresses cut to fit a terminal would be of no use.
    Console(width=_WIDTH, markup=False, highlight=False, emoji=False, soft_wrap=True).print(table)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))
