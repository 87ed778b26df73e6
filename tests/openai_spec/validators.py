"""Strict checks of what we answer: against OpenAI's published description, and against the openai package's types.

Strict means: null only where the schema allows it, required fields there, types right. More fields than the schema
names (`guidance`, `reasoning`, `token_ids`, ...) are fine unless it forbids them.
"""

import json
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import jsonschema_rs
from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

_DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parent / "schemas.json").read_bytes())
NAMES = frozenset(_DOCUMENT["$defs"])
_TELLS_APART = ("type", "object", "role", "event")


def validate(name: str, value: Any) -> None:
    """Raises AssertionError, with each place and reason, where `value` does not keep OpenAI's schema `name`."""
    broken = [_within(error) for error in _validator(name).iter_errors(_as_json(value))]
    if broken:
        raise AssertionError("; ".join(f"{name}{_place(error)}: {error.message[:200]}" for error in broken))


def _place(error: jsonschema_rs.ValidationError) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)


def strict_model(cls: type[T], value: Any) -> T:
    """`value` as the openai package's type `cls`, read strictly: that package itself takes anything that it is sent.

    Raises AssertionError with each place and reason.
    """
    try:
        read: T = _adapter(cast(Hashable, cls)).validate_json(json.dumps(value), strict=True)
        return read
    except ValidationError as error:
        broken = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise AssertionError(f"{getattr(cls, '__name__', cls)}: " + "; ".join(broken[:5])) from None


def _as_json(value: Any) -> Any:
    """What a client would read; raises ValueError for what JSON cannot say (NaN)."""
    return json.loads(json.dumps(value, allow_nan=False))


@cache
def _validator(name: str) -> jsonschema_rs.Validator:
    if name not in NAMES:
        raise KeyError(f"tests/openai_spec/schemas.json has no {name}")
    return jsonschema_rs.validator_for({**_DOCUMENT, "$ref": f"#/$defs/{name}"}, offline=True)


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _within(error: jsonschema_rs.ValidationError) -> jsonschema_rs.ValidationError:
    """Of several alternatives, the first mistake in the one that the value claims to be."""
    branches: list[list[jsonschema_rs.ValidationError]] = getattr(error.kind, "context", [])
    depth = len(error.instance_path)
    claimed = [branch for branch in branches if branch and not any(_another_kind(one, depth) for one in branch)]
    return _within(claimed[0][0]) if len(claimed) == 1 else error


def _another_kind(error: jsonschema_rs.ValidationError, depth: int) -> bool:
    """Whether it says that the value at `depth` is of another kind than this branch: another `type`, or no object."""
    below = error.instance_path[depth:]
    if not below:
        return type(error.kind).__name__.endswith("Type")
    return len(below) == 1 and below[0] in _TELLS_APART
