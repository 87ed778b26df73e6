"""What `bestow doctor` finds, and how it is shown."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]
STYLES: dict[Level, str] = {"ok": "green", "warning": "yellow", "problem": "red"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `mend` says how to put it right."""

    what: str
    level: Level
    text: str
    mend: str | None = None


def ok(what: str, text: str) -> Finding:
    return Finding(what, "ok", text)


def warning(what: str, text: str, mend: str | None = None) -> Finding:
    return Finding(what, "warning", text, mend)


def problem(what: str, text: str, mend: str | None = None) -> Finding:
    return Finding(what, "problem", text, mend)


def as_json(findings: Iterable[Finding]) -> str:
    return json.dumps([dataclasses.asdict(one) for one in findings], indent=2)


def worst(findings: Iterable[Finding]) -> Level:
    levels = {one.level for one in findings}
    return "problem" if "problem" in levels else "warning" if "warning" in levels else "ok"
