"""The example configuration, generated: every key with its sentence, type and bounds, the demo's values filled in."""

import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config import Config

WIDTH = 116
HEAD = """\
The configuration of Bestow: what its parts are and where. Every key is here, with its default or, below policies,
scorers, profiles and models, with the demo's value. Leave out what you do not change. Written by `make config`.

  bestow up --config FILE       start it; what has no address is started on this machine
  bestow config check FILE      whether it is right
  bestow doctor --config FILE   whether all that it names is there, and works"""
PLAIN = {Any: "value", str: "text", int: "whole number", float: "number", bool: "true or false"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def example(config: Config) -> str:
    """The whole file as YAML; loading it gives the configuration back."""
    lines = [*_comment(HEAD, ""), ""]
    for name, field in Config.model_fields.items():
        lines += [*_field(name, field, getattr(config, name), ""), ""]
    return "\n".join(lines).rstrip() + "\n"


def _field(name: str, field: FieldInfo, value: Any, indent: str) -> Iterator[str]:
    """The lines of one key: its comment, then its value."""
    yield from _comment(f"{field.description} ({kind(field)})" if kind(field) else str(field.description), indent)
    if isinstance(value, BaseModel):
        yield f"{indent}{name}:"
        yield from section_lines(value, indent + "  ")
    elif isinstance(value, dict) and _section_in(field.annotation):
        yield f"{indent}{name}:" if value else f"{indent}{name}: {{}}"
        for position, (key, entry) in enumerate(value.items()):
            yield f"{indent}  {key}:"
            # The first entry teaches; the others only differ.
            yield from section_lines(entry, indent + "    ") if position == 0 else _short(entry, indent + "    ")
    else:
        yield f"{indent}{name}: {_value(value)}"
        if isinstance(value, list) and (section := _section_in(field.annotation)):
            yield from _comment("an entry of it:", indent)
            for key, one in section.model_fields.items():
                yield f"{indent}#   - {key}: ...   {one.description}"
        if value is None and (section := _section_in(field.annotation)):
            yield from _comment("keys of it:", indent)
            for key, one in section.model_fields.items():
                yield f"{indent}#   {key}: ...   {one.description}"


def section_lines(section: BaseModel, indent: str) -> Iterator[str]:
    """Its keys, each with its comment."""
    for name, field in type(section).model_fields.items():
        yield from _field(name, field, getattr(section, name), indent)


def _short(section: BaseModel, indent: str) -> Iterator[str]:
    for line in yaml.safe_dump(section.model_dump(mode="json", exclude_defaults=True), sort_keys=False).splitlines():
        yield indent + line


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in text.splitlines():
        # Lines that begin with a space are set by hand.
        for part in [line] if line.startswith(" ") else textwrap.wrap(line, WIDTH - len(indent)) or [""]:
            yield f"{indent}# {part}".rstrip()


def _value(value: Any) -> str:
    plain = value if isinstance(value, str | int | float | bool | list | dict | NoneType) else str(value)
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def kind(field: FieldInfo) -> str:
    """Type and bounds in words; nothing for sections."""
    if _section_in(field.annotation):
        return ""
    bounds = [
        f"{words} {getattr(one, bound):g}"
        for one in field.metadata
        for bound, words in BOUNDS.items()
        if getattr(one, bound, None) is not None
    ]
    return ", ".join([_type(field.annotation), *bounds])


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(str(one) for one in inner)
    if origin in (Union, UnionType):
        return " or ".join("empty" if one is NoneType else _type(one) for one in inner)
    if origin is list:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"{_type(inner[0])}: {_type(inner[1])}"
    if hasattr(annotation, "__metadata__"):
        return _type(inner[0])
    return PLAIN.get(annotation, "path")


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a type is or holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if found := _section_in(inner):
            return found
    return None
