"""References: policy:name@N, reward_model:name@N, release:N."""

import re
from typing import NamedTuple, get_args

from training.errors import TrainingError
from training.registry.layout import FOLDERS, Kind

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_LABEL = re.compile(rf"({_NAME})@([1-9][0-9]{{0,8}})")


class Ref(NamedTuple):
    kind: Kind
    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}@{self.number}"

    @property
    def place(self) -> str:
        """Its folder in the registry."""
        return f"{FOLDERS[self.kind]}/{self.name}@{self.number}"


def parse_ref(text: str) -> Ref:
    """Raises TrainingError where it names no version."""
    kind, _, label = text.rpartition(":")
    parts = _LABEL.fullmatch(label)
    for known in get_args(Kind):
        if kind == known and parts:
            return Ref(known, parts[1], int(parts[2]))
    raise TrainingError(f"{text!r} names no version: write policy:NAME@N or reward_model:NAME@N.")


def parse_label(text: str) -> tuple[str, int] | None:
    """name@N; None where it is none."""
    parts = _LABEL.fullmatch(text)
    return (parts[1], int(parts[2])) if parts else None


def check_name(name: str) -> None:
    """Raises TrainingError."""
    if not re.fullmatch(_NAME, name):
        raise TrainingError(
            f"{name!r} is no name for a version: letters, digits, dots, dashes and underscores, such as demo-policy."
        )
