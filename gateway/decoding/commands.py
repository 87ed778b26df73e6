"""`bestow strategies`: what a profile's `strategy` may name, and the options of each. Of this Python installation."""

import textwrap
from collections.abc import Mapping
from typing import Annotated, Any

import typer
import yaml
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python
from rich.table import Table

from gateway.decoding.registry import Installed, installed
from gateway.decoding.strategy import Need, Strategy
from gateway.launch.example import kind
from gateway.shared.command_line import JsonOption, plain, print_json, print_table

NEEDS: dict[Need, str] = {
    "reward": "a reward: the profile names a scorer that ranks",
    "partial": "a reward that can read the beginning of an answer",
    "steps": "a reward of kind process, which scores steps",
}

strategies_app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@strategies_app.command()
def strategies(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One of them, with its options.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the strategies that are installed here, or show one with its options.

    \b
      bestow strategies
      bestow strategies vote
      bestow profile set default strategy=vote 'options={extract: boxed}'

    Other packages add theirs: docs/strategies.md says how.
    """
    found = installed()
    if name is not None:
        found = [one for one in found if one.name == name]
        if not found:
            known = ", ".join(one.name for one in installed())
            raise typer.BadParameter(f"there is no strategy {name!r} (there is {known})")
    if as_json:
        print_json([described(one) for one in found])
    elif name is not None:
        _show(found[0])
    else:
        _list(found)


def described(one: Installed) -> dict[str, Any]:
    """What there is to know of it, for programs."""
    about = one.strategy
    return {
        "name": one.name,
        "package": one.package,
        "about": about.about if about else None,
        "needs": sorted(about.needs) if about else [],
        "streams": about.streams if about else False,
        "options": {name: _option(field) for name, field in about.options.model_fields.items()} if about else {},
        "reason": one.reason,
    }


def _option(field: FieldInfo) -> Mapping[str, Any]:
    required = field.is_required()
    return {"type": kind(field), "required": required, "default": _default_of(field), "about": field.description or ""}


def _list(found: list[Installed]) -> None:
    table = Table("NAME", "FROM", "ABOUT", box=None, pad_edge=False)
    for one in found:
        table.add_row(one.name, one.package or "built in", plain(one.strategy.about) if one.strategy else "-")
    print_table(table)
    for one in found:
        if one.reason:
            print(plain(one.reason))


def _show(one: Installed) -> None:
    if one.strategy is None:
        print(plain(one.reason or ""))
        raise typer.Exit(1)
    print(f"{one.name} ({one.package or 'built in'}): {plain(one.strategy.about)}")
    for line in _facts(one.strategy):
        print(f"  {line}")
    fields = one.strategy.options.model_fields
    print("Options:" if fields else "It has no options.")
    for name, field in fields.items():
        print(f"  {name}   {kind(field)}; {_default(field)}")
        print(textwrap.indent(textwrap.fill(plain(field.description or ""), 100), "      "))


def _facts(strategy: Strategy) -> list[str]:
    needs = [f"needs {NEEDS[need]}" for need in sorted(strategy.needs)]
    return [*needs, *(["streams each block as it is chosen (stream_mode: block)"] if strategy.streams else [])]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    written: str = yaml.safe_dump(_default_of(field), default_flow_style=True)
    return "default " + written.removesuffix("...\n").strip()


def _default_of(field: FieldInfo) -> Any:
    return to_jsonable_python(None if field.is_required() else field.get_default(call_default_factory=True))
