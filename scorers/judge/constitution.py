"""A judge's constitution: what it judges by, as an operator writes it down in a YAML file.

order: [platform, developer, user]        whose principle decides where two conflict, the highest first
principles:
  - id: honest
    authority: platform                   whose principle it is
    statement: What it states is true as far as one can know.
    examples:                             none, or some, each good or bad
      - bad: Names a paper that does not exist.
        why: It is made up.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from scorers.model_path import LoadError
from scorers.settings import Section

BUILT_IN = Path(__file__).with_name("constitution.yaml")

Authority = Literal["platform", "developer", "user"]
_AUTHORITIES: tuple[str, ...] = get_args(Authority)
_Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
# Every verdict reads all of it: a principle that needs more room is several.
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class Example(Section):
    """Something an answer could do: good or bad, and why."""

    good: _Text | None = None
    bad: _Text | None = None
    why: _Text

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.good is None) == (self.bad is None):
            raise ValueError("an example has either good or bad")
        return self


class Principle(Section):
    """One thing that makes an answer better or worse, and whose word it is."""

    id: _Id
    authority: Authority
    statement: _Text
    examples: list[Example] = Field([], max_length=8)


class Constitution(Section):
    """Principles, and the order of authority between them."""

    order: list[Authority]
    principles: list[Principle] = Field(min_length=1, max_length=64)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if sorted(self.order) != sorted(_AUTHORITIES):
            raise ValueError(f"order must name each of {', '.join(_AUTHORITIES)} once, the highest first")
        seen: set[str] = set()
        for principle in self.principles:
            if principle.id in seen:
                raise ValueError(f"two principles have the id {principle.id!r}")
            seen.add(principle.id)
        return self

    def ranked(self) -> list[Principle]:
        """The principles, those of the highest authority first, else as they stand in the file."""
        return sorted(self.principles, key=lambda principle: self.order.index(principle.authority))


def read_constitution(path: Path | None) -> Constitution:
    """The file, or the built-in one. Raises LoadError naming the file and the field."""
    path = BUILT_IN if path is None else path.expanduser()
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LoadError(f"There is no constitution {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"The constitution {path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark else ""
        raise LoadError(f"The constitution {path} is not valid YAML{where}.") from None
    if not isinstance(data, dict):
        raise LoadError(f"The constitution {path} must hold two keys, order and principles.")
    try:
        return Constitution.model_validate(data)
    except ValidationError as error:
        mistakes = "; ".join(_explain(one) for one in error.errors())
        raise LoadError(f"The constitution {path} cannot be used: {mistakes}.") from None


def _explain(error: Any) -> str:
    """One mistake: where it is, as one would write it, and what it is."""
    where = _location(error["loc"])
    match error["type"]:
        case "extra_forbidden":
            what = "there is no such key"
        case "missing":
            what = "it is missing"
        case "literal_error":
            what = f"there is no authority {error['input']!r}; there is {', '.join(_AUTHORITIES)}"
        case _:
            message = str(error["msg"]).removeprefix("Value error, ")
            what = message[0].lower() + message[1:]
    return f"{where}: {what}" if where else what


def _location(parts: Sequence[str | int]) -> str:
    written = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return written.removeprefix(".")
